"""Model evaluation: every detector on every category as it is (protocol 4.1)."""

from __future__ import annotations

from collections.abc import Iterable

from shopfloor.experiments.experiment import Experiment
from shopfloor.planning.axes import product
from shopfloor.planning.cell import CLEAN, Cell, Parameters


def expand(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    """Make one cell for each category, detector, image size and seed."""
    for cell in product(parameters, name, settings):
        yield Cell(**cell, condition=CLEAN)


EXPERIMENT = Experiment("model_evaluation", expand, shows_detectors=True)
