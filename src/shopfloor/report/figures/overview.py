"""Figures of the report (plotly), small enough for a phone; what they look like is in `shopfloor.report.figures.style`.

Titles stand in the page, not in the figure, because plotly does not wrap them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.metrics.entries import label_of
from shopfloor.report.figures.costs import COST_TITLES, cost_figure
from shopfloor.report.figures.scores import Thresholds, score_histogram, score_thresholds
from shopfloor.report.figures.style import (
    GRID_COLOUR,
    OKABE_ITO,
    PIXELS_PER_CHARACTER,
    TEXT_PIXELS,
    axis,
    detector_styles,
    empty_figure,
    figure_layout,
    numbers,
    percent,
    readable,
    safe,
    transparent,
)
from shopfloor.report.tables.baseline import baseline_of, rows_of
from shopfloor.report.tables.comparison import (
    MEAN_OVER_DATASETS,
    NOISE_METRICS,
    SIZE_METRICS,
    drift_table,
    noise_levels,
    noise_table,
    size_table,
)
from shopfloor.report.tables.value_tables import category_table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "OKABE_ITO",
    "Thresholds",
    "cost_figure",
    "drift_figure",
    "empty_figure",
    "metric_by_category",
    "noise_figure",
    "numbers",
    "overview_figures",
    "safe",
    "score_histogram",
    "score_thresholds",
    "size_figure",
]

_PANEL_PIXELS = 240
_MOST_DIRECT_LABELS = 5
_LONGEST_DIRECT_LABEL = 18
_BEYOND = 1.5  # percent, so that a marker at 0 or 100 is whole
_LABEL_PIXELS = 16  # from one label to the next


def metric_by_category(metrics: pd.DataFrame, metric: str, image_size: int) -> Figure:
    """Dots per category and detector, bars one standard deviation over the seeds; baseline, full test set.

    A failed or missing cell has no dot; where the metric is not available there is no line either.

    Args:
        metrics: As for `shopfloor.report.tables.value_tables.category_table`.
        metric: A key of `METRICS`.
        image_size: Pixels.
    """
    of_baseline = baseline_of(metrics).rows_of(metrics)
    table = category_table(rows_of(of_baseline, {"metric": metric, "image_size": image_size}))
    table = table[table["not_available"] == ""]
    places = table[["dataset", "category"]].drop_duplicates(ignore_index=True).reset_index(names="place")
    table = table.merge(places, on=["dataset", "category"])
    detectors = list(table["detector"].unique())
    height = 110 + len(places) * max(40, 16 + 10 * len(detectors))
    figure = empty_figure(height=height, x_title=f"{label_of(metric)}, %", y_title="")
    for position, (detector, style) in enumerate(detector_styles(metrics).items()):
        lines = table[table["detector"] == detector].dropna(subset=[metric])
        if lines.empty:
            continue
        offset = 0.7 * ((detectors.index(detector) + 0.5) / len(detectors) - 0.5)
        figure.add_scatter(
            x=percent(lines[metric]),
            y=numbers(lines["place"] + offset),
            error_x={"type": "data", "array": percent(lines[f"{metric}_sd"]), "thickness": 1.5, "width": 3},
            mode="markers",
            marker={"color": style["color"], "symbol": style["symbol"], "size": 9},
            name=safe(detector),
            customdata=[safe(f"{line.dataset} / {line.category}") for line in lines.itertuples()],
            hovertemplate=f"%{{customdata}}<br>{safe(detector)}: %{{x:.1f}} %<extra></extra>",
            legendrank=position,
            showlegend=True,  # plotly would not name a lone detector
        )
    # A new line under the dataset keeps the labels narrow on a phone.
    pairs = zip(places["dataset"], places["category"], strict=True)
    names = [f"{safe(category)}<br><i>{safe(dataset)}</i>" for dataset, category in pairs]
    bottom = len(places) - 0.5
    figure.update_yaxes(tickvals=list(range(len(places))), ticktext=names, range=[bottom, -0.5], showgrid=False)
    for boundary in range(1, len(places)):
        figure.add_hline(y=boundary - 0.5, line={"color": GRID_COLOUR, "width": 1}, layer="below")
    return figure


def noise_figure(metrics: pd.DataFrame, metric: str) -> Figure:
    """A metric against the share of mislabelled training images, one line per detector, one panel per dataset.

    Lines are named at their ends where they are few and all get there, otherwise in a legend. A missing point is a gap.
    Bands are one standard deviation over the seeds. The levels are compared on the test set that the largest level
    leaves (the same images for all levels, protocol 4.5); where that is not there, on each level's own test set.

    Args:
        metrics: As for `shopfloor.report.tables.comparison.noise_table`; at least one noise level.
        metric: One of `shopfloor.report.tables.comparison.NOISE_METRICS`.
    """
    is_shared = (metrics["test_set_kind"] == "common").any()
    ticks = [Tick(level.same_test if is_shared else level.condition, level.percent) for level in noise_levels(metrics)]
    return _comparison_figure(metrics, noise_table, metric, ticks, "mislabelled training images, %")


def size_figure(metrics: pd.DataFrame, metric: str) -> Figure:
    """A metric against the input size, drawn as `noise_figure`, each doubling a step; metrics of more than one size."""
    ticks = [Tick(str(size), float(size)) for size in sorted(metrics["image_size"].unique())]
    return _comparison_figure(metrics, size_table, metric, ticks, "image size, pixels", is_logarithmic=True)


def drift_figure(metrics: pd.DataFrame, metric: str) -> Figure:
    """A metric without and with synthetic drift, drawn as `noise_figure`; bands are drift seeds."""
    ticks = [Tick("no_drift", 0, "no drift"), Tick("drift", 1, "drift")]
    return _comparison_figure(metrics, drift_table, metric, ticks, "test images")


class Tick(NamedTuple):
    """A column of a comparison and where it stands on the axis."""

    column: str
    x: float
    label: str = ""


class _Curve(NamedTuple):
    """A line of a comparison, in percent; NaN where there is no value."""

    name: str
    style: dict[str, str]
    y: np.ndarray
    spread: np.ndarray


def _comparison_figure(
    metrics: pd.DataFrame,
    make_table: Callable[[pd.DataFrame], pd.DataFrame],
    metric: str,
    ticks: list[Tick],
    x_title: str,
    is_logarithmic: bool = False,
) -> Figure:
    """Lines over the columns of a comparison, one per detector, one panel per dataset."""
    from plotly.subplots import make_subplots

    table = make_table(rows_of(metrics, {"metric": metric}))
    columns, x = [tick.column for tick in ticks], np.array([tick.x for tick in ticks], dtype=float)
    table = table[table[columns].notna().any(axis="columns")]
    curves = {str(dataset): _curves(lines, columns, metrics) for dataset, lines in table.groupby("dataset", sort=False)}
    panels = list(curves) or [MEAN_OVER_DATASETS]
    direct = _can_be_direct(curves)

    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.16 / len(panels),
        subplot_titles=[safe(panel) for panel in panels],
    )
    figure.update_layout(figure_layout(height=130 + _PANEL_PIXELS * len(panels)))
    figure.update_layout(legend_y=1 + 0.12 / len(panels))  # above the title of the first panel
    figure.update_xaxes(axis(""), tickvals=numbers(x), ticktext=[tick.label or f"{tick.x:g}" for tick in ticks])
    on_axis = np.log10(x) if is_logarithmic else x  # where plotly wants ranges and texts
    figure.update_xaxes(type="log" if is_logarithmic else "linear", range=_x_range(on_axis))
    figure.update_yaxes(axis(f"{label_of(metric)}, %"))
    figure.update_xaxes(title_text=x_title, row=len(panels), col=1)
    named: set[str] = set()
    for row, panel in enumerate(curves.values(), start=1):
        place = {"row": row, "col": 1}
        for curve in panel:
            _add_band(figure, x, curve, place)
        for curve in panel:
            figure.add_scatter(
                error_y=_error_bars(curve),
                x=numbers(x),
                y=[None if np.isnan(value) else value for value in numbers(curve.y)],
                mode="lines+markers",
                line={"color": curve.style["color"], "dash": curve.style["dash"], "width": 2},
                marker={"symbol": curve.style["symbol"], "size": 8},
                name=curve.name,
                legendgroup=curve.name,
                showlegend=not direct and curve.name not in named,
                hovertemplate=f"{curve.name}, {x_title} %{{x}}: %{{y:.1f}} %<extra></extra>",
                **place,
            )
            named.add(curve.name)
        limits = _y_range(panel)
        figure.update_yaxes(range=numbers(limits), **place)
        if direct:
            _name_the_ends(figure, on_axis[-1], panel, limits, place)
    if direct:
        figure.update_layout(margin_r=20 + PIXELS_PER_CHARACTER * max(map(len, named)))
    return figure


def _curves(lines: pd.DataFrame, columns: list[str], metrics: pd.DataFrame) -> list[_Curve]:
    """The lines of one panel."""
    styles = detector_styles(metrics)
    several_sizes = "image_size" in lines and lines["image_size"].nunique() > 1
    return [
        _Curve(
            safe(f"{line['detector']}, {line['image_size']} px" if several_sizes else str(line["detector"])),
            styles[line["detector"]],
            100 * np.array([line[column] for column in columns], dtype=float),
            100 * np.array([line[f"{column}_sd"] for column in columns], dtype=float),
        )
        for line in lines.to_dict("records")
    ]


def _can_be_direct(curves: dict[Any, list[_Curve]]) -> bool:
    """Whether every line can be named at its end: few lines, short names, and an end at the last place."""
    everything = [curve for panel in curves.values() for curve in panel]
    return bool(everything) and (
        max(map(len, curves.values())) <= _MOST_DIRECT_LABELS
        and max(len(curve.name) for curve in everything) <= _LONGEST_DIRECT_LABEL
        and all(np.isfinite(curve.y[-1]) for curve in everything)
    )


def _name_the_ends(
    figure: Figure, x: float, panel: list[_Curve], limits: tuple[float, float], place: dict[str, int]
) -> None:
    """Names to the right of the last points, moved apart where they would cover one another."""
    gap = _LABEL_PIXELS * (limits[1] - limits[0]) / _PANEL_PIXELS
    heights = spread_apart([curve.y[-1] for curve in panel], gap)
    for curve, height in zip(panel, heights, strict=True):
        figure.add_annotation(
            text=curve.name,
            x=float(f"{x:.6g}"),
            y=float(f"{height:.6g}"),
            xanchor="left",
            yanchor="middle",
            xshift=9,
            showarrow=False,
            font={"size": TEXT_PIXELS, "color": readable(curve.style["color"])},
            **place,
        )


def spread_apart(heights: list[float], gap: float) -> list[float]:
    """Heights at least ``gap`` from each other, in their order, and together as near to the given ones as can be.

    Args:
        heights: Where each label wants to stand.
        gap: Least distance.

    Returns:
        Where each stands: the least squares solution, isotonic once the gaps are taken out.
    """
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(heights, kind="stable")
    gaps = gap * np.arange(len(heights))
    placed = np.empty(len(heights))
    placed[order] = isotonic_regression(np.array(heights, dtype=float)[order] - gaps) + gaps
    return [float(height) for height in placed]


def _add_band(figure: Figure, x: np.ndarray, curve: _Curve, place: dict[str, int]) -> None:
    for band_x, band_y in _bands(x, curve.y, curve.spread):
        figure.add_scatter(
            x=numbers(band_x),
            y=numbers(band_y),
            fill="toself",
            mode="none",
            fillcolor=transparent(curve.style["color"]),
            legendgroup=curve.name,
            showlegend=False,
            hoverinfo="skip",
            **place,
        )


def _bands(x: np.ndarray, y: np.ndarray, spread: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Outlines of ``y`` plus and minus ``spread`` over each unbroken run of points."""
    known = np.flatnonzero(np.isfinite(y) & np.isfinite(spread))
    unbroken = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    return [
        (np.concatenate([x[run], x[run][::-1]]), np.concatenate([(y + spread)[run], (y - spread)[run][::-1]]))
        for run in unbroken
        if len(run) > 1
    ]


