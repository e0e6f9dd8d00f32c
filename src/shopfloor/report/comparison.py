"""Tables that hold an experiment's conditions side by side, one column each (protocol 4.2 to 4.7).

All have the same form: one line per dataset (and their mean, where there are several), detector and metric; in the
columns of the conditions the mean over seeds, a fraction, each with a column ``<name>_sd``; ``status``,
``not_available`` and ``missing`` as in :mod:`shopfloor.report.tables`. A table is empty where the experiment has
nothing to compare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from shopfloor.report.tables import dataset_table, mean_table, present_metrics

MEAN_OVER_DATASETS = "mean over datasets"
NOISE_METRICS = ("image_auroc", "image_pg2", "image_pb2", "pixel_aupro")
"""The metrics of the noisy-label and the drift tables (protocol 4.3 and 4.5)."""
SIZE_METRICS = ("image_auroc", "pixel_f1max", "image_pg2")
"""The metrics of the input-size tables (protocol 4.2)."""
STOPPING_METRICS = ("image_auroc", "image_f1max")
"""The metrics of the validation table (protocol 4.7)."""

_NOISE_LEVEL = re.compile(r"noise_(\d+(?:\.\d+)?)")
_KEYS = ["dataset", "detector", "image_size", "condition", "test_set"]
_OTHER_TEST_SETS = ("full", "common", "drift")

Selection = Mapping[str, Any]
"""Values of ``image_size``, ``condition`` and ``test_set`` that make a column."""


def noise_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics against the share of mislabelled training images (protocol 4.5).

    Args:
        metrics: As for `shopfloor.report.tables.category_table`.

    Returns:
        Columns ``clean``, ``noise_4``, ... hold the value on the own test set of each level, ``clean_same_test``,
        ``noise_4_same_test``, ... on the test set that the largest level leaves, the same images for all levels.
    """
    levels = noise_levels(metrics)
    noisy = metrics[metrics["condition"].isin(levels)]
    chosen = metrics[
        metrics["condition"].isin(["clean", *levels])
        & metrics["dataset"].isin(noisy["dataset"])
        & metrics["detector"].isin(noisy["detector"])
        & metrics["test_set"].str.match("full$|common_")
    ]
    own = {level: {"condition": level, "test_set": "full"} for level in ("clean", *levels)}
    same = {f"{level}_same_test": {"condition": level, "test_set": "common"} for level in own}
    return _compare(chosen, {**own, **same} if levels else {}, NOISE_METRICS)


def noise_levels(metrics: pd.DataFrame) -> list[str]:
    """The conditions ``noise_<percent>`` of the table, in ascending order."""
    found = {str(name) for name in metrics["condition"].unique() if _NOISE_LEVEL.fullmatch(str(name))}
    return sorted(found, key=noise_percent)


def noise_percent(condition: str) -> float:
    """Share of mislabelled training images that a condition names, in percent; 0 for ``clean``."""
    level = _NOISE_LEVEL.fullmatch(condition)
    return float(level.group(1)) if level else 0.0


def size_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics against the input size (protocol 4.2); columns ``128``, ``256``, ... pixels."""
    sizes = sorted(metrics["image_size"].unique())
    columns = {str(size): {"image_size": size} for size in sizes} if len(sizes) > 1 else {}
    return _compare(metrics, columns, SIZE_METRICS)


def drift_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics on test images as they are and drifted (protocol 4.3); columns ``no_drift`` and ``drift``."""
    drifted = metrics[metrics["test_set"].str.startswith("drift_")]
    chosen = metrics[metrics["dataset"].isin(drifted["dataset"]) & metrics["test_set"].str.match("full$|drift_")]
    columns = {"no_drift": {"test_set": "full"}, "drift": {"test_set": "drift"}}
    return _compare(chosen, columns if len(drifted) else {}, NOISE_METRICS)


def domain_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics on the domains of a dataset with natural drift (protocol 4.4); one column per test set of domains."""
    test_sets = [name for name in metrics["test_set"].unique() if not re.match("|".join(_OTHER_TEST_SETS), name)]
    chosen = metrics[metrics["test_set"].isin(test_sets)]
    return _compare(chosen, {name: {"test_set": name} for name in test_sets}, NOISE_METRICS)


def stopping_table(metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Metrics and epochs under each rule of stopping (protocol 4.7).

    Args:
        metrics: As for `shopfloor.report.tables.category_table`.
        costs: One line per training with ``stopped_epoch`` and ``best_epoch``.

    Returns:
        One line per dataset, detector and rule (``condition``): `STOPPING_METRICS`, ``stopped_epoch`` (epochs trained)
        and ``best_epoch`` (on the held-out images; the tested state, except at full length, where the last is tested),
        means over categories and seeds. Empty without a held-out part.
    """
    table = dataset_table(metrics)
    keys = ["dataset", "detector", "image_size", "condition"]
    watched = costs.reindex(columns=[*keys, "stopped_epoch", "best_epoch"]).dropna(subset=["stopped_epoch"])
    table = table[table["condition"].isin(watched["condition"])]
    epochs = watched.groupby(keys, sort=False)[["stopped_epoch", "best_epoch"]].mean().reset_index()
    shown = [name for metric in STOPPING_METRICS for name in (metric, f"{metric}_sd") if name in table]
    rest = ["seeds", "status", "not_available", "missing"]
    return table[[*keys, *shown, *rest]].merge(epochs, on=keys, how="left")


def _compare(metrics: pd.DataFrame, columns: Mapping[str, Selection], shown: Sequence[str]) -> pd.DataFrame:
    """Put the conditions that the columns select side by side; lines differ in whatever no column selects by."""
    selected_by = list(dict.fromkeys(key for selection in columns.values() for key in selection))
    keys = [key for key in _KEYS if key not in selected_by]
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
    line["status"] = next((kind for kind in ("incomplete", "failed", "missing") if kind in kinds), "ok")
    return line | {"not_available": " ".join(not_available), "missing": "; ".join(missing)}
