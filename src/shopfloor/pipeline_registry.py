"""The project's pipelines: one per experiment, one per stage, made from the parameters of the session."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from shopfloor.config import project_parameters
from shopfloor.experiments.grid import Grid, checked_categories, expand_experiments, unique_cells
from shopfloor.pipelines import data_prep, evaluation, perturbation, reporting, training
from shopfloor.planning.leaks import refuse_leaks


def register_pipelines() -> dict[str, Pipeline]:
    """Make every pipeline of the grid that the parameters describe.

    Returns:
        The experiments and, under the names of the five stages, what all experiments need of each stage.
        ``__default__`` is the model evaluation.

    Raises:
        GridError: The parameters ask for something impossible.
        LeakError: A training would descend from something that it may not be trained on.
    """
    parameters = project_parameters()
    grids = expand_experiments(parameters)
    pipelines = {name: experiment_pipeline(grid) for name, grid in grids.items()}
    for name, pipeline in pipelines.items():
        refuse_leaks(pipeline, grids[name].cells)
    # The experiments' own nodes, each once: making them again would double the time that planning takes.
    nodes = {node.name: node for pipeline in pipelines.values() for node in pipeline.nodes}.values()
    stages = ("perturbation", "training", "evaluation", "reporting")
    cells = unique_cells(grids.values())
    return {
        "__default__": pipelines["model_evaluation"],
        **pipelines,
        "data_prep": data_prep.create_pipeline(cells, checked_categories(parameters)),
        **{stage: Pipeline([node for node in nodes if node.namespace == stage]) for stage in stages},
    }


def experiment_pipeline(grid: Grid) -> Pipeline:
    """Make the five stages of one experiment."""
    cells = grid.cells
    return Pipeline(
        [
            data_prep.create_pipeline(cells),
            perturbation.create_pipeline(cells),
            training.create_pipeline(cells),
            evaluation.create_pipeline(cells),
            reporting.create_pipeline([grid]),
        ]
    )
