"""Draw distributions of the raw scores of one cell (the paper's Figure 6): binned here, no raw data is handed on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.metrics.image import interpolated_quantile
from shopfloor.report.figures.style import WIDTH, Chart, empty_figure, finished, inline, tooltip

_HISTOGRAM_BINS = 40
_HEIGHT = 260
_HEADROOM = 1.5  # above the tallest bar, for the names of the thresholds


class Thresholds(NamedTuple):
    """Hold the score thresholds of protocol 2.1 and the values that they give (fractions); NaN where there is no image.

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
    """Find the thresholds of one cell's scores.

    Args:
        scores: ``label`` (good or bad) and ``pred_score`` (raw) of each test image. Scores that are not finite are
            left out.
    """
    good, bad = _good_and_bad(scores)
    if not len(good) or not len(bad):
        return Thresholds(np.nan, np.nan, np.nan, np.nan)
    pg2, pb2 = interpolated_quantile(bad, 0.02), -interpolated_quantile(-good, 0.02)
    return Thresholds(pg2, pb2, float(np.mean(good < pg2)), float(np.mean(bad > pb2)))


def score_histogram(scores: pd.DataFrame) -> Chart:
    """Draw a histogram of the raw scores of one cell, good against bad, with the PG2 and PB2 thresholds.

    Bars are shares of the good and of the bad images (percent), so that classes of different size can be compared;
    those of the good are filled, those of the bad hollow. Each threshold is named at its upper end, with its score and
    the share of images that it recognises; the names stand at different heights, so that both can be read where the
    thresholds coincide.

    Args:
        scores: ``label`` (good or bad) and ``pred_score`` (raw) of each test image of one cell.
    """
    import altair as alt

    good, bad = _good_and_bad(scores)
    everything = np.concatenate([good, bad])
    if not len(everything):
        return empty_figure("No image has a score.")
    edges = np.histogram_bin_edges(everything, bins=_HISTOGRAM_BINS)
    names = [f"good ({len(good)})", f"bad ({len(bad)})"]
    bars = pd.concat(
        [
            pd.DataFrame({"class": name, "start": edges[:-1], "end": edges[1:], "share": _shares(values, edges)})
            for name, values in zip(names, (good, bad), strict=True)
        ]
    )
    height = _HEADROOM * max(1.0, float(bars["share"].max()))
    room = 0.02 * float(np.ptp(edges))
    x_ends = [float(f"{end:.6g}") for end in (edges[0] - room, edges[-1] + room)]
    x = alt.X(
        field="start", type="quantitative", title="raw score", scale=alt.Scale(domain=x_ends, nice=False, zero=False)
    )
    y = alt.Y(
        field="share",
        type="quantitative",
        title="share, %",
        scale=alt.Scale(domain=[0, float(f"{height:.6g}")], nice=False),
        axis=alt.Axis(tickCount=6),
    )
    legend = alt.Legend(title=None, values=[name for name, of in zip(names, (good, bad), strict=True) if len(of)])
    by_class: dict[str, Any] = {"field": "class", "type": "nominal", "legend": legend}
    filling = {**by_class, "type": "ordinal", "sort": None, "scale": alt.Scale(domain=names, range=[0.55, 0.1])}
    histogram = (
        alt.Chart(inline(bars[bars["share"] > 0]))
        .mark_bar(strokeWidth=1.2)
        .encode(
            x=x,
            x2="end",
            y=y,
            y2=alt.Y2(datum=0),
            color=alt.Color(**by_class, scale=alt.Scale(domain=names)),
            stroke=alt.Stroke(**by_class, scale=alt.Scale(domain=names)),
            fillOpacity=alt.FillOpacity(**filling),
            tooltip=tooltip(
                ("class", "images"), ("start", "from", ".4~g"), ("end", "to", ".4~g"), ("share", "share, %", ".1f")
            ),
        )
    )
    layers = [histogram, *_thresholds(score_thresholds(scores), names, height, (edges[0] + edges[-1]) / 2, x, y)]
    return finished(alt.layer(*layers).properties(width=WIDTH, height=_HEIGHT), legend=names)


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count the values between the edges, in percent of all."""
    return 100 * np.histogram(values, edges)[0] / max(len(values), 1)


def _thresholds(found: Thresholds, names: list[str], height: float, middle: float, x: Any, y: Any) -> list[Any]:
    """Draw the thresholds as vertical lines and, on the side where there is more room, their names.

    The tops of the lines and the names below them are at two shares of the height, so that two names never meet.
    """
    import altair as alt

    layers: list[Any] = []
    for name, threshold, share, meaning, of_class, dash, top in (
        ("PG2", found.pg2, found.good_below_pg2, "good below", names[1], [6, 4], 1.0),
        ("PB2", found.pb2, found.bad_above_pb2, "bad above", names[0], [2, 3], 0.84),
    ):
        if not np.isfinite(threshold):
            continue
        line = {
            "start": threshold,
            "share": top * height,
            "name": name,
            "text": f"{name} at {threshold:.4g}\n{100 * share:.1f} % of {meaning}",
            "meaning": f"{100 * share:.1f} % of {meaning}",
            "class": of_class,
        }
        color = alt.Color(field="class", type="nominal", scale=alt.Scale(domain=names))
        base = alt.Chart(inline([line])).encode(x=x, y=y)
        side: dict[str, Any] = {"align": "left", "dx": 6} if threshold < middle else {"align": "right", "dx": -6}
        place = {**side, "baseline": "top", "lineBreak": "\n", "dy": 2}
        text = base.encode(text=alt.Text(field="text", type="nominal"))
        layers += [
            base.mark_rule(strokeWidth=2.5, strokeDash=dash).encode(
                y2=alt.Y2(datum=0),
                color=color,
                tooltip=tooltip(("name", "threshold"), ("start", "raw score", ".4~g"), ("meaning", "recognised")),
            ),
            text.mark_text(**place, style="halo"),  # the other threshold may pass behind
            text.mark_text(**place),
        ]
    return layers


def _good_and_bad(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    values = scores["pred_score"].to_numpy(dtype=float)
    is_bad = (scores["label"] == "bad").to_numpy()
    finite = np.isfinite(values)
    return values[finite & ~is_bad], values[finite & is_bad]
