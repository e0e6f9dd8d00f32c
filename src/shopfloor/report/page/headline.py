"""The answer of a run in one sentence."""

from __future__ import annotations

import pandas as pd

from shopfloor.report.statistics.uncertainty import leader
from shopfloor.report.tables.baseline import baseline_of
from shopfloor.report.tables.value_tables import CellCount, display_cells


def headline(metrics: pd.DataFrame, mean_table: pd.DataFrame, count: CellCount) -> str:
    """Give the answer in one sentence: best mean image AUROC, and how much of the grid is there.

    Args:
        metrics: All metrics of the experiment.
        mean_table: Means over the datasets.
        count: How many cells were planned, and what became of them.
    """
    later = {"outdated": count.outdated, "missing": count.missing}
    cells = f"{count.finished} of {count.planned} cells finished, {count.failed} failed"
    cells += "".join(f", {number} {hole}" for hole, number in later.items() if number) + "."
    baseline = baseline_of(metrics)
    table = baseline.rows_of(mean_table).reset_index(drop=True)
    if "image_auroc" not in table or table["image_auroc"].isna().all():
        return f"No detector has a complete set of image AUROC values; {cells}"
    printed = [cells_of_line["image_auroc"].text for cells_of_line in display_cells(table, ["image_auroc"])]
    best = printed[int(table["image_auroc"].argmax())]
    winners = table[[text == best for text in printed]]
    names = " and ".join(f"{line.detector} ({line.image_size} px)" for line in winners.itertuples())
    over = _mean_over(metrics, int(table["datasets"].iloc[0]))
    training = "clean training data" if baseline.kind == "clean" else f"training condition {baseline.condition}"
    unranked = [f"{line.detector} ({line.image_size} px)" for line in table[table["image_auroc"].isna()].itertuples()]
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
        mean_intervals: As `shopfloor.report.statistics.uncertainty.certainty_tables` makes them.
        differences: As `shopfloor.report.statistics.uncertainty.certainty_tables` makes them.
    """
    means = mean_intervals[mean_intervals["metric"] == "image_auroc"].dropna(subset=["value"])
    if means.empty:
        return "How sure: no interval could be computed."
    size = int(means.sort_values("value", ascending=False)["image_size"].iloc[0])
    best = leader(mean_intervals, differences, "image_auroc", size)
    assert best is not None  # `means` has one
    known = f"{100 * best.value:.1f} % ({100 * best.low:.1f} to {100 * best.high:.1f} over other test images)"
    if not best.inside_noise and not best.behind:
        return f"How sure: {best.detector} has {known}; it was compared with no other detector."
    if not best.inside_noise:
        return f"How sure: {best.detector} has {known}, ahead of the others by more than the noise of the test images."
    which = " and ".join(best.inside_noise) if best.behind or len(best.inside_noise) == 1 else "all others"
    return f"How sure: {best.detector} has {known}; the difference to {which} lies inside the noise of the test images."
