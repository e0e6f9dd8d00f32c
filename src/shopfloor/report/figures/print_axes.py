"""Axes of plotly figures as matplotlib axes: scales, ticks, grid, line, title and range."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shopfloor.report.figures.print_text import plain_text, title_text
from shopfloor.report.figures.print_traces import (
    POINTS_PER_PIXEL,
    Places,
    as_array,
    as_numbers,
    check_known,
    colour,
    one_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure as Drawing

_TEXT_PIXELS = 12  # plotly's own
_LONGEST_LABEL = 28  # characters
_AXIS = {
    "anchor", "autorange", "categoryarray", "categoryorder", "color", "domain", "dtick", "gridcolor", "gridwidth",
    "linecolor", "linewidth", "matches", "range", "side", "showgrid", "showline", "showticklabels", "tick0",
    "tickcolor", "tickfont", "ticklen", "tickmode", "ticks", "ticksuffix", "ticktext", "tickvals", "title", "type",
    "visible", "zeroline",
}  # fmt: skip
_AXIS_NOT_ON_PAPER = {
    "automargin",
    "fixedrange",
    "hoverformat",
    "layer",
    "nticks",
    "tickangle",
    "tickwidth",
    "constrain",
}


class Panel(NamedTuple):
    """Axes of the drawing and the places of the values on them."""

    axes: Axes
    x_places: Places
    y_places: Places


class Sheet(NamedTuple):
    """The whole plotting area, its panels by the names of their axes, and plotly's layout of all."""

    paper: Axes
    panels: dict[tuple[str, str], Panel]
    layout: Mapping[str, Any]


def add_panel(
    drawing: Drawing, pair: tuple[str, str], traces: list[Mapping[str, Any]], layout: Mapping[str, Any]
) -> Panel:
    """Empty axes with their scales; they are put into their place at the end."""
    axes = drawing.add_axes((0, 0, 1, 1), label="/".join(pair))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    places = []
    for name in pair:
        settings = layout.get(axis_name(name), {})
        key = name[0]
        values = [as_array(trace.get(key, ())) for trace in traces if trace.get(f"{key}axis", key) == name]
        kind = settings.get("type", "-")
        names = [value for array in values for value in array.tolist() if isinstance(value, str)]
        if kind == "category" or (kind == "-" and names):
            places.append(_set_categories(axes, key, settings, values))
            continue
        one_of({"-": 0, "linear": 0, "log": 0}, kind, "an axis of the type")
        if kind == "log":
            (axes.set_xscale if key == "x" else axes.set_yscale)("log")
        places.append(as_numbers)
    return Panel(axes, *places)


def _set_categories(axes: Axes, key: str, settings: Mapping[str, Any], values: list[np.ndarray]) -> Places:
    """An axis of names, each a step from the next, in the order of their appearance or the one that is asked for."""
    one_of({"trace": 0, "array": 0}, settings.get("categoryorder", "trace"), "the order of categories")
    asked = [str(name) for name in as_array(settings.get("categoryarray", ()))]
    found = [str(name) for array in values for name in array.tolist() if name is not None]
    place = {name: float(number) for number, name in enumerate(dict.fromkeys([*asked, *found]))}
    axis = axes.xaxis if key == "x" else axes.yaxis
    axis.set_ticks(list(place.values()), [plain_text(name) for name in place], parse_math=False)
    return lambda names: np.array([place.get(str(name), np.nan) for name in as_array(names)], dtype=float)


