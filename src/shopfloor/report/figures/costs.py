"""Draw what accuracy costs: image AUROC against time, memory and size, and which detectors no other beats in both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from shopfloor.metrics.entries import label_of
from shopfloor.report.figures.style import (
    CHARACTER_PIXELS,
    WIDTH,
    Chart,
    by_detector,
    empty_figure,
    finished,
    inline,
    one_line,
    tooltip,
)
from shopfloor.report.statistics.pareto import pareto_front
from shopfloor.report.tables.baseline import baseline_of, rows_of
from shopfloor.report.tables.value_tables import mean_table

COST_TITLES = {
    "predict_ms_per_image": "prediction time",
    "fit_seconds": "training time",
    "peak_memory_mb": "peak memory",
    "parameters": "number of parameters",
}
"""The costs that are drawn, in the order of the page."""

_AXES = {
    "predict_ms_per_image": "prediction per image, ms",
    "fit_seconds": "training time, s",
    "peak_memory_mb": "peak memory of the process, MB",
    "peak_gpu_memory_mb": "peak GPU memory, MB",
    "parameters": "parameters, millions",
}
_METRIC = "image_auroc"
_POINT = ["detector", "image_size"]
_RUN = ["dataset", "category", *_POINT, "condition", "seed"]
_PANEL_PIXELS = 300
_LEAST_DECADES = 0.25  # of the axis of costs
_FRONT = "Dashed: no other is both cheaper and better."


def cost_figures(metrics: pd.DataFrame, costs: pd.DataFrame, shown: Iterable[str]) -> tuple[Chart, ...]:
    """Draw image AUROC against each cost, one point per detector and image size; one panel per device.

    The AUROC is the mean over datasets (protocol 3) of the baseline condition on the full test set, the cost the median
    over the same runs, its bar from the least to the most. A dashed step line joins the points that no other beats in
    both; these are named beside it. Costs of different devices are never on one axis. Detectors that lack a part of
    the AUROC or of the costs are left out and named below.

    Args:
        metrics: As for `shopfloor.report.tables.value_tables.category_table`.
        costs: One line per run: its names, ``status``, ``device`` and the cost, NaN where the run failed.
        shown: Keys of `COST_TITLES`. For ``peak_memory_mb`` it is the memory of the GPU,
            ``peak_gpu_memory_mb``, where the run has it.
    """
    runs, detectors = baseline_runs(metrics, costs), list(metrics["detector"].unique())
    return tuple(_cost_figure(runs, detectors, cost) for cost in shown)


def _cost_figure(runs: pd.DataFrame, detectors: list[str], cost: str) -> Chart:
    import altair as alt

    points, left_out = cost_points(runs, cost)
    notes = [f"Left out: {', '.join(left_out)}."] if left_out else []
    if points.empty:
        return empty_figure(
            " ".join([f"No detector has {label_of(_METRIC)} and {COST_TITLES.get(cost, cost)}.", *notes])
        )
    shown = list(points["detector"].unique())
    looks = by_detector(detectors, shown, "color", "shape", "strokeDash")
    panels = []
    for names, of_panel in points.groupby(["device", "measure"], sort=False):
        device, measure = map(str, names)
        title = f"{_AXES[measure]} ({one_line(device)})" if device else _AXES[measure]
        panels.append(_panel(of_panel, measure, title, looks))
    return finished(alt.vconcat(*panels), legend=shown, notes=[_FRONT, *notes])


def baseline_runs(metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """List the runs of the baseline in the order of the mean table: its costs, ``value`` and ``name`` of its point.

    Args:
        metrics: As for `cost_figures`.
        costs: As there.
    """
    of_baseline = rows_of(baseline_of(metrics).rows_of(metrics), {"metric": _METRIC})
    means = mean_table(of_baseline).assign(name=lambda table: table["detector"].astype(str))
    if of_baseline["image_size"].nunique() > 1:
        means["name"] += ", " + means["image_size"].astype(str) + " px"
    means = means.reindex(columns=[*_POINT, "name", _METRIC]).rename(columns={_METRIC: "value"})
    known = of_baseline[_RUN].drop_duplicates().merge(costs[costs["status"] == "ok"], on=_RUN, how="left")
    return means.merge(known, on=_POINT)


def cost_points(runs: pd.DataFrame, cost: str) -> tuple[pd.DataFrame, list[str]]:
    """List the points of a figure and the detectors that have none.

    Args:
        runs: As `baseline_runs` makes them.
        cost: A key of `COST_TITLES`.

    Returns:
        One line per point: ``detector, image_size, device`` (empty for a cost that no device changes), ``measure`` (the
        column of the cost), ``value`` (mean image AUROC, a fraction), ``cost`` (median), ``low``, ``high``,
        ``on_front`` (among the points of its device), ``name``. And what is left out, each name with the reason.
    """
    lines, left_out = [], []
    for (*names, name), measured in _measured(runs, cost).groupby([*_POINT, "name"], sort=False):
        if reason := _why_left_out(measured):
            left_out.append(f"{name} ({reason})")
            continue
        values, first = measured["cost"], measured[["device", "measure", "value"]].iloc[0]
        lines.append((*names, *first, values.median(), values.min(), values.max(), name))
    columns = [*_POINT, "device", "measure", "value", "cost", "low", "high", "name"]
    points = pd.DataFrame(lines, columns=columns).astype(dict.fromkeys(["value", "cost", "low", "high"], float))
    points["on_front"] = False
    for _, group in points.groupby(["device", "measure"]):
        points.loc[group.index, "on_front"] = pareto_front(group["cost"], group["value"])
    return points, left_out


def _measured(runs: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Find the cost of each run, NaN where there is none, with the device and the column that it comes from."""
    found = runs.reindex(columns=list(dict.fromkeys([*_POINT, "name", "value", "device", cost, "peak_gpu_memory_mb"])))
    value, measure = found[cost].astype(float), pd.Series(cost, index=found.index)
    if cost == "peak_memory_mb":
        on_gpu = found["peak_gpu_memory_mb"].astype(float)
        value, measure = on_gpu.fillna(value), measure.mask(on_gpu.notna(), "peak_gpu_memory_mb")
    device = "" if cost == "parameters" else found["device"].fillna("unknown device").astype(str)
    return found.assign(cost=value / 1e6 if cost == "parameters" else value, device=device, measure=measure)


