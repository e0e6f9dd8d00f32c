"""Tables that hold an experiment's conditions side by side, one column each (protocol 4.2 to 4.7).

All have the same form: one line per dataset (and their mean, where there are several), detector and metric; in the
columns of the conditions the mean over seeds, a fraction, each with a column ``<name>_sd``; ``status``,
``not_available`` and ``missing`` as in :mod:`shopfloor.report.tables.value_tables`. A table is empty where the
experiment has nothing to compare.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from shopfloor.report.tables.baseline import rows_of
from shopfloor.report.tables.value_tables import HOLES, dataset_table, mean_table, present_metrics

MEAN_OVER_DATASETS = "mean over datasets"
LINE = ["dataset", "detector"]
TRAINING = ["condition", "condition_kind"]
TEST_SET = ["test_set", "test_set_kind"]
"""Columns that tell the lines of a comparison apart, as far as it does not put them side by side."""

Selection = Mapping[str, Any]
"""Values of a value table's columns that make a column here."""


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
    names = [*keys, "metric", *(name for column in columns for name in (column, f"{column}_sd"))]
    chosen = metrics[metrics["metric"].isin(shown)]
    if not columns or chosen.empty:
        return pd.DataFrame(columns=[*names, "status", "not_available", "missing"])
    means, compared = dataset_table(chosen), present_metrics(chosen)
    if chosen["dataset"].nunique() > 1:
        means = pd.concat([means, mean_table(chosen).assign(dataset=MEAN_OVER_DATASETS)], ignore_index=True)
    means["line"] = means.groupby(keys, sort=False).ngroup()
    lines = means[["line", *keys]].drop_duplicates("line").set_index("line")
    table = lines.merge(pd.Series(compared, name="metric"), how="cross")
    remarks: list[list[_Remark]] = []
    for column, selection in columns.items():
        selected = rows_of(means, dict(selection)).drop_duplicates("line").set_index("line").reindex(lines.index)
        for suffix in ("", "_sd"):
            table[column + suffix] = selected[[metric + suffix for metric in compared]].to_numpy(dtype=float).ravel()
        remarks.append([_remark(column, line, metric) for line in selected.to_dict("records") for metric in compared])
    by_line = list(zip(*remarks, strict=True))
    found = [{remark.kind for remark in line} for line in by_line]
    table["status"] = [next((kind for kind in ("incomplete", *HOLES) if kind in kinds), "ok") for kinds in found]
    table["not_available"] = [" ".join(each.not_available for each in line if each.not_available) for line in by_line]
    table["missing"] = ["; ".join(each.missing for each in line if each.missing) for line in by_line]
    return table


class _Remark(NamedTuple):
    """What a column adds to the status, ``not_available`` and ``missing`` of a line."""

    kind: str = ""
    not_available: str = ""
    missing: str = ""


def _remark(column: str, source: Mapping[Hashable, Any], metric: str) -> _Remark:
    if pd.isna(source["status"]):
        return _Remark("missing", missing=f"{column}: not in the grid")
    if metric in source["not_available"].split():
        return _Remark(not_available=column)
    if pd.isna(source[metric]):
        return _Remark(source["status"], missing=f"{column}: {source['missing']}")
    return _Remark()
