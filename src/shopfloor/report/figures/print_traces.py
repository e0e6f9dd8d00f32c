"""Traces of plotly figures on matplotlib axes: those that the report's figures have, and an error for any other."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shopfloor.report.figures.print_text import plain_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Trace = Mapping[str, Any]
Places = Callable[[Any], np.ndarray]
"""Turns the values of an axis into places on it; only those of an axis of names change."""

POINTS_PER_PIXEL = 6 * 72 / 640
"""A figure of the page, 640 pixels wide, becomes 6 inches: the width of a text column."""

_MARKERS: dict[str, Any] = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
    "star": "*",
    "pentagon": "p",
    "hexagon": "h",
    "hexagram": (6, 1, 0),
    "line-ns": "|",
    "line-ew": "_",
}
_BOWTIE = ((-1, -1), (-1, 1), (1, -1), (1, 1), (-1, -1))
_DASHES: dict[str, Any] = {
    "solid": "-",
    "dot": (0, (1, 1)),
    "dash": (0, (3, 2)),
    "dashdot": (0, (3, 1.5, 1, 1.5)),
    "longdash": (0, (6, 2)),
    "longdashdot": (0, (6, 1.5, 1, 1.5)),
}
_STEPS = {"linear": "default", "hv": "steps-post", "vh": "steps-pre", "hvh": "steps-mid"}

# What a reader of paper cannot see: hovering, clicking, and names that only the program uses.
_NOT_ON_PAPER = {
    "customdata", "hoverinfo", "hoverlabel", "hovertemplate", "hovertext", "ids", "legendgroup", "legendrank", "meta",
    "name", "showlegend", "type", "uid", "visible", "xaxis", "yaxis",
}  # fmt: skip
_DRAWN = {
    "scatter": {
        "cliponaxis", "connectgaps", "error_x", "error_y", "fill", "fillcolor", "line", "marker", "mode", "opacity",
        "text", "textfont", "textposition", "x", "y",
    },
    "bar": {"marker", "opacity", "width", "x", "y"},
}  # fmt: skip


def draw_trace(axes: Axes, trace: Trace, x_places: Places, y_places: Places) -> list[Artist]:
    """Draw one trace.

    Args:
        axes: Where to draw; its limits are the caller's.
        trace: A scatter (lines, markers, texts, error bars, areas that are filled to themselves) or a bar trace, as
            plain data.
        x_places: Places of its x values.
        y_places: Places of its y values.

    Returns:
        The artists by which a legend can show the trace.

    Raises:
        ValueError: A kind of trace, or an attribute of one, that this cannot draw; it is named.
    """
    kind = str(trace.get("type", "scatter"))
    if kind not in _DRAWN:
        raise ValueError(f"Traces of the type {kind!r} cannot be printed, only: {', '.join(_DRAWN)}.")
    check_known(trace, _DRAWN[kind] | _NOT_ON_PAPER, f"{kind} trace")
    x, y = x_places(trace.get("x", ())), y_places(trace.get("y", ()))
    return _draw_bars(axes, trace, x, y) if kind == "bar" else _draw_scatter(axes, trace, x, y)


def check_known(given: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    """Refuse attributes that would be left out in silence.

    Raises:
        ValueError: Some attribute is not known.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"This cannot be printed: {what} with {', '.join(unknown)}.")


def one_of(choices: Mapping[str, Any], wanted: Any, what: str) -> Any:
    """The choice that belongs to a value of a plotly attribute.

    Raises:
        ValueError: It is none of the choices.
    """
    if not isinstance(wanted, str) or wanted not in choices:
        raise ValueError(f"This cannot be printed: {what} {wanted!r}; known are {', '.join(choices)}.")
    return choices[wanted]


def colour(value: str | None, default: str = "#444444") -> Any:
    """A plotly colour (``#rrggbb``, ``rgb(...)``, ``rgba(...)`` or a name) as matplotlib takes it.

    Raises:
        ValueError: Another form.
    """
    from matplotlib.colors import to_rgba

    text = (value or default).strip().lower()
    if text.startswith("rgb"):
        numbers = [float(number) for number in text[text.index("(") + 1 : text.rindex(")")].split(",")]
        return (*(channel / 255 for channel in numbers[:3]), numbers[3] if len(numbers) > 3 else 1.0)
    return to_rgba(text)


