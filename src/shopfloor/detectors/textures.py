"""Texture images, from which DRAEM and GLASS make their synthetic defects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from shopfloor.detectors.building import DetectorError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def list_textures(folder: Path) -> list[Path]:
    """Image files of a folder and its sub-folders, in the order of their names; links are not followed.

    Raises:
        DetectorError: If there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise DetectorError(
            f"TEXTURES_MISSING: there is no folder '{folder}'. Give a folder of texture images: the Describable Textures "
            "Dataset (https://www.robots.ox.ac.uk/~vgg/data/dtd/, research use), or photographs of your own surfaces."
        )
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_symlink())
    if not found:
        raise DetectorError(f"TEXTURES_MISSING: '{folder}' holds no image ({', '.join(SUFFIXES)}).")
    return found


def read_textures(files: list[Path], image_size: int) -> Iterator[np.ndarray]:
    """Reads textures and resizes them to a square, without keeping their aspect ratio.

    Args:
        files: Image files.
        image_size: Side S of the result, in pixels.

    Yields:
        Images ``(S, S, 3)``, RGB, uint8.

    Raises:
        DetectorError: If a file cannot be read as an image.
    """
    for file in files:
        try:
            with Image.open(file) as image:
                resized = image.convert("RGB").resize((image_size, image_size), Image.Resampling.BILINEAR)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DetectorError(f"TEXTURE_UNREADABLE: '{file}' cannot be read as an image: {error}.") from error
        yield np.asarray(resized)


def stack_textures(folder: str | Path, image_size: int) -> np.ndarray:
    """All textures of a folder as one array ``(N, S, S, 3)``, uint8.

    Raises:
        DetectorError: If there is no such folder, no image in it, or one that cannot be read.
    """
    return np.stack(list(read_textures(list_textures(Path(folder)), image_size)))
