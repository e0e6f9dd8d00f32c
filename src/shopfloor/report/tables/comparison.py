"""Tables that hold an experiment's conditions side by side, one column each (protocol 4.2 to 4.7).

All have the same form: one line per dataset (and their mean, where there are several), detector and metric; in the
columns of the conditions the mean over seeds, a fraction, each with a column ``<name>_sd``; ``status``,
``not_available`` and ``missing`` as in :mod:`shopfloor.report.tables.value_tables`. A table is empty where the
experiment has nothing to compare.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from shopfloor.report.tables.value_tables import HOLES, dataset_table, mean_table, present_metrics

MEAN_OVER_DATASETS = "mean over datasets"
LINE = ["dataset", "detector"]
TRAINING = ["condition", "condition_kind"]
TEST_SET = ["test_set", "test_set_kind"]
"""Columns that tell the lines of a comparison apart, as far as it does not put them side by side."""

Selection = Mapping[str, Any]
"""Values of a value table's columns that make a column here."""

_Source = Mapping[Hashable, Any]


def compare(
    metrics: pd.DataFrame, columns: Mapping[str, Selection], shown: Sequence[str], keys: list[str]
) -> pd.DataFrame:
    """Put the conditions that some columns select side by side.

    Args:
        metrics: As for :func:`shopfloor.report.tables.value_tables.category_table`.
        columns: What each column of the comparison holds, by its name.
        shown: The metrics to compare.
        keys: Names of the columns in which lines differ.

    Returns:
        A table of this module; empty where there is nothing to compare.
    """
    chosen = metrics[metrics["metric"].isin(shown)]
    lines: list[dict[str, Any]] = []
    if columns and len(chosen):
        means = dataset_table(chosen)
        if chosen["dataset"].nunique() > 1:
            means = pd.concat([means, mean_table(chosen).assign(dataset=MEAN_OVER_DATASETS)], ignore_index=True)
        groups: dict[tuple[Any, ...], list[_Source]] = {}
        for line in means.to_dict("records"):
            groups.setdefault(tuple(line[key] for key in keys), []).append(line)
        compared = present_metrics(chosen)
        for key, group in groups.items():
            by_column = {
                name: next((line for line in group if _is_selected(line, selection)), None)
                for name, selection in columns.items()
            }
            names = dict(zip(keys, key, strict=True))
            lines += [{**names, **_line(metric, by_column)} for metric in compared]
    values = [name for column in columns for name in (column, f"{column}_sd")]
    return pd.DataFrame(lines, columns=[*keys, "metric", *values, "status", "not_available", "missing"])


def _is_selected(line: _Source, selection: Selection) -> bool:
    return all(line[key] == value for key, value in selection.items())


def _line(metric: str, by_column: Mapping[str, _Source | None]) -> dict[str, Any]:
    line: dict[str, Any] = {"metric": metric}
    not_available, kinds, missing = [], set(), []
    for column, source in by_column.items():
        if source is None:
            line |= {column: np.nan, f"{column}_sd": np.nan}
            kinds.add("missing")
            missing.append(f"{column}: not in the grid")
            continue
        line |= {column: source[metric], f"{column}_sd": source[f"{metric}_sd"]}
        if metric in source["not_available"].split():
            not_available.append(column)
        elif np.isnan(source[metric]):
            kinds.add(source["status"])
            missing.append(f"{column}: {source['missing']}")
    line["status"] = next((kind for kind in ("incomplete", *HOLES) if kind in kinds), "ok")
    return line | {"not_available": " ".join(not_available), "missing": "; ".join(missing)}
