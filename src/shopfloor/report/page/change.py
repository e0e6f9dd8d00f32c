"""How much drift, wrong labels or another input size change the detectors."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from shopfloor.report.tables.comparison import MEAN_OVER_DATASETS

Changes = dict[str, dict[str, float | None]]


class Change(NamedTuple):
    """What an experiment changes.

    Attributes:
        label: What it is, e.g. ``AUROC change, drift``.
        table: The comparison that holds the values, as of :mod:`shopfloor.report.tables.comparison`.
        before: Column of the values without the change.
        after: Column of the values with it.
    """

    label: str
    table: pd.DataFrame
    before: str
    after: str


def points_of(change: Change | None) -> Changes:
    """Give the points of image AUROC that a change costs, mean over datasets.

    Args:
        change: The change; None for an experiment that changes nothing of the kind, or has no level of it.

    Returns:
        By detector one number under the label of the change; None stands for a hole.
    """
    if change is None:
        return {}
    lines = change.table[change.table["metric"] == "image_auroc"]
    if (lines["dataset"] == MEAN_OVER_DATASETS).any():
        lines = lines[lines["dataset"] == MEAN_OVER_DATASETS]
    found: Changes = {}
    for line in lines.drop_duplicates("detector").to_dict("records"):
        points = 100 * (line[change.after] - line[change.before])
        found[str(line["detector"])] = {change.label: None if pd.isna(points) else float(points)}
    return found


def change_sentence(change: Change | None) -> str:
    """Say which detector a change hurts least and which most; empty where there is none to compare."""
    found = points_of(change)
    points = {detector: value for detector, numbers in found.items() for value in numbers.values() if value is not None}
    if change is None or not points:
        return ""
    holes = f" ({len(found) - len(points)} not known)" if len(points) < len(found) else ""
    least, most = max(points, key=points.__getitem__), min(points, key=points.__getitem__)
    said = f"{change.label}{holes}: {points[least]:+.1f} points with {least}"
    return f"{said}." if len(points) == 1 else f"{said}, the steadiest, {points[most]:+.1f} with {most}."
