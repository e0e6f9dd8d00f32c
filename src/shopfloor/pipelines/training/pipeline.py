"""Fit every detector on every training part. No test image or test label enters this stage."""

from __future__ import annotations

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from shopfloor.cell import Cell, each_once
from shopfloor.pipelines.binding import bind
from shopfloor.pipelines.training import nodes

STAGE = "training"


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One set of weights per backbone, one fit per category, detector, image size, condition and seed."""
    cells = list(cells)
    with_backbone = each_once([cell for cell in cells if cell.backbone], "weights_name")
    return Pipeline([*map(_weights, with_backbone), *map(_fit, each_once(cells, "fit_name"))])


def _weights(cell: Cell) -> Node:
    return Node(
        func=bind(nodes.load_weights, name=cell.backbone),
        inputs=cell.backbone_params,
        outputs=cell.weights,
        name=f"{cell.weights_name}.load_weights",
        namespace=STAGE,
    )


def _fit(cell: Cell) -> Node:
    inputs = {"train_images": cell.train_images, "detector": cell.detector_params}
    if cell.backbone:
        inputs |= {"backbone": cell.backbone_params, "weights": cell.weights}
    stopping = dict(cell.condition.stopping) or None
    if cell.condition.kind == "holdout":
        inputs |= {"validation_images": cell.validation_images}
    return Node(
        func=bind(nodes.fit_detector, image_size=cell.image_size, seed=cell.seed, stopping=stopping),
        inputs=inputs,
        outputs=[cell.checkpoint, cell.fit_record],
        name=cell.fit_name,
        namespace=STAGE,
        tags=[*cell.tags, "gpu"],
    )
