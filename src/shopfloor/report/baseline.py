"""The runs that an experiment's other conditions are compared with."""

from __future__ import annotations

from typing import Any

import pandas as pd


def baseline_condition(metrics: pd.DataFrame) -> str:
    """``clean`` where there is such a training, otherwise the first condition of the table."""
    conditions = list(metrics["condition"].unique())
    return "clean" if "clean" in conditions or not conditions else str(conditions[0])


def rows_of(metrics: pd.DataFrame, wanted: dict[str, Any]) -> pd.DataFrame:
    """The lines in which each named column has the wanted value."""
    return metrics[(metrics[list(wanted)] == pd.Series(wanted)).all(axis="columns")]
