"""Index, decode and resize each category once per image size."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from kedro.pipeline import Node, Pipeline

from shopfloor.pipelines.data_prep import nodes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Category, Cell, each_once
from shopfloor.runners.missing import TOLERANT
from shopfloor.runners.ready_queue import FIRST

STAGE = "data_prep"
_node = partial(Node, namespace=STAGE)
DATASET_SUMMARY = f"{STAGE}.datasets"
TEXTURES_TAG = "textures"


def create_pipeline(cells: Iterable[Cell], checked: Iterable[Category] | None = None) -> Pipeline:
    """Index the categories of some cells and prepare their images.

    Args:
        cells: The grid.
        checked: Categories to check beyond those of the cells, and to sum up together with them in one table; None for
            no table.

    Returns:
        One index per category; images, masks and the summary of the resize per category and image size; the textures
        that detectors want, per image size, unless there is a table.
    """
    cells = list(cells)
    categories = each_once([*cells, *(checked or [])], "category_key")
    # A user who checks datasets waits for the table, not for the images.
    first = [] if checked is None else [FIRST]
    # Whoever only checks and prepares datasets need not have the textures that some detectors want.
    textured = [cell for cell in cells if cell.textures_entry] if checked is None else []
    return Pipeline(
        [
            *(node for category in categories for node in _read(category, first)),
            *([_summary(categories)] if categories and checked is not None else []),
            *(node for cell in each_once(cells, "images_key") for node in _prepare(cell)),
            *map(_textures, each_once(textured, "textures_key")),
        ]
    )


def _read(category: Category, tags: list[str]) -> list[Node]:
    """Render what is generated, measure the files, check them."""
    nodes = [*([_render(category)] if category.is_generated else []), _measure(category), _index(category)]
    return [node.tag(tags) for node in nodes]


def _folder(cell: Category) -> list[str]:
    """A generated dataset's folder is an input; any other's is a setting of its entry."""
    return [cell.names.folder] if cell.is_generated else []


def _render(cell: Category) -> Node:
    return _node(
        func=bind(nodes.render_parts, category=cell.category),
        inputs=cell.dataset_params,
        outputs=cell.names.folder,
        name=f"{cell.names.category_key}.render",
        tags=cell.data_tags,
    )


def _measure(cell: Category) -> Node:
    return _node(
        func=bind(nodes.measure_files, dataset=cell.dataset, category=cell.category),
        inputs=[cell.dataset_params, *_folder(cell)],
        outputs=cell.names.files,
        name=f"{cell.names.category_key}.files",
        tags=cell.data_tags,
    )


def _index(cell: Category) -> Node:
    return _node(
        func=bind(nodes.index_category, dataset=cell.dataset, category=cell.category),
        inputs=[cell.dataset_params, cell.names.files, *_folder(cell)],
        outputs=[cell.names.index, cell.names.check],
        name=f"{cell.names.category_key}.index",
        tags=cell.data_tags,
    )


def _summary(categories: list[Category]) -> Node:
    """One table of all categories."""
    entries = [
        {
            "dataset": category.dataset,
            "category": category.category,
            **{key: getattr(category.dataset_settings, key) or "" for key in ("licence", "project_page")},
        }
        for category in categories
    ]
    return _node(
        func=bind(nodes.summarise_datasets, categories=entries),
        inputs=[category.names.check for category in categories],
        outputs=DATASET_SUMMARY,
        name="summarise_datasets",
        tags=[TOLERANT, FIRST],
    )


def _textures(cell: Cell) -> Node:
    return _node(
        func=bind(
            nodes.prepare_textures,
            name=cell.textures_entry,
            image_size=cell.image_size,
            crop=cell.crops_textures,
        ),
        inputs=f"params:textures.{cell.textures_entry}",
        outputs=cell.names.textures,
        name=f"{cell.names.textures_key}.prepare_textures",
        tags=TEXTURES_TAG,
    )


def _prepare(cell: Cell) -> list[Node]:
    told = {key: getattr(cell.dataset_settings, key) or "" for key in ("title", "licence", "source")}
    steps = (
        (nodes.prepare_images, cell.names.images),
        (nodes.prepare_masks, cell.names.masks),
        (bind(nodes.report_resize, told=told), cell.names.resize_report),
    )
    return [
        _node(
            func=bind(function, image_size=cell.image_size),
            inputs=[cell.names.index, cell.dataset_params, *_folder(cell)],
            outputs=output,
            name=f"{cell.names.images_key}.{function.__name__}",
            tags=cell.data_tags,
        )
        for function, output in steps
    ]
