"""Experiments: parameters are expanded into cells, and what cannot be is refused with the entry that asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shopfloor.experiments import EXPERIMENTS
from shopfloor.experiments.experiment import Experiment
from shopfloor.planning.axes import categories_of, narrowed
from shopfloor.planning.cell import Category, Cell, Parameters
from shopfloor.planning.parameter_checks import GridError, block_of, check_keys, list_of

_EXPERIMENT_KEYS = {"title", "demo_note", "datasets", "detectors", "image_sizes", "seeds"}
_ONLY_KEYS = {"datasets", "detectors"}


@dataclass(frozen=True)
class Grid:
    """An experiment with its cells.

    Attributes:
        experiment: The experiment.
        cells: Its cells, each once, in the order of the parameter file.
        settings: Its block of the parameter files.
        paper_tables: Names of those of the paper's tables that it answers, e.g. ``table_4``.
    """

    experiment: Experiment
    cells: tuple[Cell, ...]
    settings: Parameters = field(repr=False, default_factory=dict)
    paper_tables: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.experiment.name

    def result(self, what: str) -> str:
        """Name one of the experiment's own results, e.g. ``reporting.noisy_labels.metrics``."""
        return f"reporting.{self.name}.{what}"


def expand_experiments(parameters: Parameters) -> dict[str, Grid]:
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
    paper_tables = (parameters.get("paper_tables") or {}).get("tables") or {}
    grids = {}
    for name, experiment in EXPERIMENTS.items():
        if name not in parameters:  # as in a notebook that plans one experiment
            continue
        settings = block_of(parameters, name)
        check_keys(name, settings, _EXPERIMENT_KEYS | experiment.keys)
        cells = tuple(dict.fromkeys(experiment.expand(parameters, name, settings)))
        _refuse_supervised_without_labels(name, cells)
        answered = tuple(table for table, each in paper_tables.items() if each.get("experiment") == name)
        grids[name] = Grid(experiment, cells, settings, answered)
    return grids


def _refuse_supervised_without_labels(name: str, cells: Iterable[Cell]) -> None:
    """A supervised detector would train in silence, on good images alone."""
    for cell in cells:
        if cell.detector_settings["learning_type"] == "supervised" and not cell.condition.labels_bad:
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


def unique_cells(grids: Iterable[Grid]) -> tuple[Cell, ...]:
    """Give the cells of several grids, each once."""
    return tuple(dict.fromkeys(cell for grid in grids for cell in grid.cells))
