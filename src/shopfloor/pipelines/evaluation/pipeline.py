"""Score every fitted detector on its test part and measure the raw scores and maps."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from kedro.pipeline import Node, Pipeline

from shopfloor.metrics.entries import METRICS
from shopfloor.pipelines.evaluation import nodes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, each_once

STAGE = "evaluation"
_node = partial(Node, namespace=STAGE)


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One prediction and one picture of examples per fit and test part, one measurement per test set."""
    cells = list(cells)
    predictions = each_once(cells, "predict_key")
    return Pipeline(
        [
            *map(_predict, predictions),
            *map(_measure, each_once(cells, "measure_key")),
            *map(_examples, predictions),
        ]
    )


def _predict(cell: Cell) -> Node:
    return _node(
        func=nodes.predict_maps if cell.gives_maps else nodes.predict_scores,
        inputs=[cell.names.checkpoint, cell.names.test_images, cell.names.detector_params],
        outputs=[*([cell.names.maps] if cell.gives_maps else []), cell.names.scores, cell.names.predict_record],
        name=cell.names.predict_key,
        tags=[*cell.tags, "gpu"],
    )


def _measure(cell: Cell) -> Node:
    return _node(
        func=bind(nodes.measure, coordinates=cell.coordinates, metrics=list(METRICS), apart=cell.measured_apart),
        inputs={
            "scores": cell.names.scores,
            "test": cell.names.common_test if cell.common_draw else cell.names.test,
            **({"maps": cell.names.maps, "gt_masks": cell.names.test_masks} if cell.gives_maps else {}),
        },
        outputs=cell.names.metrics,
        name=f"{cell.names.measure_key}.measure",
        tags=cell.tags,
    )


def _examples(cell: Cell) -> Node:
    return _node(
        func=nodes.show_examples,
        inputs=[
            cell.names.test_images,
            cell.names.scores,
            cell.names.test_masks,
            *([cell.names.maps] if cell.gives_maps else []),
        ],
        outputs=[cell.names.examples, cell.names.score_histogram],
        name=f"{cell.names.predict_key}.examples",
        tags=cell.tags,
    )
