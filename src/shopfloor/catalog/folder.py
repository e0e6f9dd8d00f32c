"""A folder of rendered images: saved as a whole, loaded as its path."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from shopfloor.catalog.atomic import encoded
from shopfloor.catalog.atomic_write import atomic_write
from shopfloor.catalog.local_file import LocalFileDataset


class RenderedFolderDataset(LocalFileDataset[dict[str, np.ndarray], Path]):
    """Images by relative path, kept as PNG files below one folder; the folder appears when all are written."""

    def save(self, data: dict[str, np.ndarray]) -> None:
        with atomic_write(self._filepath) as partial:
            for name, pixels in data.items():
                path = partial / PurePosixPath(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(Image.fromarray(pixels), path.suffix))
            shutil.rmtree(self._filepath, ignore_errors=True)

    def load(self) -> Path:
        return self._filepath
