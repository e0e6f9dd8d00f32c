"""Figures of the report (plotly), small enough for a phone: histograms are binned here, no raw data is handed on.

The colours are those of Okabe and Ito (2008), which people with colour-blindness can tell apart; detectors also differ
in marker and dash, so that a black-and-white print can be read. Titles stand in the page, not in the figure, because
plotly does not wrap them.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.metrics.image import interpolated_quantile
from shopfloor.report.comparison import (
    MEAN_OVER_DATASETS,
    NOISE_METRICS,
    SIZE_METRICS,
    drift_table,
    noise_levels,
    noise_percent,
    noise_table,
    size_table,
)
from shopfloor.report.tables import (
    METRICS,
    category_table,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Yellow, the faintest on white, comes last.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
GOOD_COLOUR, BAD_COLOUR = "#0072B2", "#D55E00"
_MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon", "hexagram", "bowtie")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_GRID_COLOUR = "#e3e6ea"
_HISTOGRAM_BINS = 40
_LONGEST_NAME = 48


class Thresholds(NamedTuple):
    """Score thresholds of protocol 2.1 and the values that they give (fractions); NaN where a class has no image.

    Attributes:
        pg2: 2 % quantile of the bad scores, linear interpolation.
        pb2: 98 % quantile of the good scores, linear interpolation.
        good_below_pg2: Share of good images that score below ``pg2``: the metric ``image_pg2``.
        bad_above_pb2: Share of bad images that score above ``pb2``: the metric ``image_pb2``.
    """

    pg2: float
    pb2: float
    good_below_pg2: float
    bad_above_pb2: float


def score_thresholds(scores: pd.DataFrame) -> Thresholds:
    """Thresholds of one cell's scores.

    Args:
        scores: ``label`` (good or bad) and ``pred_score`` (raw) of each test image.
    """
    good, bad = _good_and_bad(scores)
    if not len(good) or not len(bad):
        return Thresholds(np.nan, np.nan, np.nan, np.nan)
    pg2, pb2 = interpolated_quantile(bad, 0.02), -interpolated_quantile(-good, 0.02)
    return Thresholds(pg2, pb2, float(np.mean(good < pg2)), float(np.mean(bad > pb2)))


def score_histogram(scores: pd.DataFrame) -> Figure:
    """Histogram of the raw scores of one cell, good against bad, with the PG2 and PB2 thresholds.

    Bars are shares of the good and of the bad images (percent), so that classes of different size can be compared.

    Args:
        scores: ``label`` (good or bad) and ``pred_score`` (raw) of each test image of one cell.
    """
    figure = empty_figure(height=300, x_title="raw score", y_title="share, %")
    good, bad = _good_and_bad(scores)
    everything = np.concatenate([good, bad])
    if not len(everything):
        return figure
    edges = np.histogram_bin_edges(everything, bins=_HISTOGRAM_BINS)
    centres, tallest = (edges[:-1] + edges[1:]) / 2, 1.0
    hatched = {"shape": "/", "bgcolor": _transparent(BAD_COLOUR), "fgcolor": BAD_COLOUR, "size": 5, "solidity": 0.4}
    for name, values, colour, pattern in (("good", good, GOOD_COLOUR, {}), ("bad", bad, BAD_COLOUR, hatched)):
        if not len(values):
            continue
        share = 100 * np.histogram(values, edges)[0] / len(values)
        tallest = max(tallest, float(share.max()))
        figure.add_bar(
            x=numbers(centres),
            y=numbers(share),
            width=float(edges[1] - edges[0]),
            name=f"{name} ({len(values)})",
            marker={"color": colour, "opacity": 0.7, "pattern": pattern},
            hovertemplate=f"{name}, score %{{x:.4g}}: %{{y:.1f}} %<extra></extra>",
        )
    found = score_thresholds(scores)
    lines = (
        (found.pg2, BAD_COLOUR, "dash", f"PG2 {100 * found.good_below_pg2:.1f} %", "of good below"),
        (found.pb2, GOOD_COLOUR, "dot", f"PB2 {100 * found.bad_above_pb2:.1f} %", "of bad above"),
    )
    for threshold, colour, dash, name, meaning in lines:
        if np.isfinite(threshold):
            figure.add_scatter(
                x=[threshold] * 2,
                y=[0, 1.05 * tallest],
                mode="lines",
                line={"color": colour, "dash": dash, "width": 2.5},
                name=name,
                hovertemplate=f"{name} {meaning} {threshold:.4g}<extra></extra>",
            )
    return figure.update_layout(barmode="overlay", bargap=0)


def metric_by_category(metrics: pd.DataFrame, metric: str, image_size: int, condition: str) -> Figure:
    """Dots per category and detector, bars one standard deviation over the seeds; full test set.

    A failed or missing cell has no dot; where the metric is not available there is no line either.

    Args:
        metrics: As for `shopfloor.report.tables.category_table`.
        metric: A key of `METRICS`.
        image_size: Pixels.
        condition: Training condition.
    """
    of_figure = {"metric": metric, "image_size": image_size, "condition": condition, "test_set": "full"}
    table = category_table(_rows_of(metrics, of_figure))
    table = table[table["not_available"] == ""]
    places = table[["dataset", "category"]].drop_duplicates(ignore_index=True).reset_index(names="place")
    table = table.merge(places, on=["dataset", "category"])
    detectors = list(table["detector"].unique())
    height = 110 + len(places) * max(40, 16 + 10 * len(detectors))
    figure = empty_figure(height=height, x_title=f"{METRICS[metric]}, %", y_title="")
    for position, (detector, style) in enumerate(_styles(metrics).items()):
        lines = table[table["detector"] == detector].dropna(subset=[metric])
        if lines.empty:
            continue
        offset = 0.7 * ((detectors.index(detector) + 0.5) / len(detectors) - 0.5)
        figure.add_scatter(
            x=_percent(lines[metric]),
            y=numbers(lines["place"] + offset),
            error_x={"type": "data", "array": _percent(lines[f"{metric}_sd"].fillna(0)), "thickness": 1.5, "width": 3},
            mode="markers",
            marker={"color": style["color"], "symbol": style["symbol"], "size": 9},
            name=safe(detector),
            customdata=[safe(f"{line.dataset} / {line.category}") for line in lines.itertuples()],
            hovertemplate=f"%{{customdata}}<br>{safe(detector)}: %{{x:.1f}} %<extra></extra>",
            legendrank=position,
        )
    # A new line under the dataset keeps the labels narrow on a phone.
    pairs = zip(places["dataset"], places["category"], strict=True)
    names = [f"{safe(category)}<br><i>{safe(dataset)}</i>" for dataset, category in pairs]
    bottom = len(places) - 0.5
    figure.update_yaxes(tickvals=list(range(len(places))), ticktext=names, range=[bottom, -0.5], showgrid=False)
    for boundary in range(1, len(places)):
        figure.add_hline(y=boundary - 0.5, line={"color": _GRID_COLOUR, "width": 1}, layer="below")
    return figure


def noise_figure(metrics: pd.DataFrame, metric: str) -> Figure:
    """A metric against the share of mislabelled training images, one line per detector, one panel per dataset.

    Bands are one standard deviation over the seeds. The levels are compared on the test set that the largest level
    leaves (the same images for all levels, protocol 4.5); where that is not there, on each level's own test set.

    Args:
        metrics: As for `shopfloor.report.comparison.noise_table`; at least one noise level.
        metric: One of `shopfloor.report.comparison.NOISE_METRICS`.
    """
    suffix = "_same_test" if metrics["test_set"].str.startswith("common_").any() else ""
    ticks = [Tick(f"{level}{suffix}", noise_percent(level)) for level in ("clean", *noise_levels(metrics))]
    return _comparison_figure(metrics, noise_table, metric, ticks, "mislabelled training images, %")


def size_figure(metrics: pd.DataFrame, metric: str) -> Figure:
    """A metric against the input size, drawn as `noise_figure`; metrics of more than one size."""
    ticks = [Tick(str(size), float(size)) for size in sorted(metrics["image_size"].unique())]
    return _comparison_figure(metrics, size_table, metric, ticks, "image size, pixels")


def drift_figure(metrics: pd.DataFrame, metric: str) -> Figure:
    """A metric without and with synthetic drift, drawn as `noise_figure`; bands are drift seeds."""
    ticks = [Tick("no_drift", 0, "no drift"), Tick("drift", 1, "drift")]
    return _comparison_figure(metrics, drift_table, metric, ticks, "test images")


class Tick(NamedTuple):
    """A column of a comparison and where it stands on the axis."""

    column: str
    x: float
    label: str = ""


def _comparison_figure(
    metrics: pd.DataFrame,
    make_table: Callable[[pd.DataFrame], pd.DataFrame],
    metric: str,
    ticks: list[Tick],
    x_title: str,
) -> Figure:
    """Lines over the columns of a comparison, one per detector, one panel per dataset."""
    from plotly.subplots import make_subplots

    table = make_table(_rows_of(metrics, {"metric": metric}))
    columns, x = [tick.column for tick in ticks], [float(tick.x) for tick in ticks]
    table = table[table[columns].notna().any(axis="columns")]
    panels = list(table["dataset"].unique()) or [MEAN_OVER_DATASETS]

    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.16 / len(panels),
        subplot_titles=_safe_all(panels),
    )
    figure.update_layout(_layout(height=130 + 240 * len(panels)))
    figure.update_layout(legend_y=1 + 0.12 / len(panels))  # above the title of the first panel
    figure.update_xaxes(_axis(""), tickvals=x, ticktext=[tick.label or f"{tick.x:g}" for tick in ticks])
    figure.update_yaxes(_axis(f"{METRICS[metric]}, %"))
    figure.update_xaxes(title_text=x_title, row=len(panels), col=1)
    styles = _styles(metrics)
    several_sizes = "image_size" in table and table["image_size"].nunique() > 1
    named = set()
    for line in table.to_dict("records"):
        style = styles[line["detector"]]
        name = safe(f"{line['detector']}, {line['image_size']} px" if several_sizes else line["detector"])
        panel = {"row": panels.index(line["dataset"]) + 1, "col": 1}
        y = 100 * np.array([line[column] for column in columns], dtype=float)
        spread = 100 * np.array([line[f"{column}_sd"] for column in columns], dtype=float)
        for band_x, band_y in _bands(np.array(x), y, spread):
            figure.add_scatter(
                x=numbers(band_x),
                y=numbers(band_y),
                fill="toself",
                mode="none",
                fillcolor=_transparent(style["color"]),
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
                **panel,
            )
        figure.add_scatter(
            x=x,
            y=[None if np.isnan(value) else float(value) for value in y],
            mode="lines+markers",
            line={"color": style["color"], "dash": style["dash"], "width": 2},
            marker={"symbol": style["symbol"], "size": 8},
            name=name,
            legendgroup=name,
            showlegend=name not in named,
            hovertemplate=f"{name}, {x_title} %{{x}}: %{{y:.1f}} %<extra></extra>",
            **panel,
        )
        named.add(name)
    return figure


def cost_figure(metrics: pd.DataFrame, costs: pd.DataFrame, cost: str) -> Figure:
    """Image AUROC against a cost, one dot per category and detector (means over seeds), logarithmic cost axis.

    Args:
        metrics: As for `shopfloor.report.tables.category_table`; the full test set is used.
        costs: One line per run; `cost` is NaN where the run failed.
        cost: ``fit_seconds`` or ``predict_ms_per_image``.
    """
    titles = {"fit_seconds": "training time, s", "predict_ms_per_image": "prediction per image, ms"}
    names = ["dataset", "category", "detector", "image_size", "condition"]
    table = category_table(_rows_of(metrics, {"metric": "image_auroc", "test_set": "full"}))
    table = table.dropna(subset=["image_auroc"])
    mean_cost = costs[costs["status"] == "ok"].groupby(names)[cost].mean().rename("cost").reset_index()
    points = table.merge(mean_cost, on=names)
    points = points[points["cost"] > 0]
    figure = empty_figure(height=380, x_title=titles[cost], y_title=f"{METRICS['image_auroc']}, %")
    for detector, style in _styles(metrics).items():
        lines = points[points["detector"] == detector]
        if lines.empty:
            continue
        figure.add_scatter(
            x=numbers(lines["cost"]),
            y=_percent(lines["image_auroc"]),
            mode="markers",
            marker={"color": style["color"], "symbol": style["symbol"], "size": 10, "opacity": 0.85},
            name=safe(detector),
            customdata=[
                safe(f"{line.dataset} / {line.category}") + safe(f", {line.image_size} px, {line.condition}")
                for line in lines.itertuples()
            ],
            hovertemplate=f"%{{customdata}}<br>{safe(detector)}: %{{x:.3g}}, %{{y:.1f}} %<extra></extra>",
        )
    ticks = _logarithmic_ticks(points["cost"])
    return figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def overview_figures(metrics: pd.DataFrame, costs: pd.DataFrame) -> dict[str, Figure]:
    """All figures of a run except the score histograms, by title, in the order of the page.

    Args:
        metrics: As for `shopfloor.report.tables.category_table`.
        costs: As for `cost_figure`.
    """
    figures: dict[str, Figure] = {}
    condition = baseline_condition(metrics)
    measured = metrics[(metrics["condition"] == condition) & (metrics["test_set"] == "full")].dropna(subset=["value"])
    for image_size in measured["image_size"].unique():
        of_size = measured[measured["image_size"] == image_size]
        for metric in ("image_auroc", "image_pg2", "pixel_aupro"):
            if metric in set(of_size["metric"]):
                title = f"{METRICS[metric]} by category, {image_size} px, {condition} training data"
                figures[title] = metric_by_category(metrics, metric, int(image_size), condition)
    figures |= _comparison_figures(metrics)
    if not measured.empty and (costs["status"] == "ok").any():
        figures["Image AUROC against training time"] = cost_figure(metrics, costs, "fit_seconds")
        figures["Image AUROC against prediction time"] = cost_figure(metrics, costs, "predict_ms_per_image")
    return figures


def _comparison_figures(metrics: pd.DataFrame) -> dict[str, Figure]:
    """A figure for each metric of each comparison that the run has."""
    of_noise = metrics["condition"].isin(noise_levels(metrics))
    of_drift = metrics["test_set"].str.startswith("drift_")
    of_sizes = metrics["image_size"].nunique() > 1
    figures: dict[str, Figure] = {}
    for title, chosen, names, draw in (
        ("against mislabelled training images, same test images", metrics[of_noise], NOISE_METRICS, noise_figure),
        ("against the input size", metrics[of_sizes & (metrics["test_set"] == "full")], SIZE_METRICS, size_figure),
        ("without and with drift", metrics[of_drift], NOISE_METRICS, drift_figure),
    ):
        measured = set(chosen.dropna(subset=["value"])["metric"])
        figures |= {f"{METRICS[name]} {title}": draw(metrics, name) for name in names if name in measured}
    return figures


def baseline_condition(metrics: pd.DataFrame) -> str:
    """``clean`` where there is such a training, otherwise the first condition of the table."""
    conditions = list(metrics["condition"].unique())
    return "clean" if "clean" in conditions or not conditions else str(conditions[0])


def _rows_of(metrics: pd.DataFrame, wanted: dict[str, Any]) -> pd.DataFrame:
    return metrics[(metrics[list(wanted)] == pd.Series(wanted)).all(axis="columns")]


def _good_and_bad(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    values = scores["pred_score"].to_numpy(dtype=float)
    is_bad = (scores["label"] == "bad").to_numpy()
    finite = np.isfinite(values)
    return values[finite & ~is_bad], values[finite & is_bad]


def _styles(metrics: pd.DataFrame) -> dict[str, dict[str, str]]:
    """The look of each detector, the same in all figures of a run."""
    return {
        detector: {
            "color": OKABE_ITO[position % len(OKABE_ITO)],
            "symbol": _MARKERS[position % len(_MARKERS)],
            "dash": _DASHES[position % len(_DASHES)],
        }
        for position, detector in enumerate(metrics["detector"].unique())
    }


def empty_figure(height: int, x_title: str, y_title: str) -> Figure:
    """A figure in the look of the report, with titled axes and nothing on them."""
    from plotly.graph_objects import Figure

    return Figure(layout=_layout(height)).update_xaxes(_axis(x_title)).update_yaxes(_axis(y_title))


def _layout(height: int) -> dict[str, Any]:
    return {
        "template": "none",  # plotly's own template would be most of the file
        "height": height,
        "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": "#1f2933"},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 8, "r": 12, "t": 24, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": 12}},
        "dragmode": False,  # a finger on a phone scrolls the page
        "hoverlabel": {"bgcolor": "#ffffff"},
    }


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 13}},
        "automargin": True,
        "gridcolor": _GRID_COLOUR,
        "zeroline": False,
        "linecolor": "#9aa5b1",
        "ticks": "outside",
        "tickcolor": "#9aa5b1",
    }


def _bands(x: np.ndarray, y: np.ndarray, spread: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Outlines of ``y`` plus and minus ``spread`` over each unbroken run of points."""
    known = np.flatnonzero(np.isfinite(y) & np.isfinite(spread))
    unbroken = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    return [
        (np.concatenate([x[run], x[run][::-1]]), np.concatenate([(y + spread)[run], (y - spread)[run][::-1]]))
        for run in unbroken
        if len(run) > 1
    ]


def _logarithmic_ticks(values: pd.Series) -> list[float]:
    """1, 2, 5, 10, ... around the values; plotly's own ticks read 10, 2, 5, 100."""
    if values.empty:
        return []
    low, high = np.log10(values.min()), np.log10(values.max())
    decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    steps = (1, 1.5, 2, 3, 4, 5, 7) if high - low < 1 else (1, 2, 5) if high - low < 3 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps]


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def _percent(values: pd.Series) -> list[float]:
    return numbers(100 * values)


def numbers(values: Any) -> list[float]:
    """Plain floats with few digits: plotly would store arrays in base 64, longer than this."""
    return [float(f"{value:.6g}") for value in values]


def safe(name: str) -> str:
    """A name from disk as plotly text, which plotly reads as a small subset of HTML."""
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    return html.escape(short, quote=False)


def _safe_all(names: list[str]) -> list[str]:
    return [safe(name) for name in names]
