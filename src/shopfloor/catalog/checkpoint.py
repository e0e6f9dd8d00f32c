"""Weights and checkpoints: plain data and tensors, loaded without running any code of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from shopfloor.catalog.atomic_write import atomic_write


class CheckpointDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """A dictionary of tensors and plain data in PyTorch's format, always loaded with ``weights_only=True``."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def save(self, data: dict[str, Any]) -> None:
        import torch

        # Through a file of Python's: when the disk is full, PyTorch's own writer does not say so.
        with atomic_write(self._filepath) as partial, partial.open("wb") as file:
            torch.save(data, file)

    def load(self) -> dict[str, Any]:
        import torch

        return torch.load(self._filepath, map_location="cpu", weights_only=True)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