def _error_bars(curve: _Curve) -> dict[str, Any] | None:
    """The spread of points that no band holds, as it takes two neighbours to draw one."""
    known = np.isfinite(curve.y) & np.isfinite(curve.spread)
    beside = np.pad(known, 1)
    alone = known & ~beside[:-2] & ~beside[2:]
    if not alone.any():
        return None
    bars = np.where(alone, curve.spread, 0)
    return {"array": numbers(bars), "color": curve.style["color"], "thickness": 1.5}


def _x_range(x: np.ndarray) -> list[float]:
    room = 0.04 * float(np.ptp(x)) or 1.0
    return numbers([x.min() - room, x.max() + room])


def _y_range(curves: list[_Curve]) -> tuple[float, float]:
    """All lines and bands, and some room, as far as there are percentages."""
    y, spread = np.stack([curve.y for curve in curves]), np.stack([np.nan_to_num(curve.spread) for curve in curves])
    low, high = float(np.nanmin(y - spread)), float(np.nanmax(y + spread))
    room = max(0.08 * (high - low), 0.5)
    return max(low - room, -_BEYOND), min(high + room, 100 + _BEYOND)


def overview_figures(metrics: pd.DataFrame, costs: pd.DataFrame) -> dict[str, Figure]:
    """All figures of a run except the score histograms, by title, in the order of the page.

    Args:
        metrics: As for `shopfloor.report.tables.value_tables.category_table`.
        costs: As for `cost_figure`.
    """
    figures: dict[str, Figure] = {}
    baseline = baseline_of(metrics)
    measured = baseline.rows_of(metrics).dropna(subset=["value"])
    for image_size in measured["image_size"].unique():
        of_size = measured[measured["image_size"] == image_size]
        for metric in ("image_auroc", "image_pg2", "pixel_aupro"):
            if metric in set(of_size["metric"]):
                title = f"{label_of(metric)} by category, {image_size} px, {baseline.condition} training data"
                figures[title] = metric_by_category(metrics, metric, int(image_size))
    figures |= _comparison_figures(metrics)
    if not measured.empty and (costs["status"] == "ok").any():
        for cost, title in COST_TITLES.items():
            figures[f"Image AUROC against {title}"] = cost_figure(metrics, costs, cost)
    return figures


def _comparison_figures(metrics: pd.DataFrame) -> dict[str, Figure]:
    """A figure for each metric of each comparison that the run has."""
    of_noise = metrics["condition_kind"] == "noise"
    of_drift = metrics["test_set_kind"] == "drift"
    of_sizes = metrics["image_size"].nunique() > 1
    figures: dict[str, Figure] = {}
    for title, chosen, names, draw in (
        ("against mislabelled training images, same test images", metrics[of_noise], NOISE_METRICS, noise_figure),
        ("against the input size", metrics[of_sizes & (metrics["test_set_kind"] == "full")], SIZE_METRICS, size_figure),
        ("without and with drift", metrics[of_drift], NOISE_METRICS, drift_figure),
    ):
        measured = set(chosen.dropna(subset=["value"])["metric"])
        figures |= {f"{label_of(name)} {title}": draw(metrics, name) for name in names if name in measured}
    return figures
