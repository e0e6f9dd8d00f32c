"""What an experiment is: how its settings become cells, and what its results hold beside what all experiments have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from shopfloor.metrics.entries import label_of
from shopfloor.planning.axes import Axes
from shopfloor.planning.cell import Cell
from shopfloor.planning.settings import ExperimentSettings
from shopfloor.report.page.change import Change
from shopfloor.report.page.sections import Section

Tables = Mapping[str, pd.DataFrame]
"""The tables of an experiment by their names: ``metrics``, ``mean_table``, ..."""


@dataclass(frozen=True)
class Step:
    """A node of the reporting stage that only some experiments have.

    Attributes:
        function: What it does. Its name is the node's.
        inputs: Names of the experiment's own results, of parameters (``params:...``) and of published numbers
            (``reference....``).
        tables: Names of the tables that it makes.
        figures: Titles of the figures that it makes, by their names without ``_figure``. They come after the tables.
    """

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    tables: tuple[str, ...] = ()
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: Name of its pipeline and of its block of the parameter files.
        settings: What this block may hold.
        expand: Makes the cells of its grid of the axes that all experiments have and of its settings.
        steps: Tables and figures that it has beside those of all experiments.
        find_change: Tells what it changes, and where the values before and after stand; None where it changes nothing.
        sections: Makes the parts of the page that only it has.
        shows_detectors: Whether its means are the detectors' own line on the page over all experiments, and not how
            much a change costs them.
    """

    name: str
    settings: type[ExperimentSettings]
    expand: Callable[[Axes, Any], Iterable[Cell]]
    steps: tuple[Step, ...] = ()
    find_change: Callable[[Tables], Change | None] | None = None
    sections: Callable[[Tables], list[Section]] | None = None
    shows_detectors: bool = False


def figure_titles(name: str, metrics: Sequence[str], what: str) -> dict[str, str]:
    """Name and title one figure per metric; the first has the plain name.

    Args:
        name: Name of the first figure, and beginning of the others' names.
        metrics: Names of the metrics.
        what: What they are drawn against, as in a title.
    """
    names = [name, *(f"{name}_{metric}" for metric in metrics[1:])]
    return {each: f"{label_of(metric)} {what}" for each, metric in zip(names, metrics, strict=True)}
