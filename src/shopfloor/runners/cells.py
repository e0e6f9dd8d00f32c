"""Tell which nodes of a pipeline belong to one training, and which are shared by several."""

from __future__ import annotations

from collections.abc import Collection

from kedro.pipeline import Pipeline

#: Tag of the nodes that want a GPU where there is one: trainings and predictions.
GPU = "gpu"

#: In place of a training's name, for nodes that no training comes before, such as those that prepare images ...
BEFORE = ""
#: ... and for nodes that several trainings come before, such as reports.
AFTER = "*"


def cells_of(pipeline: Pipeline) -> dict[str, str]:
    """By name of a node, the name of the one training that it is or rests on, else BEFORE or AFTER.

    A training is a node that wants a GPU and rests on no other that does. In a pipeline whose trainings are left out,
    as by ``--namespaces=evaluation``, the predictions take their place.
    """
    makers = {output: node.name for node in pipeline.nodes for output in node.outputs}
    cells: dict[str, str] = {}
    for node in pipeline.nodes:  # makers come before those who take what they make
        found = {cells[makers[name]] for name in node.inputs if name in makers} - {BEFORE}
        if not found:
            cells[node.name] = node.name if GPU in node.tags else BEFORE
        else:
            cells[node.name] = found.pop() if len(found) == 1 else AFTER
    return cells


def only(pipeline: Pipeline, names: Collection[str]) -> Pipeline:
    """Narrow a pipeline to the nodes of these names, none among them."""
    return pipeline.filter(node_names=sorted(names)) if names else Pipeline([])
