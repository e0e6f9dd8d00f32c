"""Draw tiles on a figure of matplotlib and turn it into a picture; all lengths in inches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image


TEXT_COLOUR = "#1f2933"


def new_figure(width: float, height: float, dpi: int) -> Figure:
    """Make an empty white figure that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_tile(figure: Figure, left: float, bottom: float, side: float) -> Axes:
    """Add an empty square without axes; its place is counted from the lower left corner of the figure."""
    width, height = figure.get_size_inches()
    tile = figure.add_axes((left / width, bottom / height, side / width, side / height))
    tile.set_axis_off()
    return tile


def titled_grid(tiles: int, columns: int, side: float, title: float, dpi: int) -> tuple[Figure, list[Axes]]:
    """Make a figure of squares without axes, row by row, with room for a title above each."""
    rows = -(-tiles // columns)
    figure = new_figure(columns * side, rows * (side + title), dpi)
    figure.set_layout_engine("constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place in places:
        place.set_axis_off()
    return figure, places[:tiles]


def picture_of(figure: Figure) -> Image.Image:
    """Draw a figure of this module."""
    from PIL import Image

    canvas: Any = figure.canvas
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
