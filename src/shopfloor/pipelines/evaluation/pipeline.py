"""Score every fitted detector on its test part and measure the raw scores and maps."""

from __future__ import annotations

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from shopfloor.pipelines.binding import bind
from shopfloor.pipelines.evaluation import nodes
from shopfloor.planning.cell import Cell, each_once

STAGE = "evaluation"


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One prediction and one picture of examples per fit and test part, one measurement per test set."""
    cells = list(cells)
    predictions = each_once(cells, "predict_name")
    return Pipeline(
        [
            *map(_predict, predictions),
            *map(_measure, each_once(cells, "measure_name")),
            *map(_examples, predictions),
        ]
    )


def _predict(cell: Cell) -> Node:
    return Node(
        func=nodes.predict_maps if cell.gives_maps else nodes.predict_scores,
        inputs=[cell.checkpoint, cell.test_images, cell.detector_params],
        outputs=[*([cell.maps] if cell.gives_maps else []), cell.scores, cell.predict_record],
        name=cell.predict_name,
        namespace=STAGE,
        tags=[*cell.tags, "gpu"],
    )


def _measure(cell: Cell) -> Node:
    return Node(
        func=bind(nodes.measure, coordinates=cell.coordinates, apart=cell.measured_apart),
        inputs={
            "scores": cell.scores,
            "test": cell.common_test if cell.common_draw else cell.test,
            **({"maps": cell.maps, "gt_masks": cell.test_masks} if cell.gives_maps else {}),
        },
        outputs=cell.metrics,
        name=f"{cell.measure_name}.measure",
        namespace=STAGE,
        tags=cell.tags,
    )


def _examples(cell: Cell) -> Node:
    return Node(
        func=nodes.show_examples,
        inputs=[cell.test_images, cell.scores, cell.test_masks, *([cell.maps] if cell.gives_maps else [])],
        outputs=cell.examples,
        name=f"{cell.predict_name}.examples",
        namespace=STAGE,
        tags=cell.tags,
    )
