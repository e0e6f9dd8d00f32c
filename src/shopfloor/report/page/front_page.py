"""One page over the reports of all experiments: the answers first, then where to read on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from shopfloor.report.page.report import page_parts, page_template
from shopfloor.report.page.tables import Column, Field, Table
from shopfloor.runners.missing import MissingResult


def render_front_page(summaries: Mapping[str, Mapping[str, Any] | MissingResult]) -> str:
    """The page as one HTML text.

    Args:
        summaries: What `shopfloor.report.page.summary.summarise` says about each experiment, by name, in
            the order of the page. An experiment whose summary is outdated or failed is named with the reason and has
            no numbers; a missing one was not run.

    Returns:
        HTML that links to ``<experiment>/report.html`` beside it.
    """
    known = [summary for summary in summaries.values() if not isinstance(summary, MissingResult)]
    missing = {name: hole for name, hole in summaries.items() if isinstance(hole, MissingResult)}
    return page_template("front_page.html").render(
        experiments=known,
        holes={name: hole for name, hole in missing.items() if hole.status != "missing"},
        not_run=[name for name, hole in missing.items() if hole.status == "missing"],
        scoreboard=_scoreboard(known),
        **page_parts(with_figures=False),
    )


def _scoreboard(experiments: list[Mapping[str, Any]]) -> Table:
    """One line per detector; a column belongs to one experiment, and what was not run is empty."""
    columns: dict[tuple[str, str], Column] = {}
    values: dict[tuple[str, str, str], float | None] = {}
    detectors: dict[str, None] = {}
    for summary in experiments:
        for detector, numbers in summary["detectors"].items():
            detectors.setdefault(detector)
            for label, value in numbers.items():
                columns.setdefault((summary["experiment"], label), Column(label, summary["title"], is_number=True))
                values[(detector, summary["experiment"], label)] = value
    best = _best(columns, values)
    lines = [
        [Field(detector, detector), *(_field(values, detector, column, best[column]) for column in columns)]
        for detector in detectors
    ]
    return Table("Detectors", [Column("Detector"), *columns.values()], lines)


def _best(
    columns: Mapping[tuple[str, str], Column], values: Mapping[tuple[str, str, str], float | None]
) -> dict[tuple[str, str], str]:
    """The best value of each column as it is printed: the shortest time, the largest of anything else."""
    found = {}
    for experiment, label in columns:
        known = [value for (_, *column), value in values.items() if column == [experiment, label] and value is not None]
        choose = min if label.endswith("ms") else max
        found[(experiment, label)] = _printed(choose(known), label) if len(known) > 1 else ""
    return found


def _field(
    values: Mapping[tuple[str, str, str], float | None], detector: str, column: tuple[str, str], best: str
) -> Field:
    key = (detector, *column)
    if key not in values:
        return Field("–")
    value = values[key]
    if value is None or pd.isna(value):
        return Field("✗ incomplete", hole=True)
    text = _printed(value, column[1])
    return Field(text, value, best=text == best)


def _printed(value: float, label: str) -> str:
    return f"{value:+.1f}" if "change" in label else f"{value:.1f}"
