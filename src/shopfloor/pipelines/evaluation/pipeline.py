"""Score every fitted detector on its test part and measure the raw scores and maps."""

from __future__ import annotations

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from shopfloor.grid import Cell
from shopfloor.pipelines.evaluation import nodes
from shopfloor.pipelines.stage import bind, stage_pipeline


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One prediction per fit and test part, one measurement per test set, one picture of examples."""
    return stage_pipeline("evaluation", [node for cell in cells for node in _nodes(cell)])


def _nodes(cell: Cell) -> list[Node]:
    # Big files first: a run that is killed between two saves leaves the small one missing, and the node runs again.
    predict = Node(
        func=nodes.predict_maps if cell.gives_maps else nodes.predict_scores,
        inputs=[cell.checkpoint, cell.test_images, f"params:detectors.{cell.detector}"],
        outputs=[*([cell.maps] if cell.gives_maps else []), cell.scores, cell.predict_record],
        name=cell.predict_name,
        tags=[*cell.tags, "gpu"],
    )
    measure = Node(
        func=bind(nodes.measure, coordinates=cell.coordinates),
        inputs={
            "scores": cell.scores,
            "test": cell.common_test if cell.common_draw else cell.test,
            **({"maps": cell.maps, "gt_masks": cell.test_masks} if cell.gives_maps else {}),
        },
        outputs=cell.metrics,
        name=f"{cell.measure_name}.measure",
        tags=cell.tags,
    )
    examples = Node(
        func=nodes.show_examples,
        inputs=[cell.test_images, cell.scores, cell.test_masks, *([cell.maps] if cell.gives_maps else [])],
        outputs=cell.examples,
        name=f"{cell.predict_name}.examples",
        tags=cell.tags,
    )
    return [predict, measure, examples]