def dash(value: str | None) -> Any:
    """A plotly dash as matplotlib's line style.

    Raises:
        ValueError: A pattern in pixels, which is not supported.
    """
    return one_of(_DASHES, value or "solid", "the dash")


def as_array(values: Any) -> np.ndarray:
    """Values of a plotly attribute; arrays that plotly wrote in base 64 are read."""
    if isinstance(values, Mapping):
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=np.dtype(values["dtype"]))
    return np.asarray(values)


def as_numbers(values: Any) -> np.ndarray:
    """The same as floats, NaN where there is none."""
    return pd.to_numeric(pd.Series(as_array(values), dtype=object), errors="raise").to_numpy(dtype=float)


def _draw_scatter(axes: Axes, trace: Trace, x: np.ndarray, y: np.ndarray) -> list[Artist]:
    mode = trace.get("mode", "lines+markers" if len(x) < 20 else "lines")
    parts = set(str(mode).split("+")) - {"none"}
    check_known(dict.fromkeys(parts), ("lines", "markers", "text"), "a scatter trace in the mode")
    if trace.get("fill", "none") != "none":
        _fill(axes, trace, x, y)
    for direction in ("x", "y"):
        if trace.get(f"error_{direction}"):
            _draw_errors(axes, trace[f"error_{direction}"], x, y, direction, _default_colour(trace))
    if "text" in parts:
        _draw_texts(axes, trace, x, y)
    if not parts & {"lines", "markers"}:
        return []
    look = {**(_line_look(trace) if "lines" in parts else {"linestyle": "none"})}
    look |= _marker_look(trace) if "markers" in parts else {}
    known = np.isfinite(x) & np.isfinite(y) if trace.get("connectgaps") else slice(None)
    clip = trace.get("cliponaxis", True) and "markers" not in parts  # plotly does not cut markers at the axis
    return list(axes.plot(x[known], y[known], clip_on=clip, alpha=trace.get("opacity"), zorder=3, **look))


def _line_look(trace: Trace) -> dict[str, Any]:
    line = trace.get("line", {})
    check_known(line, ("color", "dash", "shape", "width"), "a line")
    return {
        "color": colour(line.get("color"), _default_colour(trace)),
        "linestyle": dash(line.get("dash")),
        "linewidth": line.get("width", 2) * POINTS_PER_PIXEL,
        "drawstyle": one_of(_STEPS, line.get("shape", "linear"), "a line of the shape"),
    }


def _marker_look(trace: Trace) -> dict[str, Any]:
    from matplotlib.colors import to_rgba
    from matplotlib.path import Path

    marker = trace.get("marker", {})
    check_known(marker, ("color", "line", "opacity", "size", "symbol"), "a marker")
    several = [name for name, value in marker.items() if np.ndim(value) or (name != "line" and isinstance(value, dict))]
    if several:
        raise ValueError(f"This cannot be printed: markers of one trace that differ in {', '.join(several)}.")
    edge = marker.get("line", {})
    check_known(edge, ("color", "width"), "the edge of a marker")
    symbol = str(marker.get("symbol", "circle"))
    is_open = symbol.endswith("-open")
    filled = to_rgba(colour(marker.get("color"), _default_colour(trace)), marker.get("opacity"))
    shape = one_of(_MARKERS | {"bowtie": Path(_BOWTIE)}, symbol.removesuffix("-open"), "the marker")
    is_line = is_open or symbol.startswith("line-")
    return {
        "marker": shape,
        "markersize": marker.get("size", 6)
        * POINTS_PER_PIXEL
        * (1.3 if symbol.startswith(("star", "hexagram")) else 1),
        "markerfacecolor": "none" if is_open else filled,
        "markeredgecolor": filled if is_line and "color" not in edge else colour(edge.get("color"), "#444444"),
        "markeredgewidth": edge.get("width", 1.5 if is_line else 0) * POINTS_PER_PIXEL,
    }