def _why_left_out(measured: pd.DataFrame) -> str:
    """Say why a point cannot be drawn; empty where it can."""
    if measured["value"].isna().any():
        return "no complete mean"
    if measured["cost"].isna().any():
        return "not measured in all runs"
    if len(measured[["device", "measure"]].drop_duplicates()) > 1:
        return "on several devices"
    return "" if (measured["cost"] > 0).all() else "a cost of 0"


def _panel(points: pd.DataFrame, measure: str, title: str, looks: dict[str, Any]) -> Any:
    """Draw the points of one device, with lines through the image sizes of a detector.

    Those on the front are named at the upper left, where no other point can be, sizes of others at the lower right.
    """
    import altair as alt

    several_sizes = bool(points["name"].ne(points["detector"]).any())
    sizes = points["image_size"].astype(str) + " px" if several_sizes else ""
    shown = points.assign(
        value=100 * points["value"],
        front=points["name"].where(points["on_front"], ""),
        other=pd.Series(sizes, index=points.index).mask(points["on_front"], ""),
    )
    x_ends, y_ends = _x_range(points), _y_range(points)
    x = alt.X(
        field="cost",
        type="quantitative",
        title=title,
        scale=alt.Scale(type="log", domain=x_ends, nice=False),
        axis=alt.Axis(format=",~g", tickCount=8, labelOverlap="greedy"),
    )
    y = alt.Y(
        field="value",
        type="quantitative",
        title=f"{label_of(_METRIC)}, %",
        scale=alt.Scale(domain=y_ends, nice=False, zero=False),
    )
    base = alt.Chart().encode(x=x, y=y)
    bars = base.mark_rule().encode(x=alt.X(field="low", type="quantitative"), x2="high", color=looks["color"])
    order = alt.Order(field="image_size", type="quantitative")
    line = base.mark_line(strokeWidth=1).encode(color=looks["color"], strokeDash=looks["strokeDash"], order=order)
    dots = base.mark_point(filled=True, size=100, opacity=1).encode(
        color=looks["color"],
        shape=looks["shape"],
        tooltip=tooltip(
            ("name", "detector"),
            ("value", y["title"], ".1f"),
            ("cost", _AXES[measure], ".3~r"),
            ("low", "from", ".3~r"),
            ("high", "to", ".3~r"),
        ),
    )
    named = base.mark_text(align="right", dx=-7, dy=-9).encode(text=alt.Text(field="front", type="nominal"))
    sized = base.mark_text(align="left", dx=7, dy=10).encode(text=alt.Text(field="other", type="nominal"))
    layers = [_front(shown, x, y, x_ends[1]), bars, *([line, sized] if several_sizes else []), dots, named]
    columns = ["detector", "name", "image_size", "cost", "low", "high", "value", "front", "other"]
    return alt.layer(*layers, data=inline(shown[columns])).properties(width=WIDTH, height=_PANEL_PIXELS)


def _front(points: pd.DataFrame, x: Any, y: Any, end: float) -> Any:
    """Draw steps through the front: at a cost, the best that can be had for it."""
    import altair as alt

    front = points[points["on_front"]].sort_values("cost", kind="stable")[["cost", "value"]]
    steps = pd.concat([front, front.tail(1).assign(cost=end)])
    line = alt.Chart(inline(steps)).mark_line(
        interpolate="step-after", strokeDash=[6, 4], strokeWidth=1.5, style="quiet", tooltip=None
    )
    return line.encode(x=x, y=y, order=alt.Order(field="cost", type="quantitative"))


def _x_range(points: pd.DataFrame) -> list[float]:
    """Choose the ends of the logarithmic axis; names stand to the left of their points."""
    low, high = np.log10(points["low"].min()), np.log10(points["high"].max())
    decades = max(high - low, _LEAST_DECADES)
    longest = points.loc[points["on_front"], "name"].map(len).max()
    for_names = min(CHARACTER_PIXELS * longest / WIDTH, 0.5)
    ends = low - (0.05 + for_names) * decades, high + 0.15 * decades
    return [float(f"{10**end:.6g}") for end in ends]


def _y_range(points: pd.DataFrame) -> list[float]:
    """Choose the ends of the other axis in percent; names stand above their points, sizes below."""
    low, high = 100 * points["value"].min(), 100 * points["value"].max()
    room = max(high - low, 5.0)
    return [float(f"{end:.6g}") for end in (low - 0.1 * room, high + 0.14 * room)]
