"""Model evaluation: every detector on every category as it is (protocol 4.1)."""

from __future__ import annotations

from collections.abc import Iterable

from shopfloor.experiments.experiment import Experiment
from shopfloor.planning.axes import Axes
from shopfloor.planning.cell import Cell
from shopfloor.planning.settings import ExperimentSettings


def expand(axes: Axes, settings: ExperimentSettings) -> Iterable[Cell]:
    """Make one cell for each category, detector, image size and seed."""
    return axes.cells(settings)


EXPERIMENT = Experiment("model_evaluation", ExperimentSettings, expand, shows_detectors=True)
