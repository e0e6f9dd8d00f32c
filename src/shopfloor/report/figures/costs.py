"""What accuracy costs: image AUROC against time, memory and size, with the detectors that no other beats in both."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shopfloor.metrics.entries import label_of
from shopfloor.report.figures.style import (
    PIXELS_PER_CHARACTER,
    TEXT_COLOUR,
    TEXT_PIXELS,
    axis,
    detector_styles,
    figure_layout,
    numbers,
    percent,
    safe,
)
from shopfloor.report.statistics.pareto import pareto_front
from shopfloor.report.tables.baseline import baseline_of, rows_of
from shopfloor.report.tables.value_tables import mean_table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

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
_FRONT = "no other is both cheaper and better"
_PANEL_PIXELS = 320
_NOTE_CHARACTERS = 44
_LINE_PIXELS = 16
_AXIS_PIXELS = 52  # ticks and title
_LEAST_DECADES = 0.25  # of a logarithmic axis
_WIDTH_PIXELS = 500  # of a panel, about


def cost_figure(metrics: pd.DataFrame, costs: pd.DataFrame, cost: str) -> Figure:
    """Image AUROC against a cost, one point per detector and image size; one panel per device.

    The AUROC is the mean over datasets (protocol 3) of the baseline condition on the full test set, the cost the median
    over the same runs, its bar from the least to the most. A dashed step line joins the points that no other beats in
    both; these are named beside it. Costs of different devices are never on one axis. Detectors that lack a part of
    the AUROC or of the costs are left out and named below.

    Args:
        metrics: As for `shopfloor.report.tables.value_tables.category_table`.
        costs: One line per run: its names, ``status``, ``device`` and the cost, NaN where the run failed.
        cost: A key of `COST_TITLES`. For ``peak_memory_mb`` it is the memory of the GPU,
            ``peak_gpu_memory_mb``, where the run has it.
    """
    from plotly.subplots import make_subplots

    points, left_out = cost_points(metrics, costs, cost)
    panels = list(dict.fromkeys(zip(points["device"], points["measure"], strict=True))) or [("", cost)]
    note = textwrap.wrap(f"Left out: {', '.join(left_out)}.", _NOTE_CHARACTERS) if left_out else []
    room = _LINE_PIXELS * len(note)

    height = 100 + _PANEL_PIXELS * len(panels)
    figure = make_subplots(rows=len(panels), cols=1, vertical_spacing=0.3 / len(panels))
    figure.update_layout(figure_layout(height + room), showlegend=True)
    figure.update_yaxes(axis(f"{label_of(_METRIC)}, %"))
    styles = detector_styles(metrics)
    named: set[str] = set()
    for row, (device, measure) in enumerate(panels, start=1):
        of_panel = points[(points["device"] == device) & (points["measure"] == measure)]
        panel = {"row": row, "col": 1}
        _add_front(figure, of_panel, panel, is_first=row == 1)
        for detector, style in styles.items():
            _add_points(figure, of_panel[of_panel["detector"] == detector], style, panel, is_new=detector not in named)
        named |= set(of_panel["detector"])
        ticks = logarithmic_ticks(of_panel[["low", "high"]].stack())
        title = axis(f"{_AXES[measure]} ({safe(device)})" if device else _AXES[measure])
        figure.update_xaxes(title, type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], **panel)
        figure.update_xaxes(range=_x_range(of_panel), **panel)
        figure.update_yaxes(range=_y_range(of_panel), **panel)
    if note:
        figure.add_annotation(
            text="<br>".join(map(safe, note)), x=0, y=0, xref="paper", yref="paper", xanchor="left", yanchor="top",
            align="left", yshift=-_AXIS_PIXELS, showarrow=False, font={"size": TEXT_PIXELS},
        )  # fmt: skip
        figure.update_layout(margin_b=_AXIS_PIXELS + room + 8)
    return figure


def cost_points(metrics: pd.DataFrame, costs: pd.DataFrame, cost: str) -> tuple[pd.DataFrame, list[str]]:
    """The points of `cost_figure` and the detectors that have none.

    Args:
        metrics: As there.
        costs: As there.
        cost: As there.

    Returns:
        One line per point: ``detector, image_size, device`` (empty for a cost that no device changes), ``measure`` (the
        column of the cost), ``value`` (mean image AUROC, a fraction), ``cost`` (median), ``low``, ``high``,
        ``on_front`` (among the points of its device), ``name``. And what is left out, each name with the reason.
    """
    of_baseline = rows_of(baseline_of(metrics).rows_of(metrics), {"metric": _METRIC})
    means = mean_table(of_baseline) if len(of_baseline) else pd.DataFrame()
    several_sizes = of_baseline["image_size"].nunique() > 1
    lines, left_out = [], []
    for mean in means.to_dict("records"):
        setting = {name: mean[name] for name in ("detector", "image_size")}
        name = f"{mean['detector']}, {mean['image_size']} px" if several_sizes else str(mean["detector"])
        measured = _measured(rows_of(of_baseline, setting), costs, cost)
        reason = _why_left_out(mean[_METRIC], measured)
        if reason:
            left_out.append(f"{name} ({reason})")
            continue
        values = measured["cost"]
        lines.append(
            {
                **setting,
                "device": measured["device"].iloc[0],
                "measure": measured["measure"].iloc[0],
                "value": mean[_METRIC],
                "cost": values.median(),
                "low": values.min(),
                "high": values.max(),
                "name": name,
            }
        )
    names = ["detector", "image_size", "device", "measure", "value", "cost", "low", "high", "name"]
    points = pd.DataFrame(lines, columns=names).astype(dict.fromkeys(["value", "cost", "low", "high"], float))
    points["on_front"] = False
    for _, group in points.groupby(["device", "measure"]):
        points.loc[group.index, "on_front"] = pareto_front(group["cost"], group["value"])
    return points, left_out


def _measured(runs: pd.DataFrame, costs: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The cost of each run, NaN where there is none, with the device and the column that it comes from."""
    keys = ["dataset", "category", "detector", "image_size", "condition", "seed"]
    found = runs[keys].drop_duplicates().merge(costs[costs["status"] == "ok"], on=keys, how="left")
    found = found.reindex(columns=list(dict.fromkeys([*found.columns, "device", cost, "peak_gpu_memory_mb"])))
    value, measure = found[cost].astype(float), pd.Series(cost, index=found.index)
    if cost == "peak_memory_mb":
        on_gpu = found["peak_gpu_memory_mb"].astype(float)
        value, measure = on_gpu.fillna(value), measure.mask(on_gpu.notna(), "peak_gpu_memory_mb")
    device = "" if cost == "parameters" else found["device"].fillna("unknown device").astype(str)
    if cost == "parameters":
        value = value / 1e6
    return pd.DataFrame({"cost": value, "device": device, "measure": measure}, index=found.index)


