"""Experiments with their cells: what cannot be expanded is refused with the entry that asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shopfloor.experiments import EXPERIMENTS
from shopfloor.experiments.experiment import Experiment
from shopfloor.planning.axes import Axes
from shopfloor.planning.cell import Category, Cell
from shopfloor.planning.errors import GridError
from shopfloor.planning.settings import ExperimentSettings, ProjectSettings, read_settings

_REPORT_BLOCKS = ("bootstrap", "drift_alarm", "paper_tables")


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
    settings: ExperimentSettings = field(repr=False)
    paper_tables: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.experiment.name

    def result(self, what: str) -> str:
        """Name one of the experiment's own results, e.g. ``reporting.noisy_labels.metrics``."""
        return f"reporting.{self.name}.{what}"


def expand_experiments(parameters: Mapping[str, Any]) -> dict[str, Grid]:
    """Expand the blocks of all experiments into their grids.

    Args:
        parameters: All parameters of the environment.

    Returns:
        The experiments by name.

    Raises:
        GridError: An entry asks for something impossible.
    """
    project = ProjectSettings(parameters)
    for block in _REPORT_BLOCKS:
        if parameters.get(block) is not None:  # a notebook may plan without them
            getattr(project, block)  # is read, and refused before anything runs
    paper_tables = project.paper_tables.tables if parameters.get("paper_tables") else {}
    grids = {}
    for name, experiment in EXPERIMENTS.items():
        if name not in parameters:  # as in a notebook that plans one experiment
            continue
        if not isinstance(parameters[name], Mapping):
            raise GridError(f"{name}: this block of the parameter files is missing.")
        settings = read_settings(experiment.settings, name, parameters[name])
        cells = tuple(dict.fromkeys(experiment.expand(Axes(project, name), settings)))
        _refuse_supervised_without_labels(name, cells)
        answered = tuple(table for table, each in paper_tables.items() if each.experiment == name)
        grids[name] = Grid(experiment, cells, settings, answered)
    return grids


def _refuse_supervised_without_labels(name: str, cells: Iterable[Cell]) -> None:
    """A supervised detector would train in silence, on good images alone."""
    for cell in cells:
        if cell.detector_settings.learning_type == "supervised" and not cell.condition.labels_bad:
            raise GridError(
                f"{name}.detectors: {cell.detector} learns from labelled bad images "
                f"(detectors.{cell.detector}.learning_type is supervised), and {name} trains on good ones only. "
                "List it in supervised.detectors."
            )


def checked_categories(parameters: Mapping[str, Any]) -> list[Category]:
    """Give the categories that ``data_prep`` checks beyond those of the experiments.

    Args:
        parameters: All parameters of the environment.

    Returns:
        The categories of the datasets that the block ``data_prep`` lists.

    Raises:
        GridError: The block asks for something impossible.
    """
    project = ProjectSettings(parameters)
    return Axes(project, "data_prep").checked_categories(project.data_prep.datasets)


def unique_cells(grids: Iterable[Grid]) -> tuple[Cell, ...]:
    """Give the cells of several grids, each once."""
    return tuple(dict.fromkeys(cell for grid in grids for cell in grid.cells))
