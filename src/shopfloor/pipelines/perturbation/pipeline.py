"""Split each category as each condition asks, cut the parts, and let test images drift.

Training, validation and test part leave this stage as separate datasets. That is the gate: the training stage takes
``train_images`` and, where training data was held out, ``validation_images``, and nothing else of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from kedro.pipeline import Node, Pipeline

from shopfloor.pipelines.perturbation import nodes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, Condition, Drift, each_once

STAGE = "perturbation"
_node = partial(Node, namespace=STAGE)


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One split per category and condition (and seed where it is drawn), its parts per size, the foreground of training
    images where a detector wants it, drifted test sets."""
    cells = list(cells)
    splits: dict[str, tuple[Cell, Condition, int | None]] = {
        cell.names.split_key(cell.condition, cell.seed): (cell, cell.condition, cell.seed) for cell in cells
    }
    for cell in cells:
        if cell.common_draw:  # the draw whose test set is shared need not be trained on in this grid
            drawn = cell.common_draw, cell.common_seed
            splits[cell.names.split_key(*drawn)] = (cell, *drawn)
    drifting = [cell for cell in cells if cell.drift]
    segmented = [cell for cell in cells if cell.foreground_method != "none"]
    return Pipeline(
        [
            *(_split(*drawn) for drawn in splits.values()),
            *(node for cell in each_once(cells, "part_key") for node in _cut(cell)),
            *(node for cell in each_once(segmented, "foreground_key") for node in _find_foreground(cell)),
            *(_draw_drift(cell) for cell in each_once(drifting, "drift_key")),
            *(node for cell in each_once(drifting, "drifted_key") for node in _drift(cell)),
        ]
    )


def _split(cell: Cell, condition: Condition, seed: int | None) -> Node:
    name = cell.names.split_key(condition, seed)
    return _node(
        func=bind(condition.make_split, seed=seed) if condition.is_drawn else condition.make_split,
        inputs=cell.names.index,
        outputs=[f"{STAGE}.{name}.{table}" for table in condition.tables],
        name=f"{name}.split",
        tags=[*cell.data_tags, condition.split],
    )


def _cut(cell: Cell) -> list[Node]:
    full = replace(cell, drift=None)  # the part before any drift
    parts = [
        (full.names.images, full.names.train, full.names.train_images, "train_images"),
        (full.names.images, full.names.test, full.names.test_images, "test_images"),
        (full.names.masks, full.names.test, full.names.test_masks, "test_masks"),
    ]
    if full.condition.holds_out:
        parts.append((full.names.images, full.names.validation, full.names.validation_images, "validation_images"))
    return [
        _part(nodes.cut_part, cell, f"{full.names.part_key}.{content}", stack, table, part)
        for stack, table, part, content in parts
    ]


def _part(function: Callable[..., Any], cell: Cell, name: str, stack: str, table: str, part: str) -> Node:
    return _node(
        func=function,
        inputs=[stack, table],
        outputs=part,
        name=name,
        tags=[*cell.data_tags, cell.condition.split],
    )


def _find_foreground(cell: Cell) -> list[Node]:
    tags = [*cell.data_tags, cell.condition.split]
    return [
        _node(
            func=bind(nodes.find_foreground, method=cell.foreground_method, category=cell.category),
            inputs=[cell.names.train_images, cell.dataset_params, "params:foreground"],
            outputs=cell.names.foreground,
            name=f"{cell.names.foreground_key}.find_foreground",
            tags=tags,
        ),
        _node(
            func=nodes.show_foreground,
            inputs=[cell.names.train_images, cell.names.foreground],
            outputs=cell.names.foreground_preview,
            name=f"{cell.names.foreground_key}.show_foreground",
            tags=tags,
        ),
    ]


def _draw_drift(cell: Cell) -> Node:
    drift = _drift_of(cell)
    return _node(
        func=bind(nodes.draw_drift, dataset=cell.dataset, category=cell.category, seed=drift.seed),
        inputs=[cell.names.test, drift.params],
        outputs=cell.names.drift_draw,
        name=f"{cell.names.drift_key}.draw",
        tags=[*cell.data_tags, "drift"],
    )


def _drift(cell: Cell) -> list[Node]:
    full = replace(cell, drift=None)
    drift = _drift_of(cell)
    name, folder = cell.names.drifted_key, [cell.names.folder] if cell.is_generated else []
    source = [cell.names.index, cell.names.drift_draw, drift.params, cell.dataset_params, *folder]

    def node(content: str, function: Callable[..., Any], inputs: list[str], output: str) -> Node:
        return _node(
            func=function,
            inputs=inputs,
            outputs=output,
            name=f"{name}.{content}",
            tags=[*cell.data_tags, "drift"],
        )

    return [
        node("images", bind(nodes.drift_images, image_size=cell.image_size), source, cell.names.drifted_images),
        node("masks", bind(nodes.drift_masks, image_size=cell.image_size), source, cell.names.drifted_masks),
        node("gallery", nodes.show_drift, source, cell.names.drift_gallery),
        node(
            "drift_report",
            nodes.report_drift,
            [cell.names.drift_draw, full.names.test_masks, cell.names.test_masks],
            cell.names.drift_report,
        ),
        *(
            _part(nodes.cut_drifted, cell, f"{name}.{content}", drifted, cell.names.test, part)
            for content, drifted, part in (
                ("test_images", cell.names.drifted_images, cell.names.test_images),
                ("test_masks", cell.names.drifted_masks, cell.names.test_masks),
            )
        ),
    ]


def _drift_of(cell: Cell) -> Drift:
    if cell.drift is None:
        raise ValueError(f"{cell} has no drift.")
    return cell.drift
