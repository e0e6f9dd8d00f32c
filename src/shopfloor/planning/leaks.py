"""Refuse a pipeline, before anything runs, in which a training descends from anything that is not listed here.

The list is made from the cells of the plan: every dataset that may lead to a training, by its name, and what it may be
made of. What no cell names is not on the list, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import click
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from shopfloor.planning.cell import Cell, each_once

TRAINING_STAGE = "training"
_RESULT = "training result"


class LeakError(click.ClickException):
    """A training would descend from something that it may not be trained on."""


class _Origin(NamedTuple):
    """What some datasets are, and what they may be made of.

    Attributes:
        kind: What they are.
        datasets: Their names.
        allowed: Names of the datasets and parameters that the node that makes them may take.
        table: The table that it must take: a part that no table cuts is the whole category, test images among it.
    """

    kind: str
    datasets: list[str]
    allowed: set[str]
    table: str | None = None


_UNPLANNED = _Origin("unplanned dataset", [], set())


def refuse_leaks(pipeline: Pipeline, cells: Iterable[Cell]) -> None:
    """Walk from every training back to the raw data, and refuse what is not listed.

    A training is told by what it makes: the checkpoint, record or log of a cell. Behind it lie only its own cell's
    training part, validation part and foreground, textures and weights, and the settings of all these. A split is one
    node that makes a training table and a test table of the index; it is the gate, and its tables are checked to be
    disjoint by content (:mod:`shopfloor.perturbations.splits`).

    Args:
        pipeline: The pipeline of an experiment.
        cells: The cells of that experiment.

    Raises:
        LeakError: With the training, the dataset that must not lead to it, the node that takes it, and what this may
            take. Also for a node of the training stage that makes something that is not planned.
    """
    origins = {name: origin for origin in _origins(list(cells)) for name in origin.datasets}
    makers = {output: node for node in pipeline.nodes for output in node.outputs}
    checked: set[str] = set()
    for node in pipeline.nodes:
        kinds = [origins.get(name, _UNPLANNED).kind for name in node.outputs]
        if node.namespace == TRAINING_STAGE and (not kinds or _UNPLANNED.kind in kinds):
            raise LeakError(
                f"{node.name} would train what no cell of the plan asks for: {', '.join(node.outputs) or 'nothing'}. "
                "Allowed in this stage: checkpoint, record and log of each cell, and the weights of its networks."
            )
        waiting = [name for name, kind in zip(node.outputs, kinds, strict=True) if kind == _RESULT]
        while waiting:
            name = waiting.pop()
            if name in makers and name not in checked:
                checked.add(name)
                _check(name, origins.get(name, _UNPLANNED), makers[name], node)
                waiting += makers[name].inputs


def _check(name: str, origin: _Origin, maker: Node, training: Node) -> None:
    """Compare what a node takes with what the dataset that it makes may be made of."""
    for taken in maker.inputs:
        if taken not in origin.allowed:
            raise LeakError(
                f"{training.name} would be trained on {taken}, which {maker.name} takes for the {origin.kind} {name}. "
                f"Allowed there: {', '.join(sorted(origin.allowed)) or 'nothing'}."
            )
    if origin.table and origin.table not in maker.inputs:
        raise LeakError(
            f"{training.name} would be trained on test images: {maker.name} makes the {origin.kind} {name} without "
            f"the table {origin.table}."
        )


def _origins(cells: list[Cell]) -> Iterator[_Origin]:
    """Everything that may lead to a training of these cells."""
    for shared, origins in (("images_key", _of_images), ("part_key", _of_parts), ("fit_key", _of_fit)):
        for cell in each_once(cells, shared):
            yield from origins(cell)


def _of_images(cell: Cell) -> Iterator[_Origin]:
    data = {cell.dataset_params, *([cell.names.folder] if cell.is_generated else [])}
    yield _Origin("generated folder", [cell.names.folder], {cell.dataset_params})
    yield _Origin("table of files", [cell.names.files], data)
    yield _Origin("index", [cell.names.index], {*data, cell.names.files})
    yield _Origin("prepared images", [cell.names.images], {*data, cell.names.index})


def _of_parts(cell: Cell) -> Iterator[_Origin]:
    parts = [("training", cell.names.train, cell.names.train_images)]
    if cell.condition.holds_out:
        parts.append(("validation", cell.names.validation, cell.names.validation_images))
    for split, table, part in parts:
        yield _Origin(f"{split} table", [table], {cell.names.index})
        yield _Origin(f"{split} part", [part], {cell.names.images, table}, table)


def _of_fit(cell: Cell) -> Iterator[_Origin]:
    allowed = {cell.names.train_images, cell.names.detector_params}
    if cell.condition.holds_out:
        allowed.add(cell.names.validation_images)
    if cell.foreground_method != "none":
        allowed.add(cell.names.foreground)
        settings = {cell.dataset_params, "params:foreground"}
        yield _Origin("foreground", [cell.names.foreground], {cell.names.train_images, *settings})
    if cell.textures_entry:
        allowed.add(cell.names.textures)
        yield _Origin("textures", [cell.names.textures], {f"params:textures.{cell.textures_entry}"})
    for network in cell.network_settings:
        weights, entry = cell.names.weights(network), cell.names.network_params(network)
        allowed |= {weights, entry}
        yield _Origin("weights", [weights], {entry})
    yield _Origin(_RESULT, [cell.names.checkpoint, cell.names.fit_record, cell.names.fit_log], allowed)
