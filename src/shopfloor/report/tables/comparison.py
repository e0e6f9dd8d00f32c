"""Tables that hold an experiment's conditions side by side, one column each (protocol 4.2 to 4.7).

All have the same form: one line per dataset (and their mean, where there are several), detector and metric; in the
columns of the conditions the mean over seeds, a fraction, each with a column ``<name>_sd``; ``status``,
``not_available`` and ``missing`` as in :mod:`shopfloor.report.tables.value_tables`. A table is empty where the
experiment has nothing to compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.report.tables.baseline import training_kind
from shopfloor.report.tables.value_tables import HOLES, dataset_table, mean_table, present_metrics

MEAN_OVER_DATASETS = "mean over datasets"
NOISE_METRICS = ("image_auroc", "image_pg2", "image_pb2", "pixel_aupro")
"""The metrics of the noisy-label and the drift tables (protocol 4.3 and 4.5)."""
SIZE_METRICS = ("image_auroc", "pixel_f1max", "image_pg2")
"""The metrics of the input-size tables (protocol 4.2)."""
STOPPING_METRICS = ("image_auroc", "image_f1max")
"""The metrics of the validation table (protocol 4.7)."""

_LINE = ["dataset", "detector"]
_TRAINING = ["condition", "condition_kind"]
_TEST_SET = ["test_set", "test_set_kind"]
_EPOCHS = ["stopped_epoch", "best_epoch"]

Selection = Mapping[str, Any]
"""Values of a value table's columns that make a column here."""


class NoiseLevel(NamedTuple):
    """A share of mislabelled training images.

    Attributes:
        condition: Name of the training condition; in `noise_table` that of the column of its own test set.
        percent: The share; 0 for clean training images.
    """

    condition: str
    percent: float

    @property
    def same_test(self) -> str:
        """The column of `noise_table` that holds the value on the test set that all levels share."""
        return f"{self.condition}_same_test"


def noise_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics against the share of mislabelled training images (protocol 4.5).

    Args:
        metrics: As for `shopfloor.report.tables.value_tables.category_table`.

    Returns:
        Columns ``clean``, ``noise_4``, ... hold the value on the own test set of each level, ``clean_same_test``,
        ``noise_4_same_test``, ... on the test set that the largest level leaves, the same images for all levels.
    """
    levels, noisy = noise_levels(metrics), metrics[metrics["condition_kind"] == "noise"]
    chosen = metrics[
        training_kind(metrics).isin(["clean", "noise"])
        & metrics["dataset"].isin(noisy["dataset"])
        & metrics["detector"].isin(noisy["detector"])
        & metrics["test_set_kind"].isin(["full", "common"])
    ]

    def trained_with(level: NoiseLevel) -> Selection:
        return {"condition": level.condition, "condition_kind": "noise" if level.percent else "clean"}

    own = {level.condition: {**trained_with(level), "test_set_kind": "full"} for level in levels}
    same = {level.same_test: {**trained_with(level), "test_set_kind": "common"} for level in levels}
    return _compare(chosen, {**own, **same}, NOISE_METRICS, [*_LINE, "image_size"])


def noise_levels(metrics: pd.DataFrame) -> list[NoiseLevel]:
    """Clean training and the shares of mislabelled images of the table, ascending; nothing without such a share."""
    noisy = metrics[metrics["condition_kind"] == "noise"]
    found = zip(noisy["condition"], noisy["condition_amount"].astype(float), strict=True)
    levels = [NoiseLevel(str(name), percent) for name, percent in dict.fromkeys(found)]
    return sorted([NoiseLevel("clean", 0.0), *levels], key=lambda level: level.percent) if levels else []


def size_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics against the input size (protocol 4.2); columns ``128``, ``256``, ... pixels."""
    sizes = sorted(metrics["image_size"].unique())
    columns = {str(size): {"image_size": size} for size in sizes} if len(sizes) > 1 else {}
    return _compare(metrics, columns, SIZE_METRICS, [*_LINE, *_TRAINING, *_TEST_SET])


