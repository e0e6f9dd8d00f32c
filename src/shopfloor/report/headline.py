"""The answer of a run in one sentence."""

from __future__ import annotations

import pandas as pd

from shopfloor.report.figures import baseline_condition
from shopfloor.report.tables import count_cells, display_cells, mean_table


def headline(metrics: pd.DataFrame) -> str:
    """The answer in one sentence: best mean image AUROC, and how much of the grid is there."""
    count = count_cells(metrics)
    cells = f"{count.finished} of {count.planned} cells finished, {count.failed} failed"
    cells += f", {count.missing} missing." if count.missing else "."
    condition = baseline_condition(metrics)
    table = mean_table(metrics)
    table = table[(table["condition"] == condition) & (table["test_set"] == "full")].reset_index(drop=True)
    if "image_auroc" not in table or table["image_auroc"].isna().all():
        return f"No detector has a complete set of image AUROC values; {cells}"
    printed = [cells_of_line["image_auroc"].text for cells_of_line in display_cells(table, ["image_auroc"])]
    best = printed[int(table["image_auroc"].argmax())]
    winners = table[[text == best for text in printed]]
    names = " and ".join(f"{line.detector} ({line.image_size} px)" for line in winners.itertuples())
    over = _mean_over(metrics, int(table["datasets"].iloc[0]))
    training = "clean training data" if condition == "clean" else f"training condition {condition}"
    unranked = list(dict.fromkeys(table.loc[table["image_auroc"].isna(), "detector"]))
    remark = f" Not ranked because their sets are incomplete: {', '.join(unranked)}." if unranked else ""
    return f"Best mean image AUROC: {best} % with {names}, {over}, {training}; {cells}{remark}"


def _mean_over(metrics: pd.DataFrame, datasets: int) -> str:
    categories = len(metrics[["dataset", "category"]].drop_duplicates())
    per_category = f"{categories} categor{'y' if categories == 1 else 'ies'}"
    if datasets == 1:
        return f"over {per_category} of {metrics['dataset'].iloc[0]}"
    return f"over {datasets} datasets ({per_category})"


def certainty(mean_intervals: pd.DataFrame, differences: pd.DataFrame) -> str:
    """How sure the answer is, in one sentence: the best mean's interval, and the detectors that may be as good.

    Args:
        mean_intervals: As `shopfloor.report.uncertainty` gives them: ``metric, image_size, detector, value, low,
            high``.
        differences: ``metric, image_size, detector_a, detector_b, difference, low, high, inside_noise``.
    """
    means = mean_intervals[mean_intervals["metric"] == "image_auroc"].dropna(subset=["value"])
    if means.empty:
        return "How sure: no interval could be computed."
    best = means.loc[means["value"].idxmax()]
    known = f"{100 * best['value']:.1f} % ({100 * best['low']:.1f} to {100 * best['high']:.1f} over other test images)"
    others = _others(best, differences)
    if others.empty:
        return f"How sure: {best['detector']} has {known}; it was compared with no other detector."
    close = others.loc[others["inside_noise"], "detector"]
    if close.empty:
        return (
            f"How sure: {best['detector']} has {known}, ahead of the others by more than the noise of the test images."
        )
    which = "all others" if len(close) == len(others) > 1 else " and ".join(close)
    return (
        f"How sure: {best['detector']} has {known}; the difference to {which} lies inside the noise of the test images."
    )


def _others(best: pd.Series, differences: pd.DataFrame) -> pd.DataFrame:
    """The detectors that the best was compared with at its image size, and whether they may be as good."""
    same = differences[(differences["metric"] == "image_auroc") & (differences["image_size"] == best["image_size"])]
    first, second = same["detector_a"] == best["detector"], same["detector_b"] == best["detector"]
    others = same.assign(detector=same["detector_b"].where(first, same["detector_a"]))
    return others.loc[first | second, ["detector", "inside_noise"]].sort_values("detector")
