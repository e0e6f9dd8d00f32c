"""Stop a run whose trainings ask for an accelerator that this machine does not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import click
from kedro.io import CatalogProtocol
from kedro.pipeline.node import Node

from shopfloor.planning.errors import unknown
from shopfloor.planning.leaks import TRAINING_STAGE
from shopfloor.planning.names import DETECTOR_PARAMS
from shopfloor.runners.cells import GPU

_EVERYWHERE = (None, "auto", "cpu")
#: What a name stands for that is none of a device; a training whose entry names nothing takes CUDA where it is there.
_MEANT: dict[str | None, tuple[str, ...]] = {
    None: ("cuda",),
    "cpu": (),
    "auto": ("cuda", "mps"),
    "gpu": ("cuda", "mps"),
}


class NoAcceleratorError(click.ClickException):
    """A detector's entry names an accelerator that is not there."""


def refuse_missing_accelerators(nodes: Iterable[Node], catalog: CatalogProtocol) -> None:
    """Stop a run on this machine before anything is made, rather than at its first training.

    Args:
        nodes: What is to run.
        catalog: Holds the detectors' entries.

    Raises:
        NoAcceleratorError: With the setting, how many trainings ask for it, and what to do.
    """
    entries = Counter(
        name
        for node in nodes
        if node.namespace == TRAINING_STAGE and GPU in node.tags
        for name in node.inputs
        if name.startswith(DETECTOR_PARAMS)
    )
    refused = []
    for entry, count in entries.items():
        trainer = (catalog.load(entry) or {}).get("trainer") or {}
        if wrong := _what_is_missing(trainer):
            refused.append(f"{entry.removeprefix('params:')}.trainer.{wrong} Trainings that ask for it: {count}.")
    if refused:
        raise NoAcceleratorError(
            "\n".join(refused)
            + "\nLeave the key out (a training takes a GPU where there is one, else the CPU), or run "
            "where the device is: with DaskRunner the workers' machines count, not this one (docs/cluster.md)."
        )


def _what_is_missing(trainer: Mapping[str, Any]) -> str:
    """Give the key that asks for what is not there, with the reason, or nothing."""
    name, devices = trainer.get("accelerator"), trainer.get("devices")
    if name in _EVERYWHERE and not isinstance(devices, list):
        return ""
    from lightning.pytorch.accelerators import AcceleratorRegistry  # takes seconds, and few entries name one

    def count(kind: str) -> int:
        accelerator = AcceleratorRegistry.get(kind)
        return accelerator.auto_device_count() if accelerator.is_available() else 0

    known = AcceleratorRegistry.available_accelerators() | {"auto", "gpu"}
    if name is not None and name not in known:
        return unknown("accelerator", name, known)
    there = max(map(count, _MEANT[name] if name in _MEANT else (str(name),)), default=0)
    if not there and name not in _EVERYWHERE:
        return f"accelerator: this machine has no {name!r}."
    if isinstance(devices, list) and max(devices) >= there:
        return f"devices: this machine has {there} such devices, and {devices} counts from 0."
    return ""
