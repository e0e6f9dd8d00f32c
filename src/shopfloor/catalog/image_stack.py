"""Prepared images: a memory-mapped stack of one category and size, and the parts of it that splits name.

A stack knows the images that its rows were made of: behind the array its file holds a table of them, which NumPy does
not look at. A part of a stack is cut, and read again, only where its rows are those images.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from kedro.io import DatasetError

from shopfloor.catalog.atomic_write import atomic_write
from shopfloor.catalog.local_file import LocalFileDataset
from shopfloor.catalog.traces import Stamp, file_id, stamp, value_id

#: Ends a stack's file; before it lies the length of the table of rows, as eight bytes.
_END = b"shopfloor rows"
_LENGTH_BYTES = 8
#: What names the image of a row: its path and the digest of its file.
ROW_COLUMNS = ["image", "sha256"]


@dataclass(frozen=True)
class LazyStack:
    """Arrays of one shape that are made while they are being written, so that they are never all in memory.

    Attributes:
        arrays: Gives ``length`` arrays of shape ``shape`` and type ``dtype``, in the order of the index table.
        length: Number of arrays.
        shape: Shape of one array, e.g. ``(256, 256, 3)``.
        dtype: NumPy type name.
        rows: The image of each array: columns ``image`` and ``sha256``; None for what is not made of images of an
            index, such as textures.
    """

    arrays: Iterator[np.ndarray]
    length: int
    shape: tuple[int, ...]
    dtype: str = "uint8"
    rows: pd.DataFrame | None = None


class ImageStackDataset(LocalFileDataset[LazyStack | np.ndarray, np.ndarray]):
    """An array ``(N, H, W[, 3])`` in one ``.npy`` file: written array by array, loaded as a read-only memory map.

    The file appears under its name only when it is whole. The id of the content is taken while it is written.
    """

    _saved: tuple[str, Stamp | None] | None = None

    def save(self, data: LazyStack | np.ndarray) -> None:
        if isinstance(data, np.ndarray):
            data = LazyStack(iter(data), len(data), data.shape[1:], data.dtype.str)
        with atomic_write(self._filepath) as partial:
            id = _write_stack(partial, data)
        self._saved = id, stamp(self._filepath)

    def load(self) -> np.ndarray:
        return load_stack(self._filepath)

    def content_id(self) -> str:
        """Take the id of the file, which is read only if it is not the one that was saved here."""
        if self._saved and self._saved[1] == stamp(self._filepath):
            return self._saved[0]
        return file_id(self._filepath)


class _Hashed:
    """A file that takes the id of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sha256 = file, hashlib.sha256()

    def write(self, data: Any) -> None:
        self._file.write(data)
        self._sha256.update(data)

    @property
    def id(self) -> str:
        return self._sha256.hexdigest()[:32]


def _write_stack(path: Path, data: LazyStack) -> str:
    """Write the stack front to back: unlike a memory map being filled, that holds no pages and waits for no disk.

    The array's bytes are those of ``numpy.save``, which does not say why it could not write.

    Returns:
        The id of the file, as :func:`~shopfloor.catalog.traces.file_id` takes it.
    """
    dtype = np.dtype(data.dtype)
    header = {"descr": dtype.str, "fortran_order": False, "shape": (data.length, *data.shape)}
    pixels: list[str] = []
    with path.open("wb") as opened:
        file = _Hashed(opened)
        np.lib.format.write_array_header_1_0(file, header)
        for array in data.arrays:
            if array.shape != data.shape:
                raise DatasetError(f"Array {len(pixels) + 1} has the shape {array.shape}, not {data.shape}.")
            row = np.ascontiguousarray(array, dtype).data
            file.write(row)
            pixels.append(hashlib.sha256(row).hexdigest()[:32] if data.rows is not None else "")
        if len(pixels) != data.length:
            raise DatasetError(f"{data.length} arrays were announced, {len(pixels)} came.")
        if data.rows is not None:
            table = data.rows[ROW_COLUMNS].assign(pixels=pixels).to_dict("list")
            text = json.dumps(table, separators=(",", ":")).encode()
            file.write(text + len(text).to_bytes(_LENGTH_BYTES, "little") + _END)
    return file.id


def load_stack(path: Path) -> np.ndarray:
    """Map a stack into memory.

    Raises:
        DatasetError: It is not there or damaged, with its name.
    """
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise DatasetError(f"The stack {path} is not there. {_AGAIN}") from None
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"The stack {path} is damaged ({error}). Delete it. {_AGAIN}") from None


_AGAIN = "The experiment's whole pipeline with --only-missing-outputs makes it again."