def _draw_texts(axes: Axes, trace: Trace, x: np.ndarray, y: np.ndarray) -> None:
    """Texts at their points, clear of the marker."""
    font = trace.get("textfont", {})
    check_known(font, ("color", "family", "size"), "a text font")
    count = len(x)
    texts, positions = _each(trace.get("text", ""), count), _each(trace.get("textposition", "middle center"), count)
    distance = (trace.get("marker", {}).get("size", 6) / 2 + 3) * POINTS_PER_PIXEL if "markers" in trace["mode"] else 0
    for place_x, place_y, text, position in zip(x, y, texts, positions, strict=True):
        vertical, horizontal = str(position).split()
        if not text or not np.isfinite(place_x + place_y):
            continue
        up = one_of({"top": 1, "middle": 0, "bottom": -1}, vertical, "the text position")
        right = one_of({"left": -1, "center": 0, "right": 1}, horizontal, "the text position")
        axes.annotate(
            plain_text(str(text)),
            (place_x, place_y),
            xytext=(right * distance * (0.6 if up else 1), up * distance * (0.6 if right else 1)),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[right],
            va={-1: "top", 0: "center", 1: "bottom"}[up],
            fontsize=font.get("size", 12) * POINTS_PER_PIXEL,
            color=colour(font.get("color")),
            annotation_clip=False,
            zorder=4,
            parse_math=False,  # a dollar sign in a name is no formula
        )


def _draw_errors(axes: Axes, error: Mapping[str, Any], x: np.ndarray, y: np.ndarray, way: str, default: str) -> None:
    known = ("array", "arrayminus", "color", "symmetric", "thickness", "type", "visible", "width")
    check_known(error, known, "error bars")
    if error.get("type", "data") != "data":
        raise ValueError(f"This cannot be printed: error bars of the type {error['type']!r}.")
    above = as_numbers(error["array"])
    below = above if error.get("symmetric", "arrayminus" not in error) else as_numbers(error["arrayminus"])
    lengths = np.stack([below, above])
    axes.errorbar(
        x,
        y,
        xerr=lengths if way == "x" else None,
        yerr=lengths if way == "y" else None,
        fmt="none",
        ecolor=colour(error.get("color"), default),
        elinewidth=error.get("thickness", 2) * POINTS_PER_PIXEL,
        capthick=error.get("thickness", 2) * POINTS_PER_PIXEL,
        capsize=error.get("width", 4) * POINTS_PER_PIXEL,
        zorder=2.5,
    )


def _fill(axes: Axes, trace: Trace, x: np.ndarray, y: np.ndarray) -> None:
    """The areas that the points run around, each up to a gap."""
    from matplotlib.patches import Polygon

    if trace["fill"] != "toself":
        raise ValueError(f"This cannot be printed: an area filled {trace['fill']!r}, only 'toself'.")
    known = np.isfinite(x) & np.isfinite(y)
    for run in np.split(np.arange(len(x)), np.flatnonzero(~known)):
        corners = run[known[run]]
        if len(corners) > 2:
            outline = np.column_stack([x[corners], y[corners]])
            face = colour(trace.get("fillcolor"), "rgba(68,68,68,0.5)")
            axes.add_patch(Polygon(outline, closed=True, facecolor=face, edgecolor="none", linewidth=0, zorder=2))


def _draw_bars(axes: Axes, trace: Trace, x: np.ndarray, y: np.ndarray) -> list[Artist]:
    marker = trace.get("marker", {})
    check_known(marker, ("color", "opacity", "pattern"), "a bar")
    pattern = marker.get("pattern", {})
    check_known(pattern, ("bgcolor", "fgcolor", "shape", "size", "solidity"), "the pattern of a bar")
    look: dict[str, Any] = {"color": colour(marker.get("color")), "linewidth": 0}
    if pattern.get("shape"):
        hatch = one_of(
            {"/": "/", "\\": "\\", "x": "x", "-": "-", "|": "|", "+": "+", ".": "."}, pattern["shape"], "the"
        )
        ink = colour(pattern.get("fgcolor"))
        look = {"facecolor": colour(pattern.get("bgcolor"), "#ffffff"), "edgecolor": ink, "linewidth": 0.4}
        look |= {"hatch": 5 * hatch, "hatchcolor": ink, "hatch_linewidth": 0.8}
    width = as_numbers(np.atleast_1d(as_array(trace.get("width", 0.8))))
    bars = axes.bar(x, y, width, alpha=trace.get("opacity", marker.get("opacity")), zorder=2, **look)
    return [bars[0]] if len(bars) else []


def _default_colour(trace: Trace) -> str:
    """The colour that plotly gives to what has none of its own; the house's figures name theirs."""
    return trace.get("marker", {}).get("color") or trace.get("line", {}).get("color") or "#444444"


def _each(value: Any, count: int) -> list[Any]:
    """One value for each point."""
    return list(as_array(value)) if isinstance(value, list | tuple | np.ndarray | dict) else [value] * count
