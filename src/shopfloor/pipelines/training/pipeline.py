"""Fit every detector on every training part. No test image or test label enters this stage."""

from __future__ import annotations

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from shopfloor.grid import Cell
from shopfloor.pipelines.stage import bind, stage_pipeline
from shopfloor.pipelines.training import nodes


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One set of weights per backbone, one fit per category, detector, image size, condition and seed."""
    return stage_pipeline("training", [node for cell in cells for node in _nodes(cell)])


def _nodes(cell: Cell) -> list[Node]:
    inputs = [cell.train_images, f"params:detectors.{cell.detector}"]
    weights = []
    if cell.backbone:
        inputs += [f"params:backbones.{cell.backbone}", cell.weights]
        weights = [
            Node(
                func=bind(nodes.load_weights, name=cell.backbone),
                inputs=f"params:backbones.{cell.backbone}",
                outputs=cell.weights,
                name=f"{cell.weights_name}.load_weights",
            )
        ]
    fit = Node(
        func=bind(nodes.fit_detector, image_size=cell.image_size, seed=cell.seed),
        inputs=inputs,
        outputs=[cell.checkpoint, cell.fit_record],
        name=cell.fit_name,
        tags=[*cell.tags, "gpu"],
    )
    return [*weights, fit]
