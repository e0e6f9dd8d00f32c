"""Split each category as each condition asks, and cut the parts.

Training and test part leave this stage as separate datasets. That is the gate: the training stage takes
``train_images`` and nothing else of the data.
"""

from __future__ import annotations

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from shopfloor.grid import Cell, Condition
from shopfloor.pipelines.perturbation import nodes
from shopfloor.pipelines.stage import bind, stage_pipeline


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One split per category and condition (and seed where it is drawn); its parts per image size."""
    return stage_pipeline("perturbation", [node for cell in cells for node in _nodes(cell)])


def _nodes(cell: Cell) -> list[Node]:
    splits = [_split(cell, cell.condition, cell.seed)]
    if cell.common_draw:
        splits.append(_split(cell, cell.common_draw, cell.common_seed))
    parts = [
        Node(
            func=nodes.cut_part,
            inputs=[stack, table],
            outputs=part,
            name=f"{cell.part_name}.{part.rpartition('.')[2]}",
            tags=[*cell.data_tags, cell.condition.name],
        )
        for stack, table, part in (
            (cell.images, cell.train, cell.train_images),
            (cell.images, cell.test, cell.test_images),
            (cell.masks, cell.test, cell.test_masks),
        )
    ]
    return [*splits, *parts]


def _split(cell: Cell, condition: Condition, seed: int | None) -> Node:
    name = cell.split_name(condition, seed)
    table = f"perturbation.{name}"
    if not condition.is_drawn:
        function, outputs = nodes.split_clean, [f"{table}.train", f"{table}.test"]
    else:
        function = bind(
            nodes.split_noisy,
            noise_percent=condition.noise_percent,
            seed=seed,
            minimum_bad=condition.minimum_bad,
        )
        outputs = [f"{table}.train", f"{table}.test", f"{table}.draw"]
    return Node(
        func=function,
        inputs=cell.index,
        outputs=outputs,
        name=f"{name}.split",
        tags=[*cell.data_tags, condition.name],
    )
