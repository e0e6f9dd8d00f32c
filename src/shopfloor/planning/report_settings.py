"""Settings of what the reports say beyond the protocol's metrics: intervals, alarms and the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from shopfloor.entries import (
    AnyNumber,
    AtLeastOne,
    Expected,
    Keys,
    Name,
    Names,
    Number,
    OneOf,
    OrNone,
    Seed,
    Settings,
    Text,
    WholeNumber,
)


class BootstrapSettings(Settings):
    """Intervals over test images.

    Attributes:
        resamples: How often the images are drawn.
        level: Share of draws inside an interval.
        seed: Seed of the draws.
    """

    resamples: WholeNumber
    level: Annotated[int | float, Field(gt=0, lt=1), Expected("a number between 0 and 1")]
    seed: Seed


class DriftAlarmSettings(Settings):
    """How well scores of good images tell drifted from clean ones.

    Attributes:
        batch_sizes: Numbers of images of a batch.
        repetitions: How many batches are drawn.
        false_alarms: Share of clean batches that may raise the alarm.
        seed: Seed of the draws.
    """

    batch_sizes: Annotated[tuple[WholeNumber, ...], AtLeastOne]
    repetitions: WholeNumber
    false_alarms: Annotated[int | float, Field(gt=0, lt=1), Expected("a number between 0 and 1")]
    seed: Seed


class CaseSettings(Settings):
    """A column of a block of a table: one value of what varies.

    Attributes:
        value: That value.
        label: Head of the column; ``{name}`` stands for the dataset or the mean.
        published: The case's name in the published numbers, by dataset where it differs.
    """

    value: Any
    label: Text
    published: Any


class ColumnsSettings(Settings):
    """A block of columns of a table.

    Attributes:
        datasets: Names of datasets; one column each, or one for their mean.
        mean: Name of that mean; None for columns by dataset.
        vary: Column of the metrics table that the cases are values of.
        fixed: Values of other columns.
        cases: The cases.
        open: Whether other values that the run has join.
        leave_out: Values that do not.
    """

    datasets: Names
    mean: Text | None = None
    vary: Text
    fixed: Keys = {}
    cases: Annotated[tuple[CaseSettings, ...], AtLeastOne]
    open: bool = False
    leave_out: Annotated[tuple[Any, ...], AnyNumber] = ()


class TableSettings(Settings):
    """One of the paper's tables.

    Attributes:
        experiment: Whose report shows it.
        title: Its title.
        caption: What is said below it.
        methods: Its rows.
        lines: Metrics of a cell, line by line.
        columns: Its columns, in blocks.
    """

    experiment: Text
    title: Text
    caption: Text
    methods: Names
    lines: Annotated[tuple[Annotated[tuple[Text, ...], AtLeastOne], ...], AtLeastOne]
    columns: Annotated[tuple[ColumnsSettings, ...], AtLeastOne]


class PaperTablesSettings(Settings):
    """The paper's tables.

    Attributes:
        rows_and_columns: Whether rows and columns are those of the ``run`` or the ``paper``'s lists.
        image_size: Side of the model input of all tables but those of the input size, in pixels.
        methods: Names of detectors as the paper prints them.
        datasets: Names of datasets as the paper prints them.
        categories: Number of categories that the paper's value of a dataset is the mean of.
        without_masks: Datasets whose pixel values never enter a table or a mean.
        tolerance: By metric, points of percent (or epochs) within which a number counts as reproduced.
        tables: The tables by name.
    """

    rows_and_columns: Annotated[str, OneOf("run", "paper")]
    image_size: WholeNumber
    methods: Annotated[Mapping[str, Text], OrNone]
    datasets: Annotated[Mapping[str, Text], OrNone]
    categories: Annotated[Mapping[str, WholeNumber], OrNone]
    without_masks: Annotated[tuple[Name, ...], AnyNumber]
    tolerance: Annotated[Mapping[str, Number], OrNone]
    tables: Annotated[Mapping[str, TableSettings], OrNone]
