"""Weights and checkpoints: plain data and tensors, loaded without running any code of the file."""

from __future__ import annotations

import pickle
from typing import Any

from kedro.io import DatasetError

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

        try:
            return torch.load(self._filepath, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # not what torch says itself: it advises to read the file unsafely
            raise DatasetError(
                f"{self._filepath} is damaged, or another file was put in its place: plain data and tensors cannot be "
                "read from it. Delete it; the run that made it makes it again, with --only-missing-outputs."
            ) from None
