"""Weights and checkpoints: plain data and tensors, loaded without running any code of the file."""

from __future__ import annotations

from typing import Any

from shopfloor.catalog.atomic_write import atomic_write
from shopfloor.catalog.local_file import LocalFileDataset


class CheckpointDataset(LocalFileDataset[dict[str, Any], dict[str, Any]]):
    """A dictionary of tensors and plain data in PyTorch's format, always loaded with ``weights_only=True``."""

    def save(self, data: dict[str, Any]) -> None:
        import torch

        # Through a file of Python's: when the disk is full, PyTorch's own writer does not say so.
        with atomic_write(self._filepath) as partial, partial.open("wb") as file:
            torch.save(data, file)

    def load(self) -> dict[str, Any]:
        import torch

        return torch.load(self._filepath, map_location="cpu", weights_only=True)
