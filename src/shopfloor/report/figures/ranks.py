"""Draw the critical-difference diagram: average ranks, and bars over detectors not told apart (Demsar 2006)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from shopfloor.metrics.entries import label_of
from shopfloor.report.figures.style import WIDTH, Chart, by_detector, empty_figure, finished, inline, one_line, tooltip
from shopfloor.report.statistics.ranks import Ranking

_ROW_PIXELS = 28
_BAR_STEP = 0.5  # rows from one bar to the next
_BAR_PIXELS = 7
_BEYOND = 0.08  # ranks that a bar goes beyond its detectors
_MOST_NAMES = 5  # of categories that are left out


def rank_figure(ranking: Ranking) -> Chart:
    """Draw detectors at their average ranks, the best on the left and on top, each with its name at the side.

    Above them lie the critical difference and one bar over each set of detectors that are not told apart. Where
    nothing was tested there are ranks only, and the figure says why.

    Args:
        ranking: The ranks; detectors without a rank are named under them.
    """
    import altair as alt

    table = ranking.table.dropna(subset=["rank"])[["detector", "rank"]].reset_index(drop=True)
    if table.empty:
        return empty_figure(" ".join(_notes(ranking)))
    last, is_tested = max(len(table), 2), ranking.critical_difference is not None
    top = -(_BAR_STEP * (len(ranking.groups) + 1) + 1.0) if is_tested else -0.6
    bottom = len(table) - 0.4
    x = alt.X(
        field="rank",
        type="quantitative",
        title=f"average rank by {label_of(ranking.metric)}, 1 is best",
        scale=alt.Scale(domain=[0.85, last + 0.5], nice=False, zero=False),
        axis=alt.Axis(orient="top", values=list(range(1, last + 1)), tickCount=last, format="d"),
    )
    y = alt.Y(
        field="row",
        type="quantitative",
        axis=None,
        scale=alt.Scale(domain=[bottom, top], nice=False, zero=False),
    )
    layers = _detectors(table.assign(row=table.index, top=top), ranking.detectors, x, y)
    if ranking.groups:
        layers.append(_bars(ranking, y))
    if ranking.critical_difference is not None:
        layers += _critical_difference(ranking.critical_difference, last, top + 0.8, x, y)
    chart = alt.layer(*layers).properties(width=WIDTH, height=int(_ROW_PIXELS * (bottom - top)))
    return finished(chart, notes=_notes(ranking))


def _notes(ranking: Ranking) -> list[str]:
    """Say what stands under the ranks."""
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
    return texts


def _detectors(table: pd.DataFrame, detectors: tuple[str, ...], x: Any, y: Any) -> list[Any]:
    """Draw a stem from the axis to the row of each detector, a thin line from there to its name, and its mark."""
    import altair as alt

    looks = {
        name: channel.copy()
        for name, channel in by_detector(list(detectors), table["detector"], "color", "shape").items()
    }
    for channel in looks.values():
        channel.legend = None
    base = alt.Chart(inline(table)).encode(y=y)
    name = alt.Text(field="detector", type="nominal")
    stem = alt.Y(field="top", type="quantitative", axis=None)
    return [
        base.mark_rule(style="grid").encode(x=alt.value(0), x2=alt.value("width")),
        base.mark_rule(strokeWidth=1.5).encode(x=x, y=stem, y2="row", color=looks["color"]),
        base.mark_point(filled=True, size=110, opacity=1).encode(
            x=x, **looks, tooltip=tooltip(("detector", "detector"), ("rank", "average rank", ".2f"))
        ),
        base.mark_text(align="left", dx=9).encode(x=x, text=alt.Text(field="rank", type="quantitative", format=".2f")),
        base.mark_text(align="right", dx=-8, limit=150).encode(x=alt.value(0), text=name),
    ]


def _bars(ranking: Ranking, y: Any) -> Any:
    """Draw a thick line over each set of detectors that are not told apart."""
    import altair as alt

    ranks = ranking.table.set_index("detector")["rank"]
    lines = [
        {
            "low": ranks[list(group)].min() - _BEYOND,
            "high": ranks[list(group)].max() + _BEYOND,
            "row": -_BAR_STEP * (len(ranking.groups) - place),
            "names": ", ".join(map(one_line, group)),
        }
        for place, group in enumerate(ranking.groups)
    ]
    return (
        alt.Chart(inline(lines))
        .mark_rule(strokeWidth=_BAR_PIXELS)
        .encode(
            x=alt.X(field="low", type="quantitative"),
            x2="high",
            y=y,
            tooltip=tooltip(("names", "not told apart")),
        )
    )


def _critical_difference(length: float, last: int, row: float, x: Any, y: Any) -> list[Any]:
    """Draw a line as long as the critical difference, from the best rank on; one longer than the axis is cut."""
    import altair as alt

    end = min(1 + length, last + 0.5)
    texts = {"text": f"critical difference {length:.2f}", "length": length}
    base = alt.Chart(inline([{"rank": 1, "end": end, "row": row, **texts}])).encode(y=y)
    ends = alt.Chart(inline([{"rank": 1, "row": row}, {"rank": end, "row": row}])).encode(x=x, y=y)
    name = {"x": x, "text": alt.Text(field="text", type="nominal")}
    place: dict[str, Any] = {"align": "left", "baseline": "bottom", "dy": -6}
    hint = tooltip(("length", "critical difference", ".2f"))
    return [
        base.mark_rule(strokeWidth=1.5).encode(x=x, x2="end", tooltip=hint),
        ends.mark_tick(orient="vertical", thickness=1.5, size=9, style="strong"),
        base.mark_text(**place, style="halo").encode(**name),  # stems pass behind
        base.mark_text(**place).encode(**name),
    ]
