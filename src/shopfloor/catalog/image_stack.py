"""Prepared images: a memory-mapped stack of one category and size, and the parts of it that splits name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from shopfloor.whole_files import written_whole


@dataclass(frozen=True)
class LazyStack:
    """Arrays of one shape that are made while they are being written, so that they are never all in memory.

    Attributes:
        arrays: Gives ``length`` arrays of shape ``shape`` and type ``dtype``, in the order of the index table.
        length: Number of arrays.
        shape: Shape of one array, e.g. ``(256, 256, 3)``.
        dtype: NumPy type name.
    """

    arrays: Iterator[np.ndarray]
    length: int
    shape: tuple[int, ...]
    dtype: str = "uint8"


class ImageStackDataset(AbstractDataset[LazyStack | np.ndarray, np.ndarray]):
    """An array ``(N, H, W[, 3])`` in one ``.npy`` file: written array by array, loaded as a read-only memory map.

    The file appears under its name only when it is whole.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def save(self, data: LazyStack | np.ndarray) -> None:
        with written_whole(self._filepath) as partial:
            if isinstance(data, np.ndarray):
                data = LazyStack(iter(data), len(data), data.shape[1:], data.dtype.str)
            _write_stack(partial, data)

    def load(self) -> np.ndarray:
        return np.load(self._filepath, mmap_mode="r")

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _write_stack(path: Path, data: LazyStack) -> None:
    """Write the stack front to back: unlike a memory map being filled, that holds no pages and waits for no disk.

    The same bytes as those of ``numpy.save``, which does not say why it could not write.
    """
    dtype = np.dtype(data.dtype)
    header = {"descr": dtype.str, "fortran_order": False, "shape": (data.length, *data.shape)}
    written = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for written, array in enumerate(data.arrays, start=1):
            if array.shape != data.shape:
                raise DatasetError(f"Array {written} has the shape {array.shape}, not {data.shape}.")
            file.write(np.ascontiguousarray(array, dtype).data)
    if written != data.length:
        raise DatasetError(f"{data.length} arrays were announced, {written} came.")


@dataclass(frozen=True)
class ImagePart(Sequence[np.ndarray]):
    """The images (or masks) of one part of a split, read from the stack only when they are asked for.

    Attributes:
        stack: Images ``(M, H, W, 3)`` or masks ``(M, H, W)`` of the whole category, uint8, memory-mapped.
        table: One line per image of this part: ``row`` (its place in the stack), ``image`` (relative path),
            ``label`` (good or bad, as the part states it), ``defect_type``, ``domain``.
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


class ImagePartDataset(AbstractDataset[ImagePart, ImagePart]):
    """Keeps an :class:`ImagePart` as the name of its stack and the rows chosen from it; no pixel is copied."""

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def save(self, data: ImagePart) -> None:
        stack_file = getattr(data.stack, "filename", None)
        if stack_file is None:
            raise DatasetError("An image part can only be kept when its stack is a file (ImageStackDataset).")
        # A relative name keeps the data folder movable.
        stack = os.path.relpath(Path(stack_file).resolve(), self._filepath.parent.resolve())
        content = {"stack": Path(stack).as_posix(), "table": data.table.to_csv(index=False)}
        with written_whole(self._filepath) as partial:
            partial.write_text(json.dumps(content), encoding="utf-8")

    def load(self) -> ImagePart:
        content = json.loads(self._filepath.read_text(encoding="utf-8"))
        stack = np.load(self._filepath.parent / content["stack"], mmap_mode="r")
        text_columns = dict.fromkeys(("image", "label", "defect_type", "domain"), str)
        table = pd.read_csv(StringIO(content["table"]), dtype=text_columns, keep_default_na=False)
        return ImagePart(stack, table)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
