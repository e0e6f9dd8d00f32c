"""The runs that an experiment's other conditions are compared with."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from shopfloor.planning.cell import CLEAN_KINDS


class Baseline(NamedTuple):
    """The training that others are compared with.

    Attributes:
        condition: Its name.
        kind: Its kind, as `training_kind` gives it.
    """

    condition: str
    kind: str

    def rows_of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The lines of this training on the full test set."""
        is_baseline = (table["condition"] == self.condition) & (training_kind(table) == self.kind)
        return table[is_baseline & (table["test_set_kind"] == "full")]


def baseline_of(metrics: pd.DataFrame) -> Baseline:
    """The first clean training of the table, or its first training where none is clean."""
    known = metrics[["condition"]].assign(kind=training_kind(metrics))
    clean = known[known["kind"] == "clean"]
    first = (clean if len(clean) else known).head(1)
    return Baseline(*first.iloc[0]) if len(first) else Baseline("clean", "clean")


def training_kind(table: pd.DataFrame) -> pd.Series:
    """Kind of each line's condition; a training on a share of the good images counts as clean."""
    return table["condition_kind"].mask(table["condition_kind"].isin(CLEAN_KINDS), "clean")


def rows_of(metrics: pd.DataFrame, wanted: dict[str, Any]) -> pd.DataFrame:
    """The lines in which each named column has the wanted value."""
    return metrics[(metrics[list(wanted)] == pd.Series(wanted)).all(axis="columns")]
