"""Noisy labels: a share of the training images is bad and labelled good (protocol 4.5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, NamedTuple

import pandas as pd

from shopfloor.entries import AtLeastOne, Percentage, WholeNumber
from shopfloor.experiments.experiment import Experiment, Step, Tables, figure_titles
from shopfloor.perturbations.splits import noisy_split
from shopfloor.planning.axes import Axes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, Condition
from shopfloor.planning.settings import ExperimentSettings
from shopfloor.report.figures.comparison import Tick, comparison_figures
from shopfloor.report.figures.style import Chart
from shopfloor.report.page.change import Change
from shopfloor.report.page.sections import Section
from shopfloor.report.page.tables import comparison_tables
from shopfloor.report.tables.baseline import training_kind
from shopfloor.report.tables.comparison import LINE, Selection, compare

METRICS = ("image_auroc", "image_pg2", "image_pb2", "pixel_aupro")
"""The metrics of its tables (protocol 4.5)."""


class NoisyLabelsSettings(ExperimentSettings):
    """What the experiment is told.

    Attributes:
        noise_percent: Shares of the good training images that bad ones take the place of.
        minimum_bad_test_images: Bad test images that must remain (protocol 4.5).
    """

    noise_percent: Annotated[tuple[Percentage, ...], AtLeastOne]
    minimum_bad_test_images: WholeNumber = 5


def expand(axes: Axes, settings: NoisyLabelsSettings) -> Iterable[Cell]:
    """Make every level on its own test set and on the one that all levels of a seed share.

    The clean column is the model evaluation's: full test set, first seed. ``clean_same_test`` measures that same
    training on the common test set of each seed.
    """
    noises = [_noise(level, settings.minimum_bad_test_images) for level in sorted(settings.noise_percent)]
    for cell in axes.cells(settings):
        for each in (replace(cell, seed=settings.seeds[0]), *(replace(cell, condition=noise) for noise in noises)):
            yield each
            yield replace(each, common_draw=noises[-1], common_seed=cell.seed)


def _noise(level: float, minimum_bad: int) -> Condition:
    split = bind(noisy_split, noise_percent=level, minimum_bad=minimum_bad)
    return Condition(f"noise_{level:g}", f"noise_{level:g}", "noise", level, minimum_bad, make_split=split)


class NoiseLevel(NamedTuple):
    """A share of mislabelled training images.

    Attributes:
        condition: Name of the training condition; in the comparison that of the column of its own test set.
        percent: The share; 0 for clean training images.
    """

    condition: str
    percent: float

    @property
    def same_test(self) -> str:
        """The column of the comparison that holds the value on the test set that all levels share."""
        return f"{self.condition}_same_test"


def noise_levels(metrics: pd.DataFrame) -> list[NoiseLevel]:
    """List clean training and the shares of mislabelled images of a table, ascending; nothing without such a share."""
    noisy = metrics[metrics["condition_kind"] == "noise"]
    found = zip(noisy["condition"], noisy["condition_amount"].astype(float), strict=True)
    levels = [NoiseLevel(str(name), percent) for name, percent in dict.fromkeys(found)]
    return sorted([NoiseLevel("clean", 0.0), *levels], key=lambda level: level.percent) if levels else []


def make_noise_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Compare the metrics of protocol 4.5 at every share of mislabelled training images.

    Args:
        metrics: All metrics of the experiment.

    Returns:
        Columns ``clean``, ``noise_4``, ... hold the value on the own test set of each level, ``clean_same_test``,
        ``noise_4_same_test``, ... on the test set that the largest level leaves, the same images for all levels.
    """
    levels, noisy = noise_levels(metrics), metrics[metrics["condition_kind"] == "noise"]
    chosen = metrics[
        training_kind(metrics).isin(["clean", "noise"])
        & metrics["dataset"].isin(noisy["dataset"])
        & metrics["detector"].isin(noisy["detector"])
        & metrics["test_set_kind"].isin(["full", "common"])
    ]

    def trained_with(level: NoiseLevel) -> Selection:
        return {"condition": level.condition, "condition_kind": "noise" if level.percent else "clean"}

    own = {level.condition: {**trained_with(level), "test_set_kind": "full"} for level in levels}
    same = {level.same_test: {**trained_with(level), "test_set_kind": "common"} for level in levels}
    return compare(chosen, {**own, **same}, METRICS, [*LINE, "image_size"])


def draw_noise_figure(metrics: pd.DataFrame, noise_table: pd.DataFrame) -> tuple[Chart, ...]:
    """Draw each metric of protocol 4.5 against the share of mislabelled training images.

    The levels are compared on the test set that the largest level leaves, the same images for all levels; where that
    is not there, on each level's own test set.

    Args:
        metrics: All metrics of the experiment.
        noise_table: As :func:`make_noise_table` makes it.

    Returns:
        One figure per metric.
    """
    shared = _is_shared(metrics)
    ticks = [Tick(level.same_test if shared else level.condition, level.percent) for level in noise_levels(metrics)]
    return comparison_figures(noise_table, METRICS, ticks, "mislabelled training images, %", metrics)


def _is_shared(metrics: pd.DataFrame) -> bool:
    """Whether there is a test set that all levels share."""
    return bool((metrics["test_set_kind"] == "common").any())


def find_change(tables: Tables) -> Change | None:
    """Tell what the largest level changes against clean training, on the test set that both share."""
    if not (levels := noise_levels(tables["metrics"])):
        return None
    clean, *_, largest = levels
    label = f"AUROC change, {largest.percent:g} % wrong labels"
    return Change(label, tables["noise_table"], clean.same_test, largest.same_test)


def sections(tables: Tables) -> list[Section]:
    """Make the section that compares the levels."""
    levels = noise_levels(tables["metrics"])
    labels = {level.condition: f"{level.percent:g} %" if level.percent else "clean" for level in levels}
    if _is_shared(tables["metrics"]):
        labels |= {level.same_test: f"{labels[level.condition]}, same test" for level in levels}
    return [Section("noise", "Noisy labels", _TEXT, tables=comparison_tables(tables["noise_table"], labels))]


_TEXT = (
    "Percent, against the share of training images that are bad but labelled good. These images left the test set, so "
    "each level has a test set of its own; the columns “same test” compare all levels on the test set that the largest "
    "one leaves."
)

EXPERIMENT = Experiment(
    "noisy_labels",
    NoisyLabelsSettings,
    expand,
    steps=(
        Step(make_noise_table, ("metrics",), ("noise_table",)),
        Step(
            draw_noise_figure,
            ("metrics", "noise_table"),
            figures=figure_titles("noise", METRICS, "against mislabelled training images, same test images"),
        ),
    ),
    find_change=find_change,
    sections=sections,
)
