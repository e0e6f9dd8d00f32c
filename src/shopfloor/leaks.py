"""A pipeline in which test data could reach a training is refused before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

import click
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

TRAINING_STAGE = "training"

#: Last part of the names of datasets that carry test images, their labels, or what was computed from them.
TEST_CONTENTS = frozenset(
    {
        "test",
        "test_images",
        "test_masks",
        "draw",
        "drift_report",
        "gallery",
        "maps",
        "scores",
        "metrics",
        "examples",
        "predict_record",
        "report",
    }
)


class LeakError(click.ClickException):
    """A training node takes something that was made from test data."""


def refuse_leaks(pipeline: Pipeline) -> None:
    """Walk from every training node back to the raw data.

    A split is one node that makes a training table and a test table; it is the gate, and what it makes for training is
    checked to be disjoint from the rest by content (:mod:`shopfloor.perturbations.splits`). Behind the gate nothing
    made for testing may lie on a way to a training.

    Args:
        pipeline: Any pipeline of the project.

    Raises:
        LeakError: With the training node and the dataset that must not lead to it.
    """
    makers = {output: node for node in pipeline.nodes for output in node.outputs}
    for node in pipeline.nodes:
        if node.namespace != TRAINING_STAGE:
            continue
        for name in _upstream(node, makers):
            if name.rpartition(".")[2] in TEST_CONTENTS:
                raise LeakError(f"{node.name} would be trained on test data: {name} leads to it. Test data may not.")


def _upstream(node: Node, makers: dict[str, Node]) -> Iterator[str]:
    """Names of all datasets that a node depends on."""
    waiting, seen = list(node.inputs), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        if name in makers:
            waiting += makers[name].inputs