def _why_left_out(value: float, measured: pd.DataFrame) -> str:
    """Empty where the point can be drawn."""
    if np.isnan(value):
        return "no complete mean"
    if measured["cost"].isna().any():
        return "not measured in all runs"
    if len(measured[["device", "measure"]].drop_duplicates()) > 1:
        return "on several devices"
    return "" if (measured["cost"] > 0).all() else "a cost of 0"


def _add_points(
    figure: Figure, lines: pd.DataFrame, style: dict[str, str], panel: dict[str, int], is_new: bool
) -> None:
    """The points of one detector, with a line through its image sizes.

    Those on the front are named at the upper left, where no other point can be.
    """
    if lines.empty:
        return
    lines = lines.sort_values("image_size")
    several_sizes = lines["name"].ne(lines["detector"]).any()
    plain = lines["image_size"].astype(str) if several_sizes else pd.Series("", index=lines.index)
    name = safe(lines["detector"].iloc[0])
    figure.add_scatter(
        x=numbers(lines["cost"]),
        y=percent(lines["value"]),
        error_x={
            "type": "data",
            "symmetric": False,
            "array": numbers(lines["high"] - lines["cost"]),
            "arrayminus": numbers(lines["cost"] - lines["low"]),
            "thickness": 1,
            "width": 0,
            "color": style["color"],
        },
        mode="lines+markers+text" if several_sizes else "markers+text",
        line={"color": style["color"], "dash": style["dash"], "width": 1},
        marker={"color": style["color"], "symbol": style["symbol"], "size": 11},
        text=[safe(text) for text in lines["name"].where(lines["on_front"], plain)],
        textposition=["top left" if on_front else "bottom right" for on_front in lines["on_front"]],
        textfont={"size": TEXT_PIXELS, "color": TEXT_COLOUR},
        cliponaxis=False,
        name=name,
        legendgroup=name,
        showlegend=is_new,
        customdata=[
            f"{safe(line['name'])}: {line['cost']:.3g} ({line['low']:.3g} to {line['high']:.3g})"
            for line in lines.to_dict("records")
        ],
        hovertemplate="%{customdata}, %{y:.1f} %<extra></extra>",
        **panel,
    )


