"""How much drift, wrong labels or another input size change the detectors."""

from __future__ import annotations

import pandas as pd

from shopfloor.report.tables.comparison import (
    MEAN_OVER_DATASETS,
    drift_table,
    noise_levels,
    noise_table,
    size_table,
)

Changes = dict[str, dict[str, float | None]]


def changes(experiment: str, metrics: pd.DataFrame) -> Changes:
    """Points of image AUROC that the experiment's own change costs, mean over datasets.

    Args:
        experiment: Name of the pipeline.
        metrics: All metrics of the experiment.

    Returns:
        By detector one number under the label of the change; None stands for a hole. Nothing for an experiment that
        changes nothing of the kind, or has no level of it.
    """
    if metrics.empty:
        return {}
    if experiment == "data_drift":
        return _change(drift_table(metrics), "no_drift", "drift", "AUROC change, drift")
    if experiment == "noisy_labels":
        return _noise_change(metrics)
    return _size_change(metrics) if experiment == "input_size" else {}


def change_sentence(experiment: str, metrics: pd.DataFrame) -> str:
    """Which detector the change hurts least and which most, in one sentence; empty where there is none to compare."""
    found = changes(experiment, metrics)
    points = {detector: value for detector, numbers in found.items() for value in numbers.values() if value is not None}
    if not points:
        return ""
    (label,) = {label for numbers in found.values() for label in numbers}
    holes = f" ({len(found) - len(points)} not known)" if len(points) < len(found) else ""
    least, most = max(points, key=points.__getitem__), min(points, key=points.__getitem__)
    if len(points) == 1:
        return f"{label}{holes}: {points[least]:+.1f} points with {least}."
    return f"{label}{holes}: {points[least]:+.1f} points with {least}, the steadiest, {points[most]:+.1f} with {most}."


def _noise_change(metrics: pd.DataFrame) -> Changes:
    levels = noise_levels(metrics)
    if not levels:
        return {}
    clean, *_, largest = levels
    label = f"AUROC change, {largest.percent:g} % wrong labels"
    return _change(noise_table(metrics), clean.same_test, largest.same_test, label)


def _size_change(metrics: pd.DataFrame) -> Changes:
    sizes = sorted(metrics["image_size"].unique())
    if len(sizes) < 2:
        return {}
    label = f"AUROC change, {sizes[0]} to {sizes[-1]} px"
    return _change(size_table(metrics), str(sizes[0]), str(sizes[-1]), label)


def _change(table: pd.DataFrame, before: str, after: str, label: str) -> Changes:
    """The difference of two columns of a comparison."""
    lines = table[table["metric"] == "image_auroc"]
    if (lines["dataset"] == MEAN_OVER_DATASETS).any():
        lines = lines[lines["dataset"] == MEAN_OVER_DATASETS]
    found: Changes = {}
    for line in lines.drop_duplicates("detector").to_dict("records"):
        points = 100 * (line[after] - line[before])
        found[str(line["detector"])] = {label: None if pd.isna(points) else float(points)}
    return found