def set_axis(axis: XAxis | YAxis, settings: Mapping[str, Any], layout: Mapping[str, Any]) -> None:
    """Ticks, grid, line, title and range of an axis.

    Args:
        axis: Where the traces are drawn already.
        settings: Plotly's settings of this axis.
        layout: Those of the whole figure.

    Raises:
        ValueError: A setting that is not drawn; it is named.
    """
    axes, is_x = axis.axes, axis.axis_name == "x"
    check_known(settings, _AXIS | _AXIS_NOT_ON_PAPER, "an axis")
    line_side = "bottom" if is_x else "left"
    if settings.get("side", line_side) != line_side:
        axis.set_ticks_position(settings["side"])
        axis.set_label_position(settings["side"])
        axes.spines[[line_side]].set_visible(False)
        line_side = settings["side"]
        axes.spines[[line_side]].set_visible(True)
    if settings.get("visible") is False:
        axis.set_visible(False)
        axes.spines[[line_side]].set_visible(False)
    _set_ticks(axis, settings)

    font = {**layout.get("font", {}), **settings.get("tickfont", {})}
    outside = {"outside": ("out", True), "inside": ("in", True), "": ("out", False)}
    direction, has_ticks = one_of(outside, settings.get("ticks", ""), "ticks")
    spine_colour = colour(settings.get("linecolor"), "#444444")
    axis.set_tick_params(
        which="both",
        direction=direction,
        length=settings.get("ticklen", 5) * POINTS_PER_PIXEL if has_ticks else 0,
        width=0.6,
        color=colour(settings.get("tickcolor")),
        labelsize=font.get("size", _TEXT_PIXELS) * POINTS_PER_PIXEL,
        labelcolor=colour(font.get("color")),
    )
    if settings.get("showticklabels") is False:
        axis.set_tick_params(which="both", labelbottom=False, labeltop=False, labelleft=False, labelright=False)
    if settings.get("showgrid", True):
        axis.grid(True, which="major", color=colour(settings.get("gridcolor"), "#eeeeee"), linewidth=0.6, zorder=0)
    has_line = settings.get("showline", "linecolor" in settings or "linewidth" in settings)
    axes.spines[[line_side]].set(edgecolor=spine_colour, linewidth=0.6, visible=has_line and axis.get_visible())
    if settings.get("zeroline") and axis.get_scale() == "linear":
        (axes.axvline if is_x else axes.axhline)(0, color="#9aa5b1", linewidth=0.6, zorder=0.5)
    title = settings.get("title") or {}
    if title_text(title):
        size = (title.get("font", {}) if isinstance(title, Mapping) else {}).get("size", 14)
        axis.set_label_text(
            title_text(title), fontsize=size * POINTS_PER_PIXEL, color=colour(font.get("color")), parse_math=False
        )
        axis.labelpad = 4
    _set_range(axis, settings)


def _set_ticks(axis: XAxis | YAxis, settings: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MultipleLocator, NullLocator

    suffix = plain_text(settings.get("ticksuffix", ""))
    if settings.get("tickvals") is not None:
        values = as_numbers(settings["tickvals"])
        labels = settings.get("ticktext")
        texts = [f"{value:g}" for value in values] if labels is None else [str(text) for text in as_array(labels)]
        axis.set_ticks(list(values), [_wrapped(plain_text(text)) + suffix for text in texts], parse_math=False)
        axis.set_minor_locator(NullLocator())
    elif settings.get("dtick") is not None and axis.get_scale() == "linear":
        axis.set_major_locator(MultipleLocator(float(settings["dtick"]), float(settings.get("tick0", 0))))
    if suffix and settings.get("tickvals") is None:
        axis.set_major_formatter(lambda value, _: f"{value:g}{suffix}")


def _wrapped(text: str) -> str:
    """Lines that leave the plotting area its room."""
    return "\n".join("\n".join(textwrap.wrap(line, _LONGEST_LABEL)) for line in text.split("\n"))


def _set_range(axis: XAxis | YAxis, settings: Mapping[str, Any]) -> None:
    """The given range, which for logarithmic axes is one of exponents; otherwise that of the data."""
    set_limits = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    if settings.get("range") is not None:
        ends = as_numbers(settings["range"])
        set_limits(*(10**ends if axis.get_scale() == "log" else ends))
        return
    low, high = sorted(axis.get_view_interval())
    kind = one_of({"True": 1, "reversed": -1}, str(settings.get("autorange", True)), "the range")
    set_limits(*((low, high)[::kind]))


def axis_name(short: str) -> str:
    return f"{short[0]}axis{short[1:]}"


def match_limits(sheet: Sheet) -> None:
    """Axes that match one another get the limits that hold all of them."""
    for key, get, set_both in (("x", "get_xlim", "set_xlim"), ("y", "get_ylim", "set_ylim")):
        groups: dict[str, list[Axes]] = {}
        for pair, panel in sheet.panels.items():
            own = pair[0 if key == "x" else 1]
            groups.setdefault(_root(own, sheet.layout), []).append(panel.axes)
        for group in groups.values():
            ends = np.array([getattr(axes, get)() for axes in group])
            if len(group) > 1:
                is_reversed = (ends[:, 0] > ends[:, 1]).any()
                both = (ends.min(), ends.max())
                for axes in group:
                    getattr(axes, set_both)(*(both[::-1] if is_reversed else both))


def _root(name: str, layout: Mapping[str, Any]) -> str:
    """The axis that an axis matches in the end."""
    other = layout.get(axis_name(name), {}).get("matches")
    return name if not other or other == name else _root(other, layout)
