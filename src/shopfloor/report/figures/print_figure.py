"""The report's plotly figures for print, drawn with matplotlib: plotly's own export wants a Chrome on the machine.

Drawn is what the house's figures have. Anything else raises an error that names it, so that a new figure is not
printed wrongly in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shopfloor.report.figures.print_axes import Sheet, add_panel, axis_name, match_limits, set_axis
from shopfloor.report.figures.print_notes import add_annotation, add_shape
from shopfloor.report.figures.print_text import plain_text, title_text
from shopfloor.report.figures.print_traces import POINTS_PER_PIXEL, as_array, check_known, colour, draw_trace, one_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure as Drawing
    from PIL import Image
    from plotly.graph_objects import Figure

_INCHES = 6.0
_DPI = 300
_MOST_PIXELS = 2**15  # of the height: matplotlib draws no more than 2**16
_EDGE_INCHES = 0.08
_HEIGHT = 450  # plotly's own
_TEXT_PIXELS = 12

_NOT_ON_PAPER = {
    "autosize", "clickmode", "colorway", "dragmode", "hoverdistance", "hoverlabel", "hovermode", "hoversubplots",
    "meta", "modebar", "newshape", "paper_bgcolor", "plot_bgcolor", "selectdirection", "template",
    "uirevision", "width",
}  # fmt: skip
_LAYOUT = {"annotations", "bargap", "barmode", "font", "height", "legend", "margin", "shapes", "showlegend", "title"}


def print_figure(figure: Figure) -> Image.Image:
    """A figure of the report as a picture as wide as a text column, 1800 pixels.

    Args:
        figure: One of the report's figures.

    Returns:
        RGB picture, 300 pixels per inch (fewer only where the figure would be over 9 feet high).

    Raises:
        ValueError: The figure has something that this cannot draw; it is named.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    drawing = draw(figure)
    drawing.set_dpi(min(_DPI, _MOST_PIXELS / drawing.get_figheight()))
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def print_below_one_another(figures: Mapping[str, Figure]) -> Image.Image:
    """Several figures as one picture, half as large as they are alone; the title of its x axis tells whose each is.

    Args:
        figures: At least one, by name.
    """
    from PIL import Image

    from shopfloor.report.figures.style import safe

    pictures = []
    for name, figure in figures.items():
        title = figure.layout.xaxis.title.text or ""
        figure.update_xaxes(title_text=f"{safe(name)}: {title}")
        pictures.append(print_figure(figure).reduce(2))
    sheet = Image.new("RGB", (max(each.width for each in pictures), sum(each.height for each in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def draw(figure: Figure) -> Drawing:
    """The same as a matplotlib figure, 6 inches wide.

    Args:
        figure: One of the report's figures.

    Returns:
        Its axes are labelled ``paper`` (the whole plotting area, empty) and ``<x axis>/<y axis>``, such as ``x2/y2``,
        in the order of the traces.

    Raises:
        ValueError: As for `print_figure`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    content = figure.to_plotly_json()
    layout = content["layout"]
    axes_of_layout = {name: value for name, value in layout.items() if re.fullmatch(r"[xy]axis\d*", name)}
    check_known(layout, _LAYOUT | _NOT_ON_PAPER | set(axes_of_layout), "a layout")
    traces = [trace for trace in content["data"] if trace.get("visible", True) is True]
    _check_bars(traces, layout)

    inches = layout.get("height", _HEIGHT) * POINTS_PER_PIXEL / 72
    drawing = Drawing(figsize=(_INCHES, inches), dpi=100, facecolor="white")
    FigureCanvasAgg(drawing)
    paper = drawing.add_axes((0.1, 0.1, 0.85, 0.8), label="paper")
    paper.set_axis_off()
    sheet = Sheet(paper, {}, layout)
    for pair in _pairs(traces, axes_of_layout):
        sheet.panels[pair] = add_panel(drawing, pair, traces, layout)
    shown: list[tuple[Mapping[str, Any], list[Artist]]] = []
    for trace in traces:
        panel = sheet.panels[trace.get("xaxis", "x"), trace.get("yaxis", "y")]
        shown.append((trace, draw_trace(panel.axes, trace, panel.x_places, panel.y_places)))
    for pair, panel in sheet.panels.items():
        set_axis(panel.axes.xaxis, layout.get(axis_name(pair[0]), {}), layout)
        set_axis(panel.axes.yaxis, layout.get(axis_name(pair[1]), {}), layout)
    match_limits(sheet)
    for shape in layout.get("shapes", ()):
        add_shape(sheet, shape)
    for annotation in layout.get("annotations", ()):
        add_annotation(sheet, annotation)
    title = title_text(layout.get("title"))
    if title:
        paper.set_title(title, fontsize=15 * POINTS_PER_PIXEL, loc="left", parse_math=False)
    _arrange(drawing, sheet, shown)
    return drawing


def _check_bars(traces: list[Mapping[str, Any]], layout: Mapping[str, Any]) -> None:
    bars = sum(trace.get("type") == "bar" for trace in traces)
    mode = layout.get("barmode", "group")
    if bars > 1 and mode != "overlay":
        raise ValueError(f"This cannot be printed: several bar traces in the mode {mode!r}, only 'overlay'.")


def _pairs(traces: list[Mapping[str, Any]], axes_of_layout: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The axes that belong together: those of the traces, and those that no trace uses."""
    pairs = list(dict.fromkeys((str(trace.get("xaxis", "x")), str(trace.get("yaxis", "y"))) for trace in traces))
    for name, axis in axes_of_layout.items():
        own = name.replace("axis", "")
        if own.startswith("x") and all(own != x for x, _ in pairs):
            pairs.append((own, str(axis.get("anchor") or own.replace("x", "y"))))
    if len({x for x, _ in pairs}) < len(pairs) or len({y for _, y in pairs}) < len(pairs):
        raise ValueError(f"This cannot be printed: an axis that several panels share, among {pairs}.")
    return pairs or [("x", "y")]


def _arrange(drawing: Drawing, sheet: Sheet, shown: list[tuple[Mapping[str, Any], list[Artist]]]) -> None:
    """Give what stands around the plotting area its room: the area gets narrower, the drawing higher."""
    canvas: Any = drawing.canvas
    renderer = canvas.get_renderer()
    margins = np.array([0.5, 0.1, 0.4, 0.2])  # left, right, below, above
    inside = max(drawing.get_figheight() - margins[2:].sum(), 0.5)
    # The legend comes last: how many columns fit is known once the sides are.
    for add_legend in (False, False, True):
        _place(sheet, drawing, margins, inside)
        if add_legend:
            _add_legend(drawing, sheet, shown, renderer)
        box, (width, height) = drawing.get_tightbbox(renderer), drawing.get_size_inches()
        outside = np.array([-box.x0, box.x1 - width, -box.y0, box.y1 - height])
        margins = np.maximum(margins + outside + _EDGE_INCHES, 0.05)
        margins[:2] = np.minimum(margins[:2], (0.65 * width, 0.3 * width))
    _place(sheet, drawing, margins, inside)


def _place(sheet: Sheet, drawing: Drawing, margins: np.ndarray, inside: float) -> None:
    """Margins and height of the area in inches; each panel has its part (``domain``) of the area."""
    left, right, below, above = margins
    drawing.set_figheight(inside + below + above)
    width, height = drawing.get_size_inches()
    x0, y0 = left / width, below / height
    across, up = 1 - (left + right) / width, inside / height
    sheet.paper.set_position((x0, y0, across, up))
    for pair, panel in sheet.panels.items():
        (low, high), (floor, ceiling) = (
            as_array(sheet.layout.get(axis_name(name), {}).get("domain", (0, 1))).astype(float) for name in pair
        )
        panel.axes.set_position((x0 + low * across, y0 + floor * up, (high - low) * across, (ceiling - floor) * up))


def _add_legend(
    drawing: Drawing,
    sheet: Sheet,
    shown: list[tuple[Mapping[str, Any], list[Artist]]],
    renderer: RendererBase,
) -> None:
    """As many columns as fit between the margins."""
    entries = [(trace, artists[0]) for trace, artists in shown if artists and trace.get("showlegend", True)]
    is_asked_for = any(trace.get("showlegend") for trace, _ in entries)
    if not entries or not sheet.layout.get("showlegend", len(entries) > 1 or is_asked_for):
        return
    entries.sort(key=lambda entry: entry[0].get("legendrank", 1000))
    settings = sheet.layout.get("legend", {})
    is_flat = settings.get("orientation", "v") == "h"
    x, y = settings.get("x", 0 if is_flat else 1.02), settings.get("y", -0.1 if is_flat else 1)
    across = {"auto": "left", "left": "left", "center": "center", "right": "right"}
    up = {"auto": "upper" if y < 0.5 else "lower", "top": "upper", "middle": "center", "bottom": "lower"}
    vertical = one_of(up, settings.get("yanchor", "auto" if is_flat else "top"), "a legend anchored at the")
    horizontal = one_of(across, settings.get("xanchor", "left"), "a legend anchored at the")
    place: Any = "center" if vertical == horizontal else f"{vertical} {horizontal}"
    room = sheet.paper.get_window_extent(renderer).width
    size = settings.get("font", sheet.layout.get("font", {})).get("size", _TEXT_PIXELS)
    for columns in range(min(len(entries), 6) if is_flat else 1, 0, -1):
        legend = drawing.legend(
            [artist for _, artist in entries],
            ["-"] * len(entries),
            loc=place,
            bbox_to_anchor=(x, y),
            bbox_transform=sheet.paper.transAxes,
            ncols=columns,
            frameon=False,
            fontsize=size * POINTS_PER_PIXEL,
            labelcolor=colour(sheet.layout.get("font", {}).get("color")),
            handlelength=3.2,
            columnspacing=1.4,
            borderpad=0,
            borderaxespad=0.3,
        )
        for text, (trace, _) in zip(legend.get_texts(), entries, strict=True):
            # matplotlib leaves out names that begin with "_", so they are written in afterwards.
            text.set(text=plain_text(str(trace.get("name", ""))), parse_math=False)
        box = legend.get_window_extent(renderer)
        if columns == 1 or box.width <= room:
            too_far = box.x1 - (drawing.bbox.x1 - _EDGE_INCHES * drawing.dpi)
            if is_flat and too_far > 0:  # a long name may begin left of the area
                legend.set_bbox_to_anchor((x - too_far / room, y), sheet.paper.transAxes)
            return
        legend.remove()
