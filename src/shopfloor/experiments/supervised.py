"""Supervised: labelled bad images beside the good ones, for detectors that learn from them (protocol 4.6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from shopfloor.entries import Expected, OrNone, WholeNumber
from shopfloor.experiments.experiment import Experiment
from shopfloor.perturbations.splits import supervised_split
from shopfloor.planning.axes import Axes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, Condition
from shopfloor.planning.errors import GridError, joined
from shopfloor.planning.settings import ExperimentSettings

_WORDS = "a whole number of at least 1"
_BadImages = Annotated[Annotated[int, Field(ge=1)] | Literal["train"], Expected(_WORDS)]


class SupervisedSettings(ExperimentSettings):
    """What the experiment is told.

    Attributes:
        bad_images: How many bad test images move to the training; ``train`` takes all bad training images instead.
        bad_images_of: Likewise, for some datasets.
        minimum_bad_test_images: Bad test images that must remain (protocol 4.6).
    """

    bad_images: _BadImages | None = None
    bad_images_of: Annotated[Mapping[str, _BadImages], OrNone, Expected("numbers by dataset")] = {}
    minimum_bad_test_images: WholeNumber = 5


def expand(axes: Axes, settings: SupervisedSettings) -> Iterable[Cell]:
    """Make the cells whose training holds labelled bad images.

    Raises:
        GridError: A detector does not learn from them, or a dataset is unknown.
    """
    if unknown := set(settings.bad_images_of) - axes.known_datasets:
        raise GridError(f"{axes.experiment}.bad_images_of: {joined(unknown)} is unknown.")
    for cell in axes.cells(settings):
        if cell.detector_settings.learning_type != "supervised":
            raise GridError(
                f"{axes.experiment}.detectors: {cell.detector} does not learn from labelled bad images "
                f"(detectors.{cell.detector}.learning_type is {cell.detector_settings.learning_type})."
            )
        bad = settings.bad_images_of.get(cell.dataset, settings.bad_images)
        if bad is None:
            raise GridError(f"{axes.experiment}.bad_images: expected {_WORDS}, found None.")
        split = bind(supervised_split, bad_images=bad, minimum_bad=settings.minimum_bad_test_images)
        # One name for all numbers, so that datasets with different ones have a mean; the split tells them apart.
        condition = Condition(
            "supervised",
            f"supervised_{bad}",
            "supervised",
            bad,
            settings.minimum_bad_test_images,
            make_split=split,
            labels_bad=True,
        )
        yield replace(cell, condition=condition)


EXPERIMENT = Experiment(
    "supervised",
    SupervisedSettings,
    expand,
    shows_detectors=True,
)
