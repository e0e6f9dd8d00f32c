"""What is known of a file after reading it once: size, digest, and whether it decodes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_MANY_VALUES = 64


@dataclass(frozen=True)
class FileFacts:
    """Facts about one image or mask file.

    Attributes:
        file_size: Bytes.
        modified_ns: Modification time in nanoseconds.
        sha256: Digest of the content.
        width: Pixels, 0 where the file cannot be decoded.
        height: Pixels, 0 where the file cannot be decoded.
        format: Format by content, e.g. ``JPEG``.
        mode: Pillow's mode, e.g. ``L`` or ``RGB``.
        bits: Bits per channel as stored.
        oriented: Whether an EXIF tag asks for the image to be turned.
        values: Different values of a mask, at most the 64 smallest; empty for an image.
        problem: Why the file cannot be read, empty where it can.
    """

    file_size: int = 0
    modified_ns: int = 0
    sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    bits: int = 0
    oriented: bool = False
    values: tuple[float, ...] = ()
    problem: str = ""


def measure(root: Path, images: Iterable[str], masks: Iterable[str], title: str) -> dict[str, FileFacts]:
    """Read, hash and decode files on all cores, showing progress.

    Args:
        root: Dataset root.
        images: Paths of images relative to the root.
        masks: Paths of masks relative to the root.
        title: Label of the progress bar.

    Returns:
        Facts of every file by its relative path. Unreadable files are reported in ``problem``, never raised.
    """
    from tqdm import tqdm

    jobs = [(path, False) for path in dict.fromkeys(images)] + [(path, True) for path in dict.fromkeys(masks)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = pool.map(lambda job: measure_file(root / job[0], is_mask=job[1]), jobs)
        progress = tqdm(measured, desc=title, total=len(jobs), unit="file", leave=False, disable=None)
        return {path: facts for (path, _), facts in zip(jobs, progress, strict=True)}


def measure_file(path: Path, *, is_mask: bool) -> FileFacts:
    """Read, hash and fully decode one file.

    Args:
        path: The file.
        is_mask: Whether the values of the pixels are wanted too.

    Returns:
        The facts; a file that cannot be read or decoded has a ``problem``.
    """
    from shopfloor.readers import pixels

    try:
        status, data = path.stat(), path.read_bytes()
    except OSError as error:
        return FileFacts(problem=error.strerror or str(error))
    file = FileFacts(len(data), status.st_mtime_ns, hashlib.sha256(data).hexdigest())
    try:
        image = pixels.decode(data)
        return replace(
            file,
            width=image.width,
            height=image.height,
            format=image.format or "",
            mode=image.mode,
            bits=pixels.bits_per_channel(image, data),
            oriented=pixels.asks_for_turn(image),
            values=_values(image, data) if is_mask else (),
        )
    except pixels.ImageError as error:
        return replace(file, problem=str(error))


def _values(mask: Image, data: bytes) -> tuple[float, ...]:
    import numpy as np

    from shopfloor.readers.pixels import mask_values

    return tuple(np.unique(mask_values(mask, data))[:_MANY_VALUES].tolist())
