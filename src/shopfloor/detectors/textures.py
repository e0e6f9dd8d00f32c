"""Texture images, from which DRAEM and GLASS make their synthetic defects."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from shopfloor.detectors.errors import DetectorError
from shopfloor.readers.pixels import ImageError, read_image

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@runtime_checkable
class UsesTextures(Protocol):
    """A detector that makes synthetic defects of textures."""

    def use_textures(self, textures: np.ndarray) -> None:
        """Takes the textures ``(N, S, S, 3)``, uint8, before the training begins; they are not to be copied whole."""


def list_textures(folder: str | Path | None, name: str | None = None) -> list[Path]:
    """Image files of a folder and its sub-folders, in the order of their names; links are not followed.

    Args:
        folder: The folder; None if none was named.
        name: Name of the entry in the parameter files that names it, for messages.

    Raises:
        DetectorError: If there is no such folder or no image in it.
    """
    entry = f" (textures.{name}.folder)" if name else ""
    advice = (
        f"Give a folder of texture images{entry}: the Describable Textures Dataset, DTD "
        "(https://www.robots.ox.ac.uk/~vgg/data/dtd/, for research), or photographs of surfaces of your own."
    )
    if not folder or not Path(folder).is_dir():
        raise DetectorError(f"TEXTURES_MISSING: there is no folder {str(folder)!r}. {advice}")
    files = (path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    found = sorted(path for path in files if path.is_file() and not path.is_symlink())
    if not found:
        raise DetectorError(f"TEXTURES_MISSING: '{folder}' holds no image ({', '.join(SUFFIXES)}). {advice}")
    return found


def read_texture(file: Path, image_size: int, *, crop: bool = False) -> np.ndarray:
    """Reads a texture and makes it a square.

    Args:
        file: Image file.
        image_size: Side S of the result, in pixels.
        crop: Whether it keeps its aspect ratio, the shorter side is resized to S, and the middle is kept; otherwise it
            is squeezed.

    Returns:
        Image ``(S, S, 3)``, RGB, uint8.

    Raises:
        DetectorError: If it cannot be read as an image of 8 bits per channel.
    """
    try:
        return _cropped(read_image(file), image_size) if crop else read_image(file, image_size)
    except (OSError, ImageError) as error:
        raise DetectorError(f"TEXTURE_UNREADABLE: '{file}' cannot be read as an image: {error}.") from error


def stack_textures(folder: str | Path, image_size: int, *, crop: bool = False) -> np.ndarray:
    """All textures of a folder as one array ``(N, S, S, 3)``, uint8; ``crop`` as in :func:`read_texture`.

    Raises:
        DetectorError: If there is no such folder, no image in it, or one that cannot be read.
    """
    return np.stack([read_texture(file, image_size, crop=crop) for file in list_textures(folder)])


def _cropped(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resizes and crops as torchvision's ``Resize(side)`` and ``CenterCrop(side)`` do with an image of Pillow."""
    shorter = min(pixels.shape[:2])
    height, width = (side * length // shorter for length in pixels.shape[:2])
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return np.asarray(resized)[top : top + side, left : left + side]
