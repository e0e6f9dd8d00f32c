"""Draw a metric of every category and detector."""

from __future__ import annotations

from typing import Any

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
from shopfloor.report.tables.baseline import baseline_of

_LEAST_PIXELS = 40  # of a category, so that its two lines of text have room
_DETECTOR_PIXELS = 9
_BETWEEN_PIXELS = 16  # from one category to the next


def metric_by_category(category_table: pd.DataFrame, metric: str) -> Chart:
    """Draw a dot per category and detector with one standard deviation over the seeds; one panel per image size.

    Only the baseline on the full test set is drawn. A failed or missing cell has no dot; where the metric is not
    available there is no line either.

    Args:
        category_table: As `shopfloor.report.tables.value_tables.category_table` makes it.
        metric: Name of a metric.
    """
    import altair as alt

    lines = _lines(category_table, metric)
    drawn = lines.dropna(subset=["value"])
    if drawn.empty:
        return empty_figure(f"No detector has a value of {label_of(metric)}.")
    detectors = list(category_table["detector"].unique())
    shown = list(drawn["detector"].unique())
    x = alt.X(
        field="value",
        type="quantitative",
        **percent_axis(metric, float(drawn["low"].min()), float(drawn["high"].max())),
    )
    sizes = list(drawn["image_size"].unique())
    looks = by_detector(detectors, shown, "color", "shape")
    panels = []
    for size in sizes:
        panel = _panel(lines[lines["image_size"] == size], metric, x, looks, shown)
        panels.append(panel.properties(title=f"{size} px") if len(sizes) > 1 else panel)
    return finished(alt.vconcat(*panels) if len(panels) > 1 else panels[0], legend=shown)


def _lines(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Choose the lines to draw: names, ``value``, ``low``, ``high`` in percent, NaN for a hole, what it ``says``."""
    names = ["dataset", "category", "detector", "image_size"]
    table = baseline_of(table).rows_of(table)
    table = table.reindex(columns=[*names, "not_available", metric, f"{metric}_sd"])
    able = table["not_available"].fillna("").map(lambda text: metric not in text.split()).astype(bool)
    lines, table = table.loc[able, names], table[able]
    value, spread = 100 * table[metric].astype(float), 100 * table[f"{metric}_sd"].astype(float)
    around = spread.fillna(0)
    return lines.assign(value=value, low=value - around, high=value + around, says=with_spread(value, spread))


def _panel(lines: pd.DataFrame, metric: str, x: Any, looks: dict[str, Any], shown: list[str]) -> Any:
    """Draw the dots of one image size."""
    import altair as alt

    pairs = zip(lines["category"], lines["dataset"], strict=True)
    lines = lines.assign(place=[f"{one_line(category)}\n{one_line(dataset)}" for category, dataset in pairs])
    places = list(lines["place"].unique())
    y = alt.Y(
        field="place",
        type="nominal",
        sort=None,
        title=None,
        scale=alt.Scale(domain=places),
        axis=alt.Axis(labelExpr="split(datum.label, '\\n')", grid=True, tickBand="extent", ticks=False),
    )
    row = alt.YOffset(field="detector", type="nominal", sort=None, scale=alt.Scale(domain=[*map(one_line, shown)]))
    base = alt.Chart().encode(y=y, yOffset=row)
    bars = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X(field="low", type="quantitative"), x2="high", color=looks["color"]
    )
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x,
        **looks,
        tooltip=tooltip(
            ("dataset", "dataset"),
            ("category", "category"),
            ("detector", "detector"),
            ("says", label_of(metric)),
        ),
    )
    height = len(places) * max(_LEAST_PIXELS, _BETWEEN_PIXELS + _DETECTOR_PIXELS * len(shown))
    drawn = lines.dropna(subset=["value"])
    return alt.layer(dots, bars, data=inline(drawn)).properties(width=WIDTH, height=height)
