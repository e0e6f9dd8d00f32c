"""The critical-difference diagram: average ranks, and bars over detectors that they do not tell apart (Demsar 2006)."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING

import pandas as pd

from shopfloor.metrics.entries import label_of
from shopfloor.report.figures.style import (
    GRID_COLOUR,
    TEXT_COLOUR,
    TEXT_PIXELS,
    detector_styles,
    empty_figure,
    numbers,
    safe,
)
from shopfloor.report.statistics.ranks import Ranking

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_ROW_PIXELS = 30
_BAR_STEP = 0.5  # rows from one bar to the next
_BAR_PIXELS = 7
_BEYOND = 0.08  # ranks that a bar goes beyond its detectors
_PHONE_CHARACTERS = 50  # as many as stand in a line on a phone, the names of the detectors included
_LEAST_CHARACTERS = 24
_MOST_NAMES = 5  # of categories that are left out


def rank_figure(ranking: Ranking) -> Figure:
    """Detectors at their average ranks, the best on the left and on top, each with its name at the side.

    Above them lie the critical difference and one bar over each set of detectors that are not told apart. Where
    nothing was tested there are ranks only, and the figure says why.

    Args:
        ranking: The ranks; detectors without a rank are named under them.
    """
    table = ranking.table.dropna(subset=["rank"])
    last = max(len(table), 2)
    bars = len(ranking.groups)
    top = -(_BAR_STEP * (bars + 1) + 1.0) if ranking.critical_difference is not None else -0.6
    notes = _notes(ranking)
    height = int(_ROW_PIXELS * (len(table) - top + 1)) + 70 + 17 * len(notes)
    label = label_of(ranking.metric)
    figure = empty_figure(height, f"average rank by {label}, 1 is best", "")
    _add_detectors(figure, table, detector_styles(pd.DataFrame({"detector": ranking.detectors})), top)
    for place, group in enumerate(ranking.groups):
        ranks = table.set_index("detector").loc[list(group), "rank"]
        ends = [float(ranks.min()) - _BEYOND, float(ranks.max()) + _BEYOND]
        _add_bar(figure, ends, -_BAR_STEP * (bars - place), f"not told apart: {', '.join(map(safe, group))}")
    if ranking.critical_difference is not None:
        _add_critical_difference(figure, ranking.critical_difference, last, top + 0.8)
    figure.update_xaxes(range=numbers([1 - 0.15, last + 0.5]), tickvals=list(range(1, last + 1)), side="top")
    figure.update_yaxes(
        range=numbers([max(len(table), 1) - 0.4, top]),
        tickvals=list(range(len(table))),
        ticktext=[safe(name) for name in table["detector"]],
        showgrid=False,
    )
    figure.add_annotation(
        text="<br>".join(notes),
        showarrow=False,
        align="left",
        **{"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": 0, "yanchor": "top", "yshift": -8},
        font={"size": TEXT_PIXELS, "color": TEXT_COLOUR},
    )
    return figure.update_layout(showlegend=False, margin={"t": 48, "b": 16 + 17 * len(notes)})


def _notes(ranking: Ranking) -> list[str]:
    """What stands under the ranks, in lines that a phone can show."""
    blocks = len(ranking.blocks)
    counted = (
        f"{blocks} categor{'y' if blocks == 1 else 'ies'}, {ranking.image_size} px, {ranking.condition} training data"
    )
    texts = [f"{counted}. {ranking.verdict}"]
    unranked = ranking.table.loc[ranking.table["rank"].isna(), "detector"]
    if len(unranked):
        texts.append(f"Without a rank: {', '.join(unranked)}.")
    if ranking.left_out:
        more = len(ranking.left_out) - _MOST_NAMES
        named = ", ".join(ranking.left_out[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        texts.append(f"Left out, not there for all: {named}.")
    width = max(_LEAST_CHARACTERS, _PHONE_CHARACTERS - max(map(len, ranking.table["detector"]), default=0))
    return [html.escape(line, quote=False) for text in texts for line in textwrap.wrap(text, width)]


def _add_detectors(figure: Figure, table: pd.DataFrame, styles: dict[str, dict[str, str]], top: float) -> None:
    """A stem from the axis to the row of each detector, a thin line from there to its name, and its mark."""
    for row, (detector, rank) in enumerate(zip(table["detector"], table["rank"], strict=True)):
        style = styles[detector]
        figure.add_shape(
            type="line",
            xref="paper",
            x0=0,
            x1=1,
            y0=row,
            y1=row,
            line={"color": GRID_COLOUR, "width": 1},
            layer="below",
        )
        figure.add_scatter(
            x=numbers([rank, rank]),
            y=numbers([top, row]),
            mode="lines",
            line={"color": style["color"], "width": 1.5},
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=numbers([rank]),
            y=[row],
            mode="markers+text",
            marker={"color": style["color"], "symbol": style["symbol"], "size": 11},
            text=[f"{rank:.2f}"],
            textposition="middle right",
            textfont={"size": TEXT_PIXELS, "color": TEXT_COLOUR},
            cliponaxis=False,
            name=safe(detector),
            hovertemplate=f"{safe(detector)}: %{{x:.2f}}<extra></extra>",
        )


def _add_bar(figure: Figure, ends: list[float], y: float, hint: str) -> None:
    """A thick line over a set of detectors."""
    figure.add_scatter(
        x=numbers(ends),
        y=numbers([y, y]),
        mode="lines",
        line={"color": TEXT_COLOUR, "width": _BAR_PIXELS},
        hovertemplate=f"{hint}<extra></extra>",
    )


def _add_critical_difference(figure: Figure, length: float, last: int, y: float) -> None:
    """A line as long as the critical difference, from the best rank on; one longer than the axis is cut."""
    figure.add_scatter(
        x=numbers([1, min(1 + length, last + 0.5)]),
        y=numbers([y, y]),
        mode="lines+markers",
        line={"color": TEXT_COLOUR, "width": 1.5},
        marker={"symbol": "line-ns", "size": 9, "color": TEXT_COLOUR, "line": {"color": TEXT_COLOUR, "width": 1.5}},
        hovertemplate=f"critical difference: {length:.2f} ranks<extra></extra>",
    )
    figure.add_annotation(
        x=1,
        y=y,
        text=f"critical difference {length:.2f}",
        showarrow=False,
        xanchor="left",
        yanchor="bottom",
        yshift=5,
        bgcolor="rgba(255,255,255,0.85)",  # stems pass behind
        font={"size": TEXT_PIXELS, "color": TEXT_COLOUR},
    )
