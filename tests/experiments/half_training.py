"""A toy experiment, as somebody would add one: trainings on the first part of the good images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from shopfloor.entries import Percentage
from shopfloor.experiments.experiment import Experiment, Step, Tables
from shopfloor.perturbations.splits import clean_split
from shopfloor.planning.axes import Axes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, Condition
from shopfloor.planning.settings import ExperimentSettings
from shopfloor.report.figures.comparison import Tick, comparison_figure
from shopfloor.report.figures.style import Chart
from shopfloor.report.page.change import Change
from shopfloor.report.page.sections import Section
from shopfloor.report.page.tables import comparison_tables
from shopfloor.report.tables.comparison import LINE, compare

COLUMNS = {"clean": {"condition": "clean"}, "half": {"condition": "half"}}


class HalfTrainingSettings(ExperimentSettings):
    """What the experiment is told.

    Attributes:
        kept_percent: Share of the good training images that is kept.
    """

    kept_percent: Percentage


def split(index: pd.DataFrame, percent: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Keep the first good training images."""
    train, test = clean_split(index)
    kept = train.head(round(len(train) * percent / 100))
    return kept, test, train.drop(kept.index)[["image"]].assign(change="removed_from_train")


def expand(axes: Axes, settings: HalfTrainingSettings) -> Iterable[Cell]:
    """Make each cell on all good images and on a part of them."""
    kept = settings.kept_percent
    half = Condition("half", f"half_{kept:g}", "half", kept, make_split=bind(split, percent=kept))
    for cell in axes.cells(settings):
        yield from (cell, replace(cell, condition=half))


def make_half_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Compare both trainings."""
    return compare(metrics, COLUMNS, ["image_auroc"], [*LINE, "image_size"])


def draw_half_figure(half_table: pd.DataFrame) -> Chart:
    """Draw both trainings."""
    return comparison_figure(half_table, "image_auroc", [Tick("clean", 100), Tick("half", 50)], "kept images, %")


def find_change(tables: Tables) -> Change:
    """Tell what the missing images change."""
    return Change("AUROC change, half the images", tables["half_table"], "clean", "half")


def sections(tables: Tables) -> list[Section]:
    """Make the section that compares both trainings."""
    compared = comparison_tables(tables["half_table"], {"clean": "all images", "half": "half of them"})
    return [Section("half", "Half the images", "Trained on a part of the good images.", tables=compared)]


EXPERIMENT = Experiment(
    "half_training",
    HalfTrainingSettings,
    expand,
    steps=(
        Step(make_half_table, ("metrics",), ("half_table",)),
        Step(draw_half_figure, ("half_table",), figures={"half": "Image AUROC against kept images"}),
    ),
    find_change=find_change,
    sections=sections,
)
