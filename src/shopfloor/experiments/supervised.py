"""Supervised: labelled bad images beside the good ones, for detectors that learn from them (protocol 4.6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shopfloor.experiments.experiment import Experiment
from shopfloor.perturbations.splits import supervised_split
from shopfloor.planning.axes import product
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, Condition, Parameters
from shopfloor.planning.parameter_checks import GridError, joined, whole_number


def expand(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    """Make the cells whose training holds labelled bad images.

    Raises:
        GridError: A detector does not learn from them.
    """
    minimum_bad = whole_number(name, "minimum_bad_test_images", settings.get("minimum_bad_test_images", 5))
    exceptions = settings.get("bad_images_of") or {}
    if not isinstance(exceptions, Mapping):
        raise GridError(f"{name}.bad_images_of: expected numbers by dataset, found {exceptions!r}.")
    if unknown := set(exceptions) - {*(parameters.get("datasets") or {}), *(parameters.get("own_data") or {})}:
        raise GridError(f"{name}.bad_images_of: {joined(unknown)} is unknown.")
    for cell in product(parameters, name, settings):
        if cell["detector_settings"]["learning_type"] != "supervised":
            raise GridError(
                f"{name}.detectors: {cell['detector']} does not learn from labelled bad images "
                f"(detectors.{cell['detector']}.learning_type is {cell['detector_settings']['learning_type']})."
            )
        bad = exceptions.get(cell["dataset"], settings.get("bad_images"))
        if bad != "train":
            bad = whole_number(name, "bad_images", bad)
        split = bind(supervised_split, bad_images=bad, minimum_bad=minimum_bad)
        # One name for all numbers, so that datasets with different ones have a mean; the split tells them apart.
        condition = Condition(
            "supervised", f"supervised_{bad}", "supervised", bad, minimum_bad, make_split=split, labels_bad=True
        )
        yield Cell(**cell, condition=condition)


EXPERIMENT = Experiment(
    "supervised",
    expand,
    frozenset({"bad_images", "bad_images_of", "minimum_bad_test_images"}),
    shows_detectors=True,
)
