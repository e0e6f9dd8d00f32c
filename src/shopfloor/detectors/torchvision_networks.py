"""torchvision's networks by the name ``torchvision/<network>`` or ``torchvision/<network>.<weights>``.

For example ``torchvision/efficientnet_b5.IMAGENET1K_V1``; without the last part the newest weights are meant.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

PREFIX = "torchvision/"


def is_torchvision(name: str) -> bool:
    """Whether a backbone's name is one of torchvision's."""
    return name.startswith(PREFIX)


def create_network(name: str) -> nn.Module:
    """The network without weights.

    Raises:
        ValueError: If torchvision has no network of this name.
    """
    return get_model(_network(name), weights=None)


def weights_entry(name: str) -> WeightsEnum:
    """torchvision's entry of the weights that a name asks for.

    Raises:
        ValueError: If torchvision has no such network, or no such weights of it.
    """
    entries = get_model_weights(_network(name))
    tag = name.partition(".")[2] or "DEFAULT"
    if tag not in entries.__members__:
        raise ValueError(f"torchvision has no weights {tag!r} of this network, but {', '.join(entries.__members__)}")
    return entries[tag]


def cached_file(entry: WeightsEnum) -> Path:
    """Where torchvision keeps the weights once they are downloaded; the file need not be there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name


def name_of(entry: WeightsEnum) -> str:
    """The name, with its last part, that asks for these weights."""
    return f"{PREFIX}{_networks_by_weights()[type(entry)]}.{entry.name}"


@cache
def _networks_by_weights() -> dict[type[WeightsEnum], str]:
    return {get_model_weights(network): network for network in list_models()}


def _network(name: str) -> str:
    return name.removeprefix(PREFIX).partition(".")[0]