def drift_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics on test images as they are and drifted (protocol 4.3); columns ``no_drift`` and ``drift``."""
    drifted = metrics[metrics["test_set_kind"] == "drift"]
    chosen = metrics[metrics["dataset"].isin(drifted["dataset"]) & metrics["test_set_kind"].isin(["full", "drift"])]
    columns = {"no_drift": {"test_set_kind": "full"}, "drift": {"test_set_kind": "drift"}}
    return _compare(chosen, columns if len(drifted) else {}, NOISE_METRICS, [*_LINE, "image_size", *_TRAINING])


def domain_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics on the domains of a dataset with natural drift (protocol 4.4); one column per test set of domains."""
    chosen = metrics[metrics["test_set_kind"] == "domains"]
    columns = {str(name): {"test_set": name} for name in chosen["test_set"].unique()}
    return _compare(chosen, columns, NOISE_METRICS, [*_LINE, "image_size", *_TRAINING])


def stopping_table(metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Metrics and epochs under each rule of stopping (protocol 4.7).

    Args:
        metrics: As for `shopfloor.report.tables.value_tables.category_table`.
        costs: One line per training with ``stopped_epoch`` and ``best_epoch``.

    Returns:
        One line per dataset, detector and rule (``condition``): `STOPPING_METRICS`, ``stopped_epoch`` (epochs trained)
        and ``best_epoch`` (on the held-out images; the tested state, except at full length, where the last is tested),
        means over categories and seeds, NaN where one of these is missing. Empty without a held-out part.
    """
    table = dataset_table(metrics)
    table = table[table["condition_kind"] == "holdout"]
    keys = [*_LINE, "image_size", *_TRAINING]
    known = costs.reindex(columns=[*keys, *_EPOCHS]).astype(dict.fromkeys(_EPOCHS, float))
    by_rule: Any = known.groupby(keys, sort=False)[_EPOCHS]
    epochs = by_rule.agg(lambda of: of.mean(skipna=False)).reset_index()
    shown = [name for metric in STOPPING_METRICS for name in (metric, f"{metric}_sd") if name in table]
    rest = ["seeds", "status", "not_available", "missing"]
    return table[[*keys, *shown, *rest]].merge(epochs, on=keys, how="left")


def _compare(
    metrics: pd.DataFrame, columns: Mapping[str, Selection], shown: Sequence[str], keys: list[str]
) -> pd.DataFrame:
    """Put the conditions that the columns select side by side; lines differ in the keys."""
    chosen = metrics[metrics["metric"].isin(shown)]
    lines: list[dict[str, Any]] = []
    if columns and len(chosen):
        means = dataset_table(chosen)
        if chosen["dataset"].nunique() > 1:
            means = pd.concat([means, mean_table(chosen).assign(dataset=MEAN_OVER_DATASETS)], ignore_index=True)
        for key, group in means.groupby(keys, sort=False):
            by_column = {
                name: next((line for _, line in group.iterrows() if _is_selected(line, selection)), None)
                for name, selection in columns.items()
            }
            names = dict(zip(keys, key, strict=True))
            lines += [{**names, **_line(metric, by_column)} for metric in present_metrics(chosen)]
    values = [name for column in columns for name in (column, f"{column}_sd")]
    return pd.DataFrame(lines, columns=[*keys, "metric", *values, "status", "not_available", "missing"])


def _is_selected(line: pd.Series, selection: Selection) -> bool:
    return all(line[key] == value for key, value in selection.items())


def _line(metric: str, by_column: Mapping[str, pd.Series | None]) -> dict[str, Any]:
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
        elif pd.isna(source[metric]):
            kinds.add(source["status"])
            missing.append(f"{column}: {source['missing']}")
    line["status"] = next((kind for kind in ("incomplete", *HOLES) if kind in kinds), "ok")
    return line | {"not_available": " ".join(not_available), "missing": "; ".join(missing)}
