"""Give all figures of the report one look, in light and dark.

Colours of words, lines and grounds stand in the configuration of a chart and nowhere else, so that a page can put the
dark one in its place. Detectors also differ in marker and dash, so that a black-and-white print can be read.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shopfloor.metrics.entries import label_of

if TYPE_CHECKING:
    from altair import TopLevelMixin as Chart
else:
    Chart = Any  # kedro reads annotations when it plans, and altair takes half a second to import

#: The colours of Okabe and Ito (2008), which people with colour-blindness can tell apart. Grey takes the place of
#: their yellow, which is hardly seen on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
_IN_THE_DARK = {"#000000": "#F4F4F4", "#0072B2": "#2E8BC9"}
TEXT_COLOUR = "#1f2933"
#: Pixels of a panel; a page makes it as wide as there is room.
WIDTH = 560
#: About as wide as a character is: room is made for labels before anything is drawn.
CHARACTER_PIXELS = 7
LINE_PIXELS = 16
#: Characters of a line of notes, so that a phone shows it whole.
NOTE_CHARACTERS = 48

_X = "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z"
_STAR = "M0,-1L.24,-.32L.95,-.31L.38,.12L.59,.81L0,.4L-.59,.81L-.38,.12L-.95,-.31L-.24,-.32Z"
_HOURGLASS = "M-.9,-.9L.9,-.9L-.9,.9L.9,.9Z"
_MARKERS = (
    "circle", "square", "diamond", "triangle-up", "cross", _X, _STAR, "triangle-down", "triangle-right", _HOURGLASS,
)  # fmt: skip
_DASHES = ([1, 0], [6, 4], [2, 3], [8, 3, 2, 3], [12, 4], [12, 3, 2, 3, 2, 3])
_LONGEST_LEGEND = 30  # characters; a name that is longer ends in dots
_BEYOND = 1.5  # percent, so that a marker at 0 or 100 is whole
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def look(is_dark: bool = False) -> dict[str, Any]:
    """Make the configuration that all charts share.

    Args:
        is_dark: For a dark ground, on which black becomes white and blue lighter.
    """
    text, quiet, grid, ground = (
        ("#e4e9ee", "#9fb0c0", "#33404d", "#1a2129") if is_dark else (TEXT_COLOUR, "#616e7c", "#e3e6ea", "#ffffff")
    )
    colours = [_IN_THE_DARK.get(colour, colour) if is_dark else colour for colour in OKABE_ITO]
    return {
        "background": ground,
        "padding": 8,
        "font": "sans-serif",
        "range": {"category": colours},
        "view": {"stroke": None},
        "concat": {"spacing": 24},
        "axis": {
            "labelColor": text,
            "titleColor": text,
            "gridColor": grid,
            "domainColor": quiet,
            "tickColor": quiet,
            "labelFontSize": 12,
            "titleFontSize": 13,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "labelLimit": 150,
        },
        "axisX": {"tickCount": 7},
        "legend": {
            "orient": "top",
            "labelColor": text,
            "titleColor": text,
            "symbolBaseStrokeColor": text,
            "labelFontSize": 12,
            "labelLimit": _LONGEST_LEGEND * CHARACTER_PIXELS,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "symbolSize": 80,
            "symbolStrokeWidth": 2,
        },
        "title": {"color": text, "fontSize": 13, "anchor": "start", "frame": "group", "offset": 6, "limit": WIDTH},
        "text": {"color": text, "fontSize": 12},
        "rule": {"color": text},
        "style": {
            "grid": {"color": grid},
            "quiet": {"color": quiet},
            "strong": {"color": text},
            "halo": {"fill": ground, "stroke": ground, "strokeWidth": 5},
        },
    }


def by_detector(detectors: Sequence[str], drawn: Iterable[str], *channels: str) -> dict[str, Any]:
    """Make the encodings by which a detector has the same look in all figures of a run.

    Args:
        detectors: All detectors of the run, in their order.
        drawn: Those that the legend is to name.
        channels: Some of ``color``, ``shape`` and ``strokeDash``.

    Returns:
        Channels of the field ``detector``, by name.
    """
    import altair as alt

    domain, wanted = [shown(name) for name in detectors], {shown(name) for name in drawn}
    looks: dict[str, Any] = {
        "shape": islice(cycle(_MARKERS), len(domain)),
        "strokeDash": islice(cycle(_DASHES), len(domain)),
    }
    kinds = {"color": alt.Color, "shape": alt.Shape, "strokeDash": alt.StrokeDash}
    shared: dict[str, Any] = {
        "field": "detector",
        "type": "nominal",
        "sort": None,
        "legend": alt.Legend(title=None, values=[name for name in domain if name in wanted]),
    }
    scales: dict[str, Any] = {name: {"domain": domain} for name in channels}  # colours come with the configuration
    for name in looks.keys() & scales:
        scales[name]["range"] = list(islice(looks[name], len(domain)))
    return {name: kinds[name](**shared, scale=alt.Scale(**scales[name])) for name in channels}


def finished(chart: Chart, legend: Iterable[str] = (), notes: Iterable[str] = ()) -> Chart:
    """Give a chart its look, as many columns to its legend as have room, and notes below it.

    Args:
        chart: A chart that is not part of another.
        legend: The names in its legend.
        notes: Sentences.
    """
    import altair as alt

    column = 40 + CHARACTER_PIXELS * min(max(map(len, legend), default=0), _LONGEST_LEGEND)
    lines = [line for note in notes for line in textwrap.wrap(shown(note), NOTE_CHARACTERS)]
    if lines:
        note = alt.Title(lines, orient="bottom", fontSize=12, fontWeight="normal", offset=10, frame="bounds")
        chart = alt.vconcat(chart, title=note) if isinstance(chart, alt.LayerChart) else chart.properties(title=note)
    config = look()
    config["legend"]["columns"] = max(WIDTH // column, 1)
    return chart.properties(config=alt.Config(**config), usermeta={"legendColumn": column})


def empty_figure(reason: str) -> Chart:
    """Make a chart that says in words why there is nothing to draw.

    Args:
        reason: One sentence.
    """
    import altair as alt

    lines = textwrap.wrap(shown(reason), NOTE_CHARACTERS)
    chart = (
        alt.Chart(alt.InlineData(values=[{"reason": "\n".join(lines)}]))
        .mark_text(align="left", baseline="top", fontSize=13, lineBreak="\n")
        .encode(text=alt.Text(field="reason", type="nominal"), x=alt.value(0), y=alt.value(0))
        .properties(width=WIDTH, height=20 * len(lines))
    )
    return finished(chart).properties(usermeta={"empty": True})


def is_empty(chart: Chart | Mapping[str, Any]) -> bool:
    """Tell whether a chart, or its Vega-Lite specification, has nothing to show."""
    content = chart if isinstance(chart, Mapping) else chart.to_dict(validate=False)
    return bool(content.get("usermeta", {}).get("empty"))


def inline(lines: pd.DataFrame | Sequence[Mapping[str, Any]]) -> Any:
    """Make data of a chart: texts that are safe to show, numbers of few digits, null where there is no value."""
    import altair as alt

    records = lines.to_dict("records") if isinstance(lines, pd.DataFrame) else lines
    values: Any = [{name: _plain(value) for name, value in record.items()} for record in records]
    return alt.InlineData(values=values)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return float(f"{value:.6g}") if value is not None and np.isfinite(value) else None


def shown(name: str) -> str:
    """Make a name from disk fit to be shown: what cannot be printed becomes a sign, line breaks of ours stay.

    Vega draws text as text; only what it computes with is an expression, and no name gets there.
    """
    return "\n".join(_CONTROL.sub(_sign, line) for line in str(name).split("\n"))


def one_line(name: str) -> str:
    """Make a name from disk one line."""
    return _CONTROL.sub(_sign, str(name))


def _sign(found: re.Match[str]) -> str:
    code = ord(found.group())
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"


def with_spread(values: pd.Series, spreads: pd.Series) -> list[str]:
    """Write percentages with one decimal, each with its standard deviation where it has one."""
    return [
        "" if np.isnan(value) else f"{value:.1f} %" if np.isnan(spread) else f"{value:.1f} ± {spread:.1f} %"
        for value, spread in zip(values, spreads, strict=True)
    ]


def percent_axis(metric: str, low: float, high: float) -> dict[str, Any]:
    """Make title and scale of an axis of a metric in percent, with some room beyond its values.

    Args:
        metric: Name of a metric.
        low: The least value or end of a bar, percent.
        high: The most.
    """
    import altair as alt

    room = max(0.08 * (high - low), 0.5)
    domain = [max(low - room, -_BEYOND), min(high + room, 100 + _BEYOND)]
    return {
        "title": f"{label_of(metric)}, %",
        "scale": alt.Scale(domain=[float(f"{end:.6g}") for end in domain], nice=False, zero=False),
    }


def tooltip(*lines: tuple[str, ...]) -> list[Any]:
    """Make the text that a chart shows of a point.

    Args:
        lines: Field, what a reader calls it, and the format of a number.
    """
    import altair as alt

    return [
        alt.Tooltip(field=field, title=title, type="quantitative", format=form[0])
        if form
        else alt.Tooltip(field=field, title=title, type="nominal")
        for field, title, *form in lines
    ]
