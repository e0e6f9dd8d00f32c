"""Sections of the page that only some runs have, such as a comparison of conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shopfloor.report.page.pictures import PagePictures, Pictures, Plot, pictures_that_fit, plots
from shopfloor.report.page.tables import (
    Column,
    Table,
    as_field,
    comparison_tables,
    named_metric,
    page_table,
    text_table,
)
from shopfloor.report.statistics.drift_alarm import SUMMARY_KEYS
from shopfloor.report.tables.comparison import (
    domain_table,
    drift_table,
    noise_levels,
    noise_table,
    size_table,
    stopping_table,
)
from shopfloor.report.tables.value_tables import METRICS

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

    from shopfloor.report.page.results import Results


@dataclass(frozen=True)
class Section:
    """A part of the page that only some runs have.

    Attributes:
        id: Anchor of the section.
        title: Its heading.
        text: How to read it.
        findings: What follows from it, in sentences.
        ready_made: Tables that are HTML already, each with its own escaping.
        tables: Sortable tables.
        plots: Figures.
        pictures: Pictures.
    """

    id: str
    title: str
    text: str
    findings: list[str] = field(default_factory=list)
    ready_made: list[Markup] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    pictures: Pictures = field(default_factory=Pictures)

    @property
    def is_empty(self) -> bool:
        return not (self.findings or self.ready_made or self.tables or self.plots or self.pictures.shown)


def sections(results: Results, pictures: PagePictures) -> list[Section]:
    """The sections that this run has something for, in the order of the page."""
    metrics = results.metrics
    found = [
        _paper_section(results),
        _certainty_section(results),
        Section("noise", "Noisy labels", _NOISE_TEXT, tables=_noise_tables(metrics)),
        Section("sizes", "Input size", _SIZE_TEXT, tables=_size_tables(metrics)),
        _drift_section(results, pictures),
        Section("domains", "Natural drift", _DOMAIN_TEXT, tables=_domain_tables(metrics)),
        Section("stopping", "Stopping", _STOPPING_TEXT, tables=_stopping_tables(metrics, results.costs)),
        Section("foreground", "Foreground", _FOREGROUND_TEXT, pictures=pictures_that_fit(pictures, "foregrounds")),
        Section(
            "side_by_side", "Side by side", _SIDE_BY_SIDE_TEXT, pictures=pictures_that_fit(pictures, "side_by_side")
        ),
    ]
    return [section for section in found if not section.is_empty]


def _paper_section(results: Results) -> Section:
    """The paper's tables, and what it published beside what was measured."""
    from markupsafe import Markup

    compared = named_metric(results.against_paper)
    tables = [text_table("Paper against measured", compared)] if len(compared) else []
    return Section(
        "paper",
        "The paper's tables",
        _PAPER_TEXT,
        ready_made=[Markup(text) for text in results.paper_tables.values()],
        tables=tables,
    )


def _certainty_section(results: Results) -> Section:
    """Intervals, differences and ranks."""
    means, differences = named_metric(results.mean_intervals), named_metric(results.differences)
    tables = [
        text_table("Means with their intervals", means, percent=("value", "low", "high")),
        text_table("Differences between detectors", differences, percent=("difference", "low", "high")),
        text_table("Average ranks", results.rank_table),
    ]
    return Section(
        "certainty",
        "How sure",
        _CERTAINTY_TEXT,
        tables=[table for table in tables if table.lines],
        plots=plots({"Average ranks": results.rank_figure}) if len(results.rank_table) > 1 else [],
    )


def _drift_section(results: Results, pictures: PagePictures) -> Section:
    tables = comparison_tables(drift_table(results.metrics), {"no_drift": "no drift", "drift": "drift"})
    if results.drift_alarm_table is not None and len(results.drift_alarm_table):
        alarm = results.drift_alarm_table
        shares = [str(name) for name in alarm if name not in (*SUMMARY_KEYS, "missing")]
        tables.append(text_table("Drift alarm", alarm, percent=shares))
    if results.drift_counts is not None:
        tables.append(text_table("Drawn transforms", results.drift_counts))
    return Section("drift", "Drift", _DRIFT_TEXT, tables=tables, pictures=pictures_that_fit(pictures, "galleries"))


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
_NOISE_TEXT = (
    "Percent, against the share of training images that are bad but labelled good. These images left the test set, so "
    "each level has a test set of its own; the columns “same test” compare all levels on the test set that the largest "
    "one leaves."
)
_SIZE_TEXT = (
    "Percent, against the side of the square model input in pixels. Pixel metrics of different sizes are measured "
    "against different masks: compare detectors with them rather than sizes."
)
_DRIFT_TEXT = (
    "Percent, on the test images as they are and with one or two changes of camera position, lighting or image "
    "quality. Training images never drift. The spread is that of the drift seeds; masks follow the geometry, and a bad "
    "image whose defect left the picture stays bad. The shape of the shadow is an assumption: the paper gives only its "
    "number of layers and factor. The drift alarm asks whether the scores of good parts alone betray "
    "the drift: of single images (probability that a drifted one scores higher; below 50 where drift lowers scores), "
    "and of batches (probability that a drifted batch is the stranger one, and share of drifted batches found where 5 "
    "% of the clean ones may raise the alarm)."
)
_DOMAIN_TEXT = (
    "Percent, per recording condition. A test set of several conditions is measured on each, and the mean is shown."
)
_STOPPING_TEXT = (
    "Percent, and epochs: how many were trained, and which was the best on the held-out images. With a rule the state "
    "of the best epoch is tested, at full length that of the last. All rows have the same training images; the "
    "held-out ones were cut from the training data and are in no test set."
)


def _noise_tables(metrics: pd.DataFrame) -> list[Table]:
    levels = noise_levels(metrics)
    labels = {level.condition: f"{level.percent:g} %" if level.percent else "clean" for level in levels}
    if (metrics["test_set_kind"] == "common").any():
        labels |= {level.same_test: f"{labels[level.condition]}, same test" for level in levels}
    return comparison_tables(noise_table(metrics), labels)


def _size_tables(metrics: pd.DataFrame) -> list[Table]:
    sizes = map(str, sorted(metrics["image_size"].unique()))
    return comparison_tables(size_table(metrics), {size: size for size in sizes})


def _domain_tables(metrics: pd.DataFrame) -> list[Table]:
    names = map(str, metrics.loc[metrics["test_set_kind"] == "domains", "test_set"].unique())
    return comparison_tables(domain_table(metrics), {name: name for name in names})


def _stopping_tables(metrics: pd.DataFrame, costs: pd.DataFrame) -> list[Table]:
    """Metrics of each rule as of any value table, with the epochs before what is missing."""
    table = stopping_table(metrics, costs)
    if table.empty:
        return []
    shown = [name for name in METRICS if name in table.columns]
    plain = page_table("Rules of stopping", table, shown, [Column(METRICS[name], is_number=True) for name in shown])
    place = [column.label for column in plain.columns].index(METRICS[shown[-1]]) + 1
    columns = list(plain.columns)
    columns[place:place] = [Column("Epochs trained", is_number=True), Column("Best epoch", is_number=True)]
    lines = [
        [*line[:place], as_field(row["stopped_epoch"]), as_field(row["best_epoch"]), *line[place:]]
        for line, row in zip(plain.lines, table.to_dict("records"), strict=True)
    ]
    return [Table(plain.name, columns, lines, plain.shared)]
