"""Index, decode and resize each category once per image size."""

from __future__ import annotations

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from shopfloor.grid import Cell
from shopfloor.pipelines.data_prep import nodes
from shopfloor.pipelines.stage import bind, stage_pipeline

INDEX_TAG = "index"


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One index per category; images, masks and the account of the resize per category and image size."""
    return stage_pipeline("data_prep", [node for cell in cells for node in _nodes(cell)])


def _nodes(cell: Cell) -> list[Node]:
    folder = [cell.folder] if cell.is_generated else []
    by_size = [
        Node(
            func=bind(function, image_size=cell.image_size),
            inputs=[cell.index, cell.dataset_params, *folder],
            outputs=output,
            name=f"{cell.images_name}.{verb}",
            tags=cell.data_tags,
        )
        for function, output, verb in (
            (nodes.prepare_images, cell.images, "prepare_images"),
            (nodes.prepare_masks, cell.masks, "prepare_masks"),
            (nodes.report_resize, cell.resize_report, "report_resize"),
        )
    ]
    index = Node(
        func=bind(nodes.index_category, dataset=cell.dataset, category=cell.category),
        inputs=[cell.dataset_params, *folder],
        outputs=cell.index,
        name=f"{cell.category_name}.index",
        tags=[*cell.data_tags, INDEX_TAG],
    )
    render = Node(
        func=bind(nodes.render_parts, category=cell.category),
        inputs=cell.dataset_params,
        outputs=cell.folder,
        name=f"{cell.category_name}.render",
        tags=cell.data_tags,
    )
    return [*([render] if cell.is_generated else []), index, *by_size]
