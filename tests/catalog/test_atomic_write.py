"""A disk that is full or closed: one clear error, and nothing half-written under its own name."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError
from PIL import Image

from shopfloor.catalog.atomic import CSVDataset, FigureDataset, JSONDataset, ParquetDataset, PictureDataset, TextDataset
from shopfloor.catalog.atomic_write import CannotWriteError, atomic_write, write_problem
from shopfloor.catalog.checkpoint import CheckpointDataset
from shopfloor.catalog.folder import RenderedFolderDataset
from shopfloor.catalog.image_stack import ImageStackDataset, LazyStack
from shopfloor.runners.failures import Failure
from tests.disks import files_of_at_most, make_read_only, ordinary_user, small_disk

NOISE = np.random.default_rng(0).integers(0, 256, (200, 40, 40, 3), dtype=np.uint8)


def weights() -> dict[str, Any]:
    import torch

    return {"state_dict": {"a": torch.rand(100_000)}, "name": "x"}


def large_figure() -> Any:
    import altair as alt

    return alt.Chart(alt.InlineData(values=list(range(100_000)))).mark_point()


BIG = {
    "table.csv": (CSVDataset, lambda: pd.DataFrame({"a": range(100_000)})),
    "table.parquet": (ParquetDataset, lambda: pd.DataFrame({"a": np.random.default_rng(0).random(100_000)})),
    "data.json": (JSONDataset, lambda: list(range(100_000))),
    "page.html": (TextDataset, lambda: "x" * 400_000),
    "figure.json": (FigureDataset, large_figure),
    "picture.png": (PictureDataset, lambda: Image.fromarray(NOISE.reshape(800, 400, 3))),
    "picture.jpg": (PictureDataset, lambda: Image.fromarray(NOISE.reshape(800, 400, 3))),
    "stack.npy": (ImageStackDataset, lambda: NOISE),
    "lazy.npy": (ImageStackDataset, lambda: LazyStack(iter(NOISE), len(NOISE), NOISE.shape[1:])),
    "weights.pt": (CheckpointDataset, weights),
    "folder": (RenderedFolderDataset, lambda: {"a/1.png": NOISE.reshape(800, 400, 3), "a/2.png": NOISE[0]}),
}


@pytest.mark.parametrize("name", BIG)
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_a_disk_that_fills_up_is_named_and_leaves_nothing(tmp_path: Path, name: str, old: bool) -> None:
    kind, make = BIG[name]
    path, data = tmp_path / name, make()
    dataset = kind(filepath=str(path))
    if old:
        dataset.save(make())
    with files_of_at_most(100_000), pytest.raises(DatasetError) as error:
        dataset.save(data)
    failure = Failure.of(error.value)
    assert failure.stops_run and failure.reason.startswith(f"Cannot write {path}: the file would be larger than")
    assert "--only-missing-outputs" in failure.reason
    assert [each.name for each in tmp_path.iterdir()] == ([name] if old else [])
    assert dataset.exists() is old


@pytest.mark.parametrize("name", BIG)
def test_a_disk_that_is_large_enough_gets_whole_files(tmp_path: Path, name: str) -> None:
    kind, make = BIG[name]
    kind(filepath=str(tmp_path / name)).save(make())
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_stack_is_the_file_that_numpy_writes(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((3, 5, 4)).astype(np.float32)[:, ::-1]
    ImageStackDataset(str(tmp_path / "stack.npy")).save(maps)
    np.save(tmp_path / "numpy.npy", np.ascontiguousarray(maps))
    assert (tmp_path / "stack.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_a_full_disk_and_a_read_only_one(tmp_path: Path) -> None:
    with small_disk(tmp_path, 64):
        with (
            pytest.raises(CannotWriteError, match="the disk is full. Make room"),
            atomic_write(tmp_path / "a") as file,
        ):
            file.write_bytes(b"x" * 100_000)
        make_read_only(tmp_path)
        with pytest.raises(CannotWriteError, match="read-only. Mount it"), atomic_write(tmp_path / "b" / "a") as file:
            file.write_bytes(b"x")
        assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission(closed_folder: Path) -> None:
    with (
        ordinary_user(),
        pytest.raises(CannotWriteError, match=f"may not write in {closed_folder}. Give the folder to this user"),
        atomic_write(closed_folder / "a") as file,
    ):
        file.write_bytes(b"x")


def test_an_error_that_is_not_about_the_file_stays_what_it_is(tmp_path: Path) -> None:
    unreadable = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/images/1.png")
    assert write_problem(unreadable, tmp_path / "data" / "a.npy") is None
    with pytest.raises(ValueError, match="no number"), atomic_write(tmp_path / "a") as file:
        file.write_bytes(b"x")
        raise ValueError("no number")
    assert list(tmp_path.iterdir()) == []
