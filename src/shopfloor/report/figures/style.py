"""The look that all figures of the report share.

The colours are those of Okabe and Ito (2008), which people with colour-blindness can tell apart; detectors also differ
in marker and dash, so that a black-and-white print can be read.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Grey takes the place of their yellow, which is hardly seen on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
GRID_COLOUR = "#e3e6ea"
TEXT_COLOUR = "#1f2933"
TEXT_PIXELS = 12
PIXELS_PER_CHARACTER = 7
"""About as wide as a character of `TEXT_PIXELS` is: room is made for labels before anything is drawn."""

_MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon", "hexagram", "bowtie")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_LONGEST_NAME = 48
_LABEL_LUMINANCE = 0.18  # contrast of 4.6 on white: WCAG 2.1 asks for 4.5


def detector_styles(metrics: pd.DataFrame) -> dict[str, dict[str, str]]:
    """The look of each detector (``color``, ``symbol``, ``dash``), the same in all figures of a run."""
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

    return Figure(layout=figure_layout(height)).update_xaxes(axis(x_title)).update_yaxes(axis(y_title))


def figure_layout(height: int) -> dict[str, Any]:
    """The layout of a figure, without its axes; the height is in pixels, the width that of the page."""
    return {
        "template": "none",  # plotly's own template would be most of the file
        "height": height,
        "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": TEXT_COLOUR},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 8, "r": 12, "t": 24, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": TEXT_PIXELS}},
        "dragmode": False,  # a finger on a phone scrolls the page
        "hoverlabel": {"bgcolor": "#ffffff"},
    }


def axis(title: str) -> dict[str, Any]:
    """The look of an axis."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 13}},
        "automargin": True,
        "gridcolor": GRID_COLOUR,
        "zeroline": False,
        "linecolor": "#9aa5b1",
        "ticks": "outside",
        "tickcolor": "#9aa5b1",
    }


def transparent(colour: str) -> str:
    """The colour ``#rrggbb`` as it fills a band or a bar behind something else."""
    red, green, blue = _channels(colour)
    return f"rgba({red},{green},{blue},0.15)"


def readable(colour: str) -> str:
    """The colour ``#rrggbb``, darkened as far as a text on white needs it."""
    channels = np.array(_channels(colour)) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    if luminance <= _LABEL_LUMINANCE:
        return colour
    linear = linear * _LABEL_LUMINANCE / luminance
    darker = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{int(255 * channel):02x}" for channel in darker)


def percent(values: pd.Series) -> list[float | None]:
    """Fractions as percentages, None where there is no number."""
    return [None if np.isnan(value) else value for value in numbers(100 * values)]


def numbers(values: Iterable[Any]) -> list[float]:
    """Plain floats with few digits: plotly would store arrays in base 64, longer than this."""
    return [float(f"{value:.6g}") for value in values]


def safe(name: str) -> str:
    """A name from disk as plotly text, which plotly reads as a small subset of HTML."""
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    return html.escape(short, quote=False)


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue
