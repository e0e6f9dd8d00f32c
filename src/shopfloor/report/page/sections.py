"""Sections of the page that only some runs have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shopfloor.report.page.pictures import Plot
from shopfloor.report.page.tables import Table, named_metric, text_table

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """A part of the page that only some runs have.

    Attributes:
        id: Anchor of the section.
        title: Its heading.
        text: How to read it.
        ready_made: Tables that are HTML already, each with its own escaping.
        tables: Sortable tables.
        plots: Figures.
        pictures: Kind of its pictures, an attribute of `shopfloor.report.page.pictures.PagePictures`; empty for none.
    """

    id: str
    title: str
    text: str
    ready_made: list[Markup] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    pictures: str = ""


def paper_section(against_paper: pd.DataFrame, paper_tables: Sequence[str]) -> Section:
    """Make the section of the paper's tables, and of what it published beside what was measured.

    Args:
        against_paper: Published numbers beside the measured ones.
        paper_tables: The paper's tables as HTML.
    """
    from markupsafe import Markup

    compared = named_metric(against_paper)
    tables = [text_table("Paper against measured", compared)] if len(compared) else []
    return Section("paper", "The paper's tables", _PAPER_TEXT, [Markup(text) for text in paper_tables], tables)


def certainty_section(tables: Mapping[str, pd.DataFrame], ranks: list[Plot]) -> Section:
    """Make the section of intervals, differences and ranks.

    Args:
        tables: The tables of the experiment by name.
        ranks: The critical-difference diagram, if there is something to see on it.
    """
    means, differences = named_metric(tables["mean_intervals"]), named_metric(tables["differences"])
    shown = [
        text_table("Means with their intervals", means, percent=("value", "low", "high")),
        text_table("Differences between detectors", differences, percent=("difference", "low", "high")),
        text_table("Average ranks", tables["rank_table"]),
    ]
    return Section("certainty", "How sure", _CERTAINTY_TEXT, tables=[each for each in shown if each.lines], plots=ranks)


def picture_sections() -> list[Section]:
    """Make the sections of pictures only."""
    return [
        Section("foreground", "Foreground", _FOREGROUND_TEXT, pictures="foregrounds"),
        Section("side_by_side", "Side by side", _SIDE_BY_SIDE_TEXT, pictures="side_by_side"),
    ]


_PAPER_TEXT = (
    "The same results in the shape of the paper's tables, percent; — stands where something is missing, n/a where it "
    "cannot be had, both named below the table. Beside this page they lie as CSV, Markdown and LaTeX."
)
_CERTAINTY_TEXT = (
    "Percent. The intervals come from drawing the test images again and again, good and bad each for themselves; all "
    "detectors are given the same draws. They say what other test images of these categories would change; other "
    "parts or another training are not in them. Ranks compare the detectors category by category."
)
_SIDE_BY_SIDE_TEXT = (
    "What the detectors make of the same images: those on which they disagree most, a bad image that all score low, "
    "and a good image that they score high."
)
_FOREGROUND_TEXT = (
    "Where detectors that make defects of textures take the part to be, in some training images; the rest is darkened. "
    "The first are those with the least and the most foreground. A mask that is wrong here puts defects on background."
)
