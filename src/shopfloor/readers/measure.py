"""What is known of a file after reading it once: size, digest, and whether it decodes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from shopfloor.readers.category_files import CategoryFiles


_MANY_VALUES = 64


def available_cores() -> int:
    """Cores that this process may use, fewer than the machine has where it is confined to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_pool() -> ThreadPoolExecutor:
    """Threads for decoding, one per core."""
    return ThreadPoolExecutor(available_cores())


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


_TABLE_COLUMNS = ["file", *(field.name for field in fields(FileFacts))]


def measure(files: CategoryFiles, known: Mapping[str, FileFacts] | None = None) -> dict[str, FileFacts]:
    """Read, hash and decode every file of a category on all cores, showing progress.

    Args:
        files: The category as listed.
        known: Facts of an earlier run. A file of the same path, size and modification time is not opened again.

    Returns:
        Facts of every image and mask by its path. Unreadable files are reported in ``problem``, never raised.
    """
    from tqdm import tqdm

    jobs = {**dict.fromkeys(files.images, False), **dict.fromkeys(files.masks, True)}
    known = {path: facts for path, facts in (known or {}).items() if path in jobs}
    known = {path: facts for path, facts in known.items() if _is_current(files.root / path, facts, jobs[path])}
    wanted = [path for path in jobs if path not in known]
    with thread_pool() as pool:
        measured = pool.map(lambda path: measure_file(files.root / path, is_mask=jobs[path]), wanted)
        title = f"Checking {files.dataset}/{files.category}"
        progress = tqdm(measured, desc=title, total=len(wanted), unit="file", mininterval=1.0)
        fresh = dict(zip(wanted, progress, strict=True))
    return {path: fresh.get(path) or known[path] for path in jobs}


def _is_current(path: Path, facts: FileFacts, is_mask: bool) -> bool:
    """Whether facts of an earlier run still hold; of a mask the values of its pixels must be among them."""
    if facts.problem or (is_mask and not facts.values):
        return False
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (facts.file_size, facts.modified_ns)


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
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            return FileFacts(problem="not a regular file")
        data = path.read_bytes()
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


def facts_table(facts: Mapping[str, FileFacts]) -> pd.DataFrame:
    """Facts as a table to keep: one line per file, ``file`` (its path) and the attributes of :class:`FileFacts`."""
    import pandas as pd

    lines = [{"file": path, **asdict(known), "values": _join(known.values)} for path, known in facts.items()]
    return pd.DataFrame(lines, columns=_TABLE_COLUMNS)


def facts_from_table(table: pd.DataFrame) -> dict[str, FileFacts]:
    """The facts that :func:`facts_table` made a table of; a table of another form knows nothing."""
    if list(table.columns) != _TABLE_COLUMNS:
        return {}
    facts = {}
    for file, *cells in table.itertuples(index=False, name=None):
        values = dict(zip(_TABLE_COLUMNS[1:], cells, strict=True))
        facts[file] = FileFacts(**{**values, "values": _split(values["values"])})
    return facts


def _join(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _split(cell: str) -> tuple[float, ...]:
    return tuple(float(value) for value in cell.split())
