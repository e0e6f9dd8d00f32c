"""Experiments: parameters are expanded into cells, and what cannot be is refused with the entry that asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shopfloor.experiments import EXPERIMENTS
from shopfloor.planning.axes import categories_of, narrowed
from shopfloor.planning.cell import Category, Cell, Parameters
from shopfloor.planning.parameter_checks import GridError, block_of, check_keys, list_of

_EXPERIMENT_KEYS = {"title", "demo_note", "datasets", "detectors", "image_sizes", "seeds"}
_OWN_KEYS = {
    "input_size": {"training_share"},
    "data_drift": {"drift", "drift_seeds", "natural", "domains"},
    "noisy_labels": {"noise_percent", "minimum_bad_test_images"},
    "supervised": {"bad_images", "bad_images_of", "minimum_bad_test_images"},
    "validation": {"holdout_percent", "stopping"},
}
_REPORT_BLOCKS = ("bootstrap", "drift_alarm", "paper_tables")
_ONLY_KEYS = {"datasets", "detectors"}


@dataclass(frozen=True)
class Experiment:
    """A named grid.

    Attributes:
        name: Name of its pipeline.
        cells: Its cells, each once, in the order of the parameter file.
        settings: Its block of the parameter files.
        report_settings: The blocks that say what its report holds.
    """

    name: str
    cells: tuple[Cell, ...]
    settings: Parameters = field(repr=False)
    report_settings: Parameters = field(repr=False, default_factory=dict)

    @property
    def plan_name(self) -> str:
        """Name of the plan."""
        return self.dataset_name("plan")

    def dataset_name(self, what: str) -> str:
        """Name of one of the experiment's own results, e.g. ``reporting.noisy_labels.metrics``."""
        return f"reporting.{self.name}.{what}"


def expand_experiments(parameters: Parameters) -> dict[str, Experiment]:
    """Expand the blocks of all experiments into their grids.

    Args:
        parameters: All parameters of the environment.

    Returns:
        The experiments by name.

    Raises:
        GridError: An entry asks for something impossible.
    """
    for block in ("datasets", "own_data", "detectors", "backbones", "textures", "only"):
        if not isinstance(entries := parameters.get(block) or {}, Mapping):
            raise GridError(f"{block}: expected names with settings below them, found {entries!r}.")
        for name in entries:
            # a dot or slash would not be one part of a path; timm's tags have dots, torchvision's networks a prefix
            allowed = r"(torchvision/)?[\w.-]+" if block == "backbones" else r"[\w-]+"
            if not isinstance(name, str) or not re.fullmatch(allowed, name):
                raise GridError(
                    f"{block}: {name!r} cannot be a name. Use letters, digits, _ and - (a number in quotes)."
                )
    check_keys("only", parameters.get("only") or {}, _ONLY_KEYS)
    reported = {block: parameters.get(block) for block in _REPORT_BLOCKS}
    experiments = {}
    for name, expand in EXPERIMENTS.items():
        if name not in parameters:  # as in a notebook that plans one experiment
            continue
        settings = block_of(parameters, name)
        check_keys(name, settings, _EXPERIMENT_KEYS | _OWN_KEYS.get(name, set()))
        cells = tuple(dict.fromkeys(expand(parameters, name, settings)))
        _refuse_supervised_without_labels(name, cells)
        experiments[name] = Experiment(name, cells, settings, reported)
    return experiments


def _refuse_supervised_without_labels(name: str, cells: Iterable[Cell]) -> None:
    """A supervised detector would train in silence, on good images alone."""
    for cell in cells:
        if cell.detector_settings["learning_type"] == "supervised" and cell.condition.kind != "supervised":
            raise GridError(
                f"{name}.detectors: {cell.detector} learns from labelled bad images "
                f"(detectors.{cell.detector}.learning_type is supervised), and {name} trains on good ones only. "
                "List it in supervised.detectors."
            )


def checked_categories(parameters: Parameters) -> list[Category]:
    """The categories that ``data_prep`` checks beyond those of the experiments.

    Args:
        parameters: All parameters of the environment.

    Returns:
        The categories of the datasets that the block ``data_prep`` lists.

    Raises:
        GridError: The block asks for something impossible.
    """
    settings = block_of(parameters, "data_prep")
    check_keys("data_prep", settings, {"datasets"})
    listed = [str(name) for name in list_of("data_prep", "datasets", settings)] if settings.get("datasets") else []
    names = narrowed(parameters, "datasets", listed)
    return [Category(**data) for data in categories_of(parameters, "data_prep", names)]


def unique_cells(experiments: Iterable[Experiment]) -> tuple[Cell, ...]:
    """The cells of several experiments, each once."""
    return tuple(dict.fromkeys(cell for experiment in experiments for cell in experiment.cells))
