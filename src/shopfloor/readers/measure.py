"""What is known of a file after reading it once: size, digest, and whether it decodes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.types import FileFacts

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image


_MANY_VALUES = 64


def available_cores() -> int:
    """Cores that this process may use, fewer than the machine has where it is confined to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_pool() -> ThreadPoolExecutor:
    """Threads for decoding, one per core."""
    return ThreadPoolExecutor(available_cores())


_KINDS = {"int": "int64", "bool": "bool"}
_TABLE_TYPES = {"file": "str", **{field.name: _KINDS.get(str(field.type), "str") for field in fields(FileFacts)}}


def measure(files: CategoryFiles, known: Mapping[str, FileFacts] | None = None) -> dict[str, FileFacts]:
    """Read, hash and decode every file of a category on all cores, showing progress.

    Args:
        files: The category as listed.
        known: Facts of an earlier run. A file whose content is the same is not decoded again.

    Returns:
        Facts of every image and mask by its path. Unreadable files are reported in ``problem``, never raised.
    """
    from tqdm import tqdm

    jobs = {**dict.fromkeys(files.images, False), **dict.fromkeys(files.masks, True)}
    known = known or {}
    with thread_pool() as pool:
        measured = pool.map(lambda path: measure_file(files.root / path, jobs[path], known.get(path)), jobs)
        title = f"Checking {files.dataset}/{files.category}"
        progress = tqdm(measured, desc=title, total=len(jobs), unit="file", mininterval=1.0)
        return dict(zip(jobs, progress, strict=True))


def measure_file(path: Path, is_mask: bool, known: FileFacts | None = None) -> FileFacts:
    """Read, hash and fully decode one file.

    Args:
        path: The file.
        is_mask: Whether the values of the pixels are wanted too.
        known: Facts of an earlier run, which are given back where the content is the same.

    Returns:
        The facts; a file that cannot be read or decoded has a ``problem``.
    """
    from shopfloor.readers import pixels

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            return FileFacts(problem="not a regular file")
        data = path.read_bytes()
    except OSError as error:
        return FileFacts(problem=error.strerror or str(error))
    file = FileFacts(len(data), hashlib.sha256(data).hexdigest())
    if known and known.sha256 == file.sha256 and not known.problem and (known.values or not is_mask):
        return known
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
    return pd.DataFrame(lines, columns=list(_TABLE_TYPES)).astype(_TABLE_TYPES)


def facts_from_table(table: pd.DataFrame) -> dict[str, FileFacts]:
    """The facts that :func:`facts_table` made a table of; a table of another form knows nothing."""
    if list(table.columns) != list(_TABLE_TYPES):
        return {}
    facts = {}
    for file, *cells in table.itertuples(index=False, name=None):
        known = dict(zip(list(_TABLE_TYPES)[1:], cells, strict=True))
        facts[file] = FileFacts(**{**known, "values": _split(known["values"])})
    return facts


def _join(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _split(cell: str) -> tuple[float, ...]:
    return tuple(float(value) for value in cell.split())
