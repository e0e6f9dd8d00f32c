"""Draw a metric against what an experiment's conditions differ in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.metrics.entries import label_of
from shopfloor.report.figures.style import (
    WIDTH,
    Chart,
    by_detector,
    empty_figure,
    finished,
    inline,
    one_line,
    percent_axis,
    tooltip,
    with_spread,
)

_PANEL_PIXELS = 220
_APART = ("image_size", "condition", "test_set")
"""Columns of a comparison that make panels of their own where their values differ."""


class Tick(NamedTuple):
    """A column of a comparison and where it stands on the axis."""

    column: str
    x: float
    label: str = ""


def comparison_figures(
    table: pd.DataFrame,
    shown: Sequence[str],
    ticks: Sequence[Tick],
    x_title: str,
    metrics: pd.DataFrame,
    is_logarithmic: bool = False,
) -> tuple[Chart, ...]:
    """Draw each metric of a comparison, see `comparison_figure`.

    Args:
        table: As there.
        shown: The metrics to draw.
        ticks: As there.
        x_title: As there.
        metrics: All metrics of the experiment, which know all its detectors.
        is_logarithmic: As there.
    """
    detectors = list(metrics["detector"].unique())
    return tuple(comparison_figure(table, each, ticks, x_title, is_logarithmic, detectors) for each in shown)


def comparison_figure(
    table: pd.DataFrame,
    metric: str,
    ticks: Sequence[Tick],
    x_title: str,
    is_logarithmic: bool = False,
    detectors: Sequence[str] = (),
) -> Chart:
    """Draw lines over the columns of a comparison, one per detector, one panel per dataset.

    A missing point is a gap. Bands are one standard deviation over the seeds, bars where a point has no neighbour.
    Sizes, conditions and test sets that stand in lines of their own have panels of their own.

    Args:
        table: As those of `shopfloor.report.tables.comparison`.
        metric: A metric of the table.
        ticks: Its columns that are drawn.
        x_title: What these are.
        is_logarithmic: Whether equal factors are equal steps.
        detectors: All detectors of the run, by whose order each has its look; those of the table if not given.
    """
    import altair as alt

    lines = table[table["metric"] == metric]
    columns = [tick.column for tick in ticks]
    lines = lines[lines.reindex(columns=columns).notna().any(axis="columns")]
    if lines.empty:
        return empty_figure(f"No detector has a value of {label_of(metric)} to compare.")
    shown = list(lines["detector"].unique())
    looks = by_detector(list(detectors) or list(table["detector"].unique()), shown, "color", "shape", "strokeDash")
    titles = _titles(lines)
    panels = []
    for place, title in enumerate(titles.unique(), start=1):
        x = _x(ticks, x_title if place == titles.nunique() else None, is_logarithmic)
        panels.append(_panel(_points(lines[titles == title], ticks), metric, x, x_title, looks).properties(title=title))
    return finished(alt.vconcat(*panels), legend=shown)


def _titles(lines: pd.DataFrame) -> pd.Series:
    """Name the panel of each line: its dataset and what else makes it a line of its own."""
    titles = lines["dataset"].map(one_line)
    for name in _APART:
        if name in lines and lines[name].nunique() > 1:
            titles = titles + ", " + lines[name].astype(str).map(one_line) + (" px" if name == "image_size" else "")
    return titles


def _points(lines: pd.DataFrame, ticks: Sequence[Tick]) -> pd.DataFrame:
    """List the points of a panel, in percent, NaN for a hole.

    A point is alone that has a spread, but no neighbour that a band could reach.
    """
    found = []
    for line in lines.reindex(
        columns=["detector", *(name for tick in ticks for name in (tick.column, f"{tick.column}_sd"))]
    ).to_dict("records"):
        value = 100 * np.array([line[tick.column] for tick in ticks], dtype=float)
        spread = 100 * np.array([line[f"{tick.column}_sd"] for tick in ticks], dtype=float)
        known = np.pad(np.isfinite(value) & np.isfinite(spread), 1)
        points = {
            "detector": line["detector"],
            "x": [tick.x for tick in ticks],
            "tick": [tick.label or f"{tick.x:g}" for tick in ticks],
            "value": value,
            "low": value - spread,
            "high": value + spread,
            "spread": spread,
            "says": with_spread(pd.Series(value), pd.Series(spread)),
            "alone": known[1:-1] & ~known[:-2] & ~known[2:],
        }
        found.append(pd.DataFrame(points))
    return pd.concat(found, ignore_index=True)


def _x(ticks: Sequence[Tick], title: str | None, is_logarithmic: bool) -> Any:
    """Make the axis of the columns, with some room on both sides."""
    import altair as alt

    places = np.array([tick.x for tick in ticks], dtype=float)
    on_axis = np.log(places) if is_logarithmic else places
    room = 0.04 * float(np.ptp(on_axis)) or 1.0
    ends = [on_axis.min() - room, on_axis.max() + room]
    names = {f"{tick.x:g}": tick.label for tick in ticks if tick.label}
    labels: dict[str, Any] = {"labelExpr": f"({json.dumps(names)})[datum.value]"} if names else {"format": "~g"}
    return alt.X(
        field="x",
        type="quantitative",
        title=title,
        scale=alt.Scale(
            type="log" if is_logarithmic else "linear",
            domain=[float(f"{end:.6g}") for end in (np.exp(ends) if is_logarithmic else ends)],
            nice=False,
            zero=False,
        ),
        axis=alt.Axis(
            values=[float(place) for place in places],
            **labels,
        ),
    )


def _panel(points: pd.DataFrame, metric: str, x: Any, x_title: str, looks: dict[str, Any]) -> Any:
    """Draw the lines, bands and bars of one panel."""
    import altair as alt

    spread = points["spread"].fillna(0)
    low, high = (points["value"] - spread).min(), (points["value"] + spread).max()
    y = alt.Y(field="value", type="quantitative", **percent_axis(metric, low, high))
    base = alt.Chart().encode(x=x, color=looks["color"])
    ends = {"y": alt.Y(field="low", type="quantitative"), "y2": alt.Y2(field="high")}
    fill = alt.Fill(field="detector", type="nominal", sort=None, legend=None, scale=looks["color"]["scale"])
    band = alt.Chart().mark_area(opacity=0.15).encode(x=x, **ends, fill=fill)
    bars = base.transform_filter(alt.FieldEqualPredicate(field="alone", equal=True)).mark_rule(strokeWidth=1.5)
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=looks["strokeDash"])
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=y,
        shape=looks["shape"],
        tooltip=tooltip(
            ("detector", "detector"),
            ("tick", x_title),
            ("says", label_of(metric)),
        ),
    )
    layers = [line, band, *([bars.encode(**ends)] if points["alone"].any() else []), dots]
    return alt.layer(*layers, data=inline(points.drop(columns="spread"))).properties(width=WIDTH, height=_PANEL_PIXELS)
