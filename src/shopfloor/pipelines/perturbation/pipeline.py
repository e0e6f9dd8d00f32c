"""Split each category as each condition asks, and cut the parts.

Training and test part leave this stage as separate datasets. That is the gate: the training stage takes
``train_images`` and nothing else of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kedro.pipeline import Node, Pipeline

from shopfloor.cell import Cell, Condition, each_once
from shopfloor.perturbations.splits import clean_split, noisy_split
from shopfloor.pipelines.binding import bind
from shopfloor.pipelines.perturbation import nodes

STAGE = "perturbation"


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One split per category and condition (and seed where it is drawn); its parts per image size."""
    cells = list(cells)
    splits: dict[str, tuple[Cell, Condition, int | None]] = {
        cell.split_name(cell.condition, cell.seed): (cell, cell.condition, cell.seed) for cell in cells
    }
    for cell in cells:
        if cell.common_draw:  # the draw whose test set is shared need not be trained on in this grid
            splits[cell.split_name(cell.common_draw, cell.common_seed)] = (cell, cell.common_draw, cell.common_seed)
    return Pipeline(
        [
            *(_split(*drawn) for drawn in splits.values()),
            *(node for cell in each_once(cells, "part_name") for node in _cut(cell)),
        ]
    )


def _split(cell: Cell, condition: Condition, seed: int | None) -> Node:
    name = cell.split_name(condition, seed)
    contents = ["train", "test"]
    function: Callable[..., Any] = clean_split
    if condition.is_drawn:
        contents.append("draw")
        function = bind(
            noisy_split,
            noise_percent=condition.noise_percent,
            seed=seed,
            minimum_bad=condition.minimum_bad,
        )
    return Node(
        func=function,
        inputs=cell.index,
        outputs=[f"{STAGE}.{name}.{content}" for content in contents],
        name=f"{name}.split",
        namespace=STAGE,
        tags=[*cell.data_tags, condition.name],
    )


def _cut(cell: Cell) -> list[Node]:
    parts = (
        (cell.images, cell.train, cell.train_images),
        (cell.images, cell.test, cell.test_images),
        (cell.masks, cell.test, cell.test_masks),
    )
    return [
        Node(
            func=nodes.cut_part,
            inputs=[stack, table],
            outputs=part,
            name=f"{cell.part_name}.{part.rpartition('.')[2]}",
            namespace=STAGE,
            tags=[*cell.data_tags, cell.condition.name],
        )
        for stack, table, part in parts
    ]
