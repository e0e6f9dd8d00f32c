"""How every stage makes its pipeline out of the cells of a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, update_wrapper
from typing import Any

from kedro.pipeline import Node, Pipeline


def bind(function: Callable[..., Any], **coordinates: Any) -> Callable[..., Any]:
    """A node function with a cell's coordinates bound; it keeps its name, text and source for kedro-viz."""
    return update_wrapper(partial(function, **coordinates), function)


def stage_pipeline(stage: str, nodes: Iterable[Node]) -> Pipeline:
    """One flat namespace for a stage, over its nodes, each once: cells share what they do not differ in."""
    unique = {node.name: node for node in nodes}
    return Pipeline(unique.values(), namespace=stage, prefix_datasets_with_namespace=False)
