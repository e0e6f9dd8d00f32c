"""Distributions of the raw scores of one cell (the paper's Figure 6): binned here, no raw data is handed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.metrics.image import interpolated_quantile
from shopfloor.report.figures.style import TEXT_PIXELS, empty_figure, numbers, readable, transparent

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GOOD_COLOUR, BAD_COLOUR = "#0072B2", "#D55E00"
_HISTOGRAM_BINS = 40
_HEADROOM = 1.5  # above the tallest bar, for the names of the thresholds


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


class _Line(NamedTuple):
    """A threshold as it is drawn: its top and its name's are shares of the height, so that two never meet."""

    threshold: float
    name: str
    meaning: str
    colour: str
    dash: str
    top: float


def score_thresholds(scores: pd.DataFrame) -> Thresholds:
    """Thresholds of one cell's scores.

    Args:
        scores: ``label`` (good or bad) and ``pred_score`` (raw) of each test image. Scores that are not finite are
            left out.
    """
    good, bad = _good_and_bad(scores)
    if not len(good) or not len(bad):
        return Thresholds(np.nan, np.nan, np.nan, np.nan)
    pg2, pb2 = interpolated_quantile(bad, 0.02), -interpolated_quantile(-good, 0.02)
    return Thresholds(pg2, pb2, float(np.mean(good < pg2)), float(np.mean(bad > pb2)))


def score_histogram(scores: pd.DataFrame) -> Figure:
    """Histogram of the raw scores of one cell, good against bad, with the PG2 and PB2 thresholds.

    Bars are shares of the good and of the bad images (percent), so that classes of different size can be compared.
    Each threshold is named at its upper end, with its score and the share of images that it recognises; the names
    stand at different heights, so that both can be read where the thresholds coincide.

    Args:
        scores: ``label`` (good or bad) and ``pred_score`` (raw) of each test image of one cell.
    """
    figure = empty_figure(height=340, x_title="raw score", y_title="share, %")
    good, bad = _good_and_bad(scores)
    everything = np.concatenate([good, bad])
    if not len(everything):
        return figure
    edges = np.histogram_bin_edges(everything, bins=_HISTOGRAM_BINS)
    centres, tallest = (edges[:-1] + edges[1:]) / 2, 1.0
    hatched = {"shape": "/", "bgcolor": transparent(BAD_COLOUR), "fgcolor": BAD_COLOUR, "size": 5, "solidity": 0.4}
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
            showlegend=True,
        )
    found = score_thresholds(scores)
    good_found, bad_found = f"{100 * found.good_below_pg2:.1f} %", f"{100 * found.bad_above_pb2:.1f} %"
    height = _HEADROOM * tallest
    for line in (
        _Line(found.pg2, "PG2", f"{good_found} of good below", BAD_COLOUR, "dash", 1.0),
        _Line(found.pb2, "PB2", f"{bad_found} of bad above", GOOD_COLOUR, "dot", 0.84),
    ):
        if np.isfinite(line.threshold):
            _add_threshold(figure, line, height, is_on_the_left=line.threshold < (edges[0] + edges[-1]) / 2)
    figure.update_xaxes(range=numbers([edges[0] - 0.02 * np.ptp(edges), edges[-1] + 0.02 * np.ptp(edges)]))
    return figure.update_yaxes(range=numbers([0, height])).update_layout(barmode="overlay", bargap=0)


def _add_threshold(figure: Figure, line: _Line, height: float, is_on_the_left: bool) -> None:
    """A vertical line and, on the side where there is more room, its name."""
    text = f"<b>{line.name}</b> at {line.threshold:.4g}"
    figure.add_scatter(
        x=[line.threshold] * 2,
        y=numbers([0, line.top * height]),
        mode="lines",
        line={"color": line.colour, "dash": line.dash, "width": 2.5},
        name=line.name,
        showlegend=False,
        hovertemplate=f"{text}: {line.meaning}<extra></extra>",
    )
    figure.add_annotation(
        x=line.threshold,
        y=float(f"{line.top * height:.6g}"),
        text=f"{text}<br>{line.meaning}",
        showarrow=False,
        xanchor="left" if is_on_the_left else "right",
        xshift=5 if is_on_the_left else -5,
        yanchor="top",
        align="left" if is_on_the_left else "right",
        bgcolor="rgba(255,255,255,0.8)",  # the other threshold may pass behind
        font={"size": TEXT_PIXELS, "color": readable(line.colour)},
    )


def _good_and_bad(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    values = scores["pred_score"].to_numpy(dtype=float)
    is_bad = (scores["label"] == "bad").to_numpy()
    finite = np.isfinite(values)
    return values[finite & ~is_bad], values[finite & is_bad]
