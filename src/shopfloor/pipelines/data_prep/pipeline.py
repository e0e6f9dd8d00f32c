"""Index, decode and resize each category once per image size."""

from __future__ import annotations

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from shopfloor.cell import Cell, each_once
from shopfloor.pipelines.binding import bind
from shopfloor.pipelines.data_prep import nodes

STAGE = "data_prep"
INDEX_TAG = "index"


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One index per category; images, masks and the account of the resize per category and image size."""
    cells = list(cells)
    categories, sizes = each_once(cells, "category_name"), each_once(cells, "images_name")
    return Pipeline(
        [
            *(_render(cell) for cell in categories if cell.is_generated),
            *(_index(cell) for cell in categories),
            *(node for cell in sizes for node in _prepare(cell)),
        ]
    )


def _folder(cell: Cell) -> list[str]:
    """A generated dataset's folder is an input; any other's is a setting of its entry."""
    return [cell.folder] if cell.is_generated else []


def _render(cell: Cell) -> Node:
    return Node(
        func=bind(nodes.render_parts, category=cell.category),
        inputs=cell.dataset_params,
        outputs=cell.folder,
        name=f"{cell.category_name}.render",
        namespace=STAGE,
        tags=cell.data_tags,
    )


def _index(cell: Cell) -> Node:
    return Node(
        func=bind(nodes.index_category, dataset=cell.dataset, category=cell.category),
        inputs=[cell.dataset_params, *_folder(cell)],
        outputs=cell.index,
        name=f"{cell.category_name}.index",
        namespace=STAGE,
        tags=[*cell.data_tags, INDEX_TAG],
    )


def _prepare(cell: Cell) -> list[Node]:
    steps = (
        (nodes.prepare_images, cell.images),
        (nodes.prepare_masks, cell.masks),
        (nodes.report_resize, cell.resize_report),
    )
    return [
        Node(
            func=bind(function, image_size=cell.image_size),
            inputs=[cell.index, cell.dataset_params, *_folder(cell)],
            outputs=output,
            name=f"{cell.images_name}.{function.__name__}",
            namespace=STAGE,
            tags=cell.data_tags,
        )
        for function, output in steps
    ]
