"""A folder of rendered images: saved as a whole, loaded as its path."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from kedro.io import AbstractDataset
from PIL import Image

from shopfloor.catalog.atomic import encoded
from shopfloor.catalog.atomic_write import atomic_write


class RenderedFolderDataset(AbstractDataset[dict[str, np.ndarray], Path]):
    """Images by relative path, kept as PNG files below one folder; the folder appears when all are written."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def save(self, data: dict[str, np.ndarray]) -> None:
        with atomic_write(self._filepath) as partial:
            for name, pixels in data.items():
                path = partial / PurePosixPath(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(Image.fromarray(pixels), path.suffix))
            shutil.rmtree(self._filepath, ignore_errors=True)

    def load(self) -> Path:
        return self._filepath

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