def _add_front(figure: Figure, points: pd.DataFrame, panel: dict[str, int], is_first: bool) -> None:
    """Steps through the front: at a cost, the best that can be had for it."""
    front = points[points["on_front"]].sort_values("cost")
    if front.empty:
        return
    end = 10 ** _x_range(points)[1]
    best = numbers(100 * front["value"])
    figure.add_scatter(
        x=numbers([*front["cost"], end]),
        y=[*best, best[-1]],
        mode="lines",
        line={"color": "#616e7c", "dash": "dash", "width": 1.5, "shape": "hv"},
        name=_FRONT,
        legendgroup="front",
        legendrank=2000,  # after the detectors
        showlegend=is_first,
        hoverinfo="skip",
        **panel,
    )


def _x_range(points: pd.DataFrame) -> list[float]:
    """Range of the logarithmic axis, as plotly wants it in powers of ten; names stand to the left of their points."""
    if points.empty:
        return [0.0, 1.0]
    low, high = np.log10(points["low"].min()), np.log10(points["high"].max())
    decades = max(high - low, _LEAST_DECADES)
    longest = points.loc[points["on_front"], "name"].map(len).max()
    for_names = min(PIXELS_PER_CHARACTER * longest / _WIDTH_PIXELS, 0.5)
    return numbers([low - (0.05 + for_names) * decades, high + 0.15 * decades])


def _y_range(points: pd.DataFrame) -> list[float]:
    """Range of the other axis in percent; names stand above their points, sizes below."""
    if points.empty:
        return [0.0, 100.0]
    low, high = 100 * points["value"].min(), 100 * points["value"].max()
    room = max(high - low, 1.0)
    return numbers([low - 0.1 * room, high + 0.14 * room])


def logarithmic_ticks(values: Any) -> list[float]:
    """1, 2, 5, 10, ... around the values; plotly's own ticks read 10, 2, 5, 100.

    Values that lie close together have ticks as on a linear axis, as none of those may lie near them: an axis without
    any tick says nothing (and plotly complains of it).
    """
    from matplotlib.ticker import MaxNLocator

    if not len(values):
        return []
    low, high = float(np.min(values)), float(np.max(values))
    decades = np.log10(high / low)
    if decades < _LEAST_DECADES:
        near = MaxNLocator(nbins=4).tick_values(low / 1.1, high * 1.1)
        return numbers(tick for tick in near if tick > 0)
    steps = (1, 1.5, 2, 3, 4, 5, 7) if decades < 1 else (1, 2, 5) if decades < 3 else (1,)
    whole = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return numbers(step * 10.0**decade for decade in whole for step in steps)
