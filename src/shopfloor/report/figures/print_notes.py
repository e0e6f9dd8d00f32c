"""Shapes and annotations of plotly figures on matplotlib axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shopfloor.report.figures.print_axes import Sheet
from shopfloor.report.figures.print_text import plain_text
from shopfloor.report.figures.print_traces import POINTS_PER_PIXEL, as_numbers, check_known, colour, dash, one_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform

_TEXT_PIXELS = 12  # plotly's own
_ANNOTATION = {
    "align", "arrowcolor", "arrowhead", "arrowsize", "arrowwidth", "ax", "ay", "bgcolor", "bordercolor", "borderpad",
    "borderwidth", "captureevents", "font", "hovertext", "name", "opacity", "showarrow", "standoff", "startstandoff",
    "text", "textangle", "visible", "x", "xanchor", "xref", "xshift", "y", "yanchor", "yref", "yshift",
}  # fmt: skip
_SHAPE = {
    "fillcolor", "layer", "legendgroup", "line", "name", "opacity", "showlegend", "type", "visible", "x0", "x1", "xref",
    "y0", "y1", "yref",
}  # fmt: skip


def _reference(sheet: Sheet, name: str, other: str) -> tuple[Axes, Transform]:
    """The axes that a reference (``paper``, ``x2``, ``x2 domain``) means and the transform of its coordinates."""
    if name == "paper":
        return sheet.paper, sheet.paper.transAxes
    place = 0 if name[0] == "x" else 1
    short = name.removesuffix(" domain")
    panels = [panel.axes for pair, panel in sheet.panels.items() if pair[place] == short]
    if not panels:
        raise ValueError(
            f"This cannot be printed: something at {name!r} and {other!r}, which are no axes of the figure."
        )
    return panels[0], panels[0].transAxes if name.endswith(" domain") else panels[0].transData


def add_shape(sheet: Sheet, shape: Mapping[str, Any]) -> None:
    """Draw a line or a rectangle.

    Raises:
        ValueError: Another shape, or a setting that is not drawn; it is named.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.transforms import blended_transform_factory

    check_known(shape, _SHAPE, "a shape")
    kind = one_of({"line": "line", "rect": "rect"}, shape.get("type"), "a shape of the type")
    refs = str(shape.get("xref", "x")), str(shape.get("yref", "y"))
    (axes, horizontal), (other, vertical) = _reference(sheet, *refs), _reference(sheet, *refs[::-1])
    x, y = [as_numbers([shape[f"{key}{end}"] for end in (0, 1)]) for key in "xy"]
    line = shape.get("line", {})
    check_known(line, ("color", "dash", "width"), "the line of a shape")
    look = {
        "transform": blended_transform_factory(horizontal, vertical),
        "alpha": shape.get("opacity"),
        "linewidth": line.get("width", 2) * POINTS_PER_PIXEL,
        "linestyle": dash(line.get("dash")),
        "zorder": 0.5 if shape.get("layer") == "below" else 3.5,
        "clip_on": False,
    }
    target = axes if axes is not sheet.paper else other
    if kind == "line":
        target.add_artist(Line2D(x, y, color=colour(line.get("color")), **look))
    else:
        corner, size = (x.min(), y.min()), (np.ptp(x), np.ptp(y))
        face = colour(shape.get("fillcolor"), "rgba(0,0,0,0)")
        target.add_artist(Rectangle(corner, *size, facecolor=face, edgecolor=colour(line.get("color")), **look))


def add_annotation(sheet: Sheet, annotation: Mapping[str, Any]) -> None:
    """Write a text, with an arrow or a line from it to its place where it has one.

    Raises:
        ValueError: A setting that is not drawn; it is named.
    """
    check_known(annotation, _ANNOTATION, "an annotation")
    refs = str(annotation.get("xref", "x")), str(annotation.get("yref", "y"))
    (axes, horizontal), (other, vertical) = _reference(sheet, *refs), _reference(sheet, *refs[::-1])
    # On a logarithmic axis plotly wants exponents here, unlike for shapes.
    x, y = [
        10 ** float(annotation[key]) if " " not in ref and ref != "paper" and is_log else float(annotation[key])
        for key, ref, is_log in (
            ("x", refs[0], axes.get_xscale() == "log"),
            ("y", refs[1], other.get_yscale() == "log"),
        )
    ]
    has_arrow = annotation.get("showarrow", True)
    shift = (annotation.get("ax", -10), -annotation.get("ay", -30)) if has_arrow else (0, 0)
    font = {**sheet.layout.get("font", {}), **annotation.get("font", {})}
    anchors = [_anchor(annotation, key, ref, place) for key, ref, place in (("x", refs[0], x), ("y", refs[1], y))]
    arrow = {"arrowstyle": "-" if annotation.get("arrowhead", 1) == 0 else "->", "shrinkA": 0, "shrinkB": 1}
    arrow |= {
        "color": colour(annotation.get("arrowcolor")),
        "linewidth": annotation.get("arrowwidth", 1) * POINTS_PER_PIXEL,
    }
    box = {"facecolor": colour(annotation.get("bgcolor"), "#ffffff"), "edgecolor": "none", "pad": 1.0}
    (axes if axes is not sheet.paper else other).annotate(
        plain_text(annotation.get("text", "")),
        (x, y),
        xycoords=(horizontal, vertical),
        xytext=tuple(
            (offset + annotation.get(name, 0)) * POINTS_PER_PIXEL
            for offset, name in zip(shift, ("xshift", "yshift"), strict=True)
        ),
        textcoords="offset points",
        ha=anchors[0],
        va=anchors[1],
        multialignment=annotation.get("align", "center"),
        rotation=-float(annotation.get("textangle", 0)),
        fontsize=font.get("size", _TEXT_PIXELS) * POINTS_PER_PIXEL,
        color=colour(font.get("color")),
        alpha=annotation.get("opacity"),
        arrowprops=arrow if has_arrow else None,
        bbox=box if annotation.get("bgcolor") else None,
        annotation_clip=False,
        zorder=5,
        parse_math=False,
    )


def _anchor(annotation: Mapping[str, Any], key: str, ref: str, place: float) -> str:
    """Which part of the text is at the place; plotly chooses by the place on the paper where nothing is said."""
    names = ("left", "center", "right") if key == "x" else ("bottom", "middle", "top")
    wanted = annotation.get(f"{key}anchor", "auto")
    if wanted == "auto":
        on_paper = ref == "paper" and not annotation.get("showarrow", True)
        wanted = names[int(np.searchsorted((1 / 3, 2 / 3), place))] if on_paper else names[1]
    one_of(dict.fromkeys(names), wanted, "a text anchored at the")
    return "center" if wanted == "middle" else str(wanted)
