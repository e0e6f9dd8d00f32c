"""Fit every detector on every training part. No test image or test label enters this stage."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from kedro.pipeline import Node, Pipeline

from shopfloor.pipelines.training import nodes
from shopfloor.pipelines.training.nodes import OWN_NETWORK
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, each_once

STAGE = "training"
_node = partial(Node, namespace=STAGE)


def create_pipeline(cells: Iterable[Cell]) -> Pipeline:
    """One set of weights per pretrained network, one fit per category, detector, image size, condition and seed."""
    cells = list(cells)
    networks = {cell.names.weights_key(network): (cell, network) for cell in cells for network in cell.network_settings}
    return Pipeline(
        [
            *(_weights(cell, network) for cell, network in networks.values()),
            *map(_fit, each_once(cells, "fit_key")),
        ]
    )


def _weights(cell: Cell, network: str) -> Node:
    return _node(
        func=bind(nodes.load_weights, name=network),
        inputs=cell.names.network_params(network),
        outputs=cell.names.weights(network),
        name=f"{cell.names.weights_key(network)}.load_weights",
    )


def _fit(cell: Cell) -> Node:
    inputs = {"train_images": cell.names.train_images, "detector": cell.names.detector_params}
    inputs |= {f"{role}_weights": cell.names.weights(network) for role, network in cell.networks.items()}
    inputs |= {
        f"{OWN_NETWORK}{number}": cell.names.weights(network) for number, network in enumerate(cell.own_networks)
    }
    if backbone := cell.networks.get("backbone"):
        inputs |= {"backbone": cell.names.network_params(backbone)}
    if cell.textures_entry:
        inputs |= {"textures": cell.names.textures}
    if cell.foreground_method != "none":
        inputs |= {"foreground": cell.names.foreground}
    stopping = dict(cell.condition.stopping) or None
    if cell.condition.holds_out:
        inputs |= {"validation_images": cell.names.validation_images}
    return _node(
        func=bind(nodes.fit_detector, image_size=cell.image_size, seed=cell.seed, stopping=stopping),
        inputs=inputs,
        outputs=[cell.names.checkpoint, cell.names.fit_record, cell.names.fit_log],
        name=cell.names.fit_key,
        tags=[*cell.tags, "gpu"],
    )
