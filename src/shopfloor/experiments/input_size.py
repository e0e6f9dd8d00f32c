"""Input size: the same trainings at several image sizes (protocol 4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
from pydantic import field_validator

from shopfloor.entries import AnyNumber, Names, Percentage, Settings, Text, WholeNumber, refusal
from shopfloor.experiments.experiment import Experiment, Step, Tables, figure_titles
from shopfloor.perturbations.splits import share_split
from shopfloor.planning.axes import Axes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, Condition
from shopfloor.planning.errors import joined
from shopfloor.planning.settings import ExperimentSettings
from shopfloor.report.figures.comparison import Tick, comparison_figures
from shopfloor.report.figures.style import Chart
from shopfloor.report.page.change import Change
from shopfloor.report.page.sections import Section
from shopfloor.report.page.tables import comparison_tables
from shopfloor.report.tables.comparison import LINE, TEST_SET, TRAINING, compare

METRICS = ("image_auroc", "pixel_f1max", "image_pg2")
"""The metrics of its tables (protocol 4.2)."""


class TrainingShare(Settings):
    """Where a detector is trained on a part of the good training images, because memory forbids all.

    Attributes:
        detector: Name of the detector.
        image_size: Side of the model input, in pixels.
        datasets: Names of datasets, or ``dataset/category``.
        percent: Share of the good training images.
    """

    detector: Text
    image_size: WholeNumber
    datasets: Names
    percent: Percentage

    def asks_for(self, cell: Cell) -> bool:
        """Whether it is about a cell."""
        names = {cell.dataset, f"{cell.dataset}/{cell.category}"}
        same = (cell.detector, cell.image_size) == (self.detector, self.image_size)
        return same and not names.isdisjoint(self.datasets)


class InputSizeSettings(ExperimentSettings):
    """What the experiment is told.

    Attributes:
        training_share: Where a part of the training images has to do (protocol 4.2).
    """

    training_share: Annotated[tuple[TrainingShare, ...], AnyNumber] = ()

    @field_validator("training_share", mode="before")
    @classmethod
    def _whole(cls, shares: Any) -> Any:
        """An entry that lacks a key is quoted whole: it has no name."""
        needed = TrainingShare.model_fields.keys()
        for share in shares if isinstance(shares, list) else ():
            if not isinstance(share, Mapping) or not share.keys() >= needed:
                raise refusal(f"each entry needs the keys {joined(needed)}, found {share!r}.")
        return shares


def expand(axes: Axes, settings: InputSizeSettings) -> Iterable[Cell]:
    """Make the cells of every size; where memory forbids all training images, of a share of them."""
    for cell in axes.cells(settings):
        percent = next((share.percent for share in settings.training_share if share.asks_for(cell)), None)
        yield replace(cell, condition=_share_of(percent)) if percent else cell


def _share_of(percent: float) -> Condition:
    split = bind(share_split, percent=percent)
    return Condition("clean", f"share_{percent:g}", "share", percent, make_split=split)


def make_size_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Compare the metrics of protocol 4.2 at every input size.

    Args:
        metrics: All metrics of the experiment.

    Returns:
        Columns ``128``, ``256``, ... pixels, as of :func:`shopfloor.report.tables.comparison.compare`.
    """
    sizes = _sizes(metrics)
    columns = {str(size): {"image_size": size} for size in sizes} if len(sizes) > 1 else {}
    return compare(metrics, columns, METRICS, [*LINE, *TRAINING, *TEST_SET])


def draw_size_figure(metrics: pd.DataFrame, size_table: pd.DataFrame) -> tuple[Chart, ...]:
    """Draw each metric of protocol 4.2 against the input size, each doubling a step.

    Args:
        metrics: All metrics of the experiment.
        size_table: As :func:`make_size_table` makes it.

    Returns:
        One figure per metric.
    """
    ticks = [Tick(str(size), float(size)) for size in _sizes(metrics)]
    return comparison_figures(size_table, METRICS, ticks, "image size, pixels", metrics, is_logarithmic=True)


def find_change(tables: Tables) -> Change | None:
    """Tell what the largest size changes against the smallest."""
    sizes = _sizes(tables["metrics"])
    if len(sizes) < 2:
        return None
    label = f"AUROC change, {sizes[0]} to {sizes[-1]} px"
    return Change(label, tables["size_table"], str(sizes[0]), str(sizes[-1]))


def sections(tables: Tables) -> list[Section]:
    """Make the section that compares the sizes."""
    sizes = map(str, _sizes(tables["metrics"]))
    compared = comparison_tables(tables["size_table"], {size: size for size in sizes})
    return [Section("sizes", "Input size", _TEXT, tables=compared)]


def _sizes(metrics: pd.DataFrame) -> list[int]:
    return sorted(metrics["image_size"].unique())


_TEXT = (
    "Percent, against the side of the square model input in pixels. Pixel metrics of different sizes are measured "
    "against different masks: compare detectors with them rather than sizes."
)

EXPERIMENT = Experiment(
    "input_size",
    InputSizeSettings,
    expand,
    steps=(
        Step(make_size_table, ("metrics",), ("size_table",)),
        Step(
            draw_size_figure,
            ("metrics", "size_table"),
            figures=figure_titles("size", METRICS, "against the input size"),
        ),
    ),
    find_change=find_change,
    sections=sections,
)