def stack_rows(stack: np.ndarray) -> pd.DataFrame | None:
    """Read what the rows of a stack were made of; None for an array that is no file, or none made of images.

    Args:
        stack: A stack as its dataset loads it.

    Returns:
        One line per row: ``image``, ``sha256`` of its file, ``pixels`` (id of the row's array).

    Raises:
        DatasetError: The table is damaged.
    """
    name = getattr(stack, "filename", None)
    if name is None:
        return None
    with Path(name).open("rb") as file:
        foot = len(_END) + _LENGTH_BYTES
        if file.seek(0, os.SEEK_END) < foot:
            return None
        file.seek(-foot, os.SEEK_END)
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if file.read() != _END:
            return None
        try:
            file.seek(-foot - length, os.SEEK_END)
            rows = pd.DataFrame(json.loads(file.read(length)), columns=[*ROW_COLUMNS, "pixels"])
        except (OSError, ValueError) as error:
            raise DatasetError(f"The stack {name} is damaged ({error}). Delete it. {_AGAIN}") from None
    if len(rows) != len(stack):
        raise DatasetError(f"The stack {name} is damaged: {len(rows)} names for {len(stack)} images. {_AGAIN}")
    return rows


@dataclass(frozen=True)
class ImagePart(Sequence[np.ndarray]):
    """The images (or masks) of one part of a split, read from the stack only when they are asked for.

    Attributes:
        stack: Images ``(M, H, W, 3)`` or masks ``(M, H, W)`` of the whole category, uint8, memory-mapped.
        table: One line per image of this part: ``row`` (its place in the stack), ``image`` (relative path), ``sha256``
            (of its file), ``label`` (good or bad, as the part states it), ``defect_type``, ``domain``.
    """

    stack: np.ndarray
    table: pd.DataFrame

    @cached_property
    def _rows(self) -> np.ndarray:
        return self.table["row"].to_numpy()

    @property
    def is_bad(self) -> np.ndarray:
        """Labels ``(N,)``, True for bad images."""
        return (self.table["label"] == "bad").to_numpy()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> Any:
        return self.stack[self._rows[index]]

    def rows(self) -> pd.DataFrame | None:
        """Read what the stack says of this part's rows, see :func:`stack_rows`.

        Raises:
            DatasetError: The rows are not the images that the table names.
        """
        rows = stack_rows(self.stack)
        if rows is None:
            return None
        name = getattr(self.stack, "filename", "")
        if len(self.table) and self._rows.max() >= len(rows):
            raise DatasetError(
                f"The stack {name} has {len(rows)} images, and row {self._rows.max()} is asked of it. {_AGAIN}"
            )
        own = rows.iloc[self._rows].reset_index(drop=True)
        differs = (own[ROW_COLUMNS].to_numpy() != self.table[ROW_COLUMNS].to_numpy()).any(axis=1)
        if differs.any():
            place = int(np.argmax(differs))
            raise DatasetError(
                f"The stack {name} is not of the images of its index: {int(differs.sum())} of {len(differs)} rows are "
                f"of other files (first: row {self._rows[place]} is {own['image'][place]}, the index says "
                f"{self.table['image'].iloc[place]}; names may be equal and contents differ). Delete it. {_AGAIN}"
            )
        return own


class ImagePartDataset(LocalFileDataset[ImagePart, ImagePart]):
    """Keeps an :class:`ImagePart` as its table, with the name of the stack that the rows are of; no pixel is copied."""

    def save(self, data: ImagePart) -> None:
        stack_file = getattr(data.stack, "filename", None)
        if stack_file is None:
            raise DatasetError("An image part can only be kept when its stack is a file (ImageStackDataset).")
        # A relative name keeps the data folder movable.
        stack = os.path.relpath(Path(stack_file).resolve(), self._filepath.parent.resolve())
        table = data.table.copy()
        table.attrs = {"stack": Path(stack).as_posix()}
        with atomic_write(self._filepath) as partial:
            partial.write_bytes(table.to_parquet(index=False))

    def load(self) -> ImagePart:
        table = pd.read_parquet(self._filepath)
        part = ImagePart(load_stack(self._filepath.parent / table.attrs["stack"]), table)
        part.rows()
        return part

    def content_id(self) -> str:
        """Take the id of what the part shows: its pixels and what the table says of them, wherever they lie."""
        part = self.load()
        rows = part.rows()
        pixels = rows["pixels"].tolist() if rows is not None else file_id(Path(part.stack.filename))  # type: ignore[attr-defined]
        table = part.table.drop(columns=["row", "sha256"], errors="ignore")
        return value_id([pixels, part.stack.shape[1:], table.to_dict("list")])
