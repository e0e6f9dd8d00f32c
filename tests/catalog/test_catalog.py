"""The project's own Kedro datasets: whole files, exact round trips."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io import DatasetError

from shopfloor.catalog.atomic import CSVDataset, JSONDataset, ParquetDataset, TextDataset
from shopfloor.catalog.checkpoint import CheckpointDataset
from shopfloor.catalog.folder import RenderedFolderDataset
from shopfloor.catalog.grid import GridDataset
from shopfloor.catalog.image_stack import ImagePart, ImagePartDataset, ImageStackDataset, LazyStack
from shopfloor.catalog.index import FolderChangedError, IndexDataset
from shopfloor.catalog.known_files import KnownFilesDataset


def stack_of(tmp_path: Path, count: int = 6) -> np.ndarray:
    dataset = ImageStackDataset(str(tmp_path / "stack" / "images.npy"))
    dataset.save(LazyStack((np.full((4, 5, 3), i, np.uint8) for i in range(count)), count, (4, 5, 3)))
    return dataset.load()


def test_a_lazy_stack_comes_back_as_a_memory_map(tmp_path: Path) -> None:
    stack = stack_of(tmp_path)
    assert isinstance(stack, np.memmap) and stack.shape == (6, 4, 5, 3)
    assert [int(image.max()) for image in stack] == list(range(6))


def test_a_stack_is_the_file_that_numpy_would_have_written(tmp_path: Path) -> None:
    stack_of(tmp_path)
    np.save(tmp_path / "numpy.npy", np.stack([np.full((4, 5, 3), i, np.uint8) for i in range(6)]))
    assert (tmp_path / "stack/images.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_an_array_of_another_shape_does_not_shift_those_behind_it(tmp_path: Path) -> None:
    dataset = ImageStackDataset(str(tmp_path / "images.npy"))
    with pytest.raises(DatasetError, match=r"Array 2 has the shape \(2, 3\)"):
        dataset.save(LazyStack(iter([np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)]), 2, (2, 2)))
    assert not dataset.exists()


def test_an_interrupted_stack_does_not_count_as_finished(tmp_path: Path) -> None:
    def breaks() -> object:
        yield np.zeros((2, 2), np.uint8)
        raise OSError("unplugged")

    dataset = ImageStackDataset(str(tmp_path / "images.npy"))
    with pytest.raises(DatasetError, match="unplugged"):
        dataset.save(LazyStack(breaks(), 2, (2, 2)))  # type: ignore[arg-type]
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="3 arrays were announced, 1 came"):
        dataset.save(LazyStack(iter([np.zeros((2, 2), np.uint8)]), 3, (2, 2)))
    assert not dataset.exists()


def test_a_part_gives_its_rows_and_survives_a_move_of_the_data_folder(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"row": [4, 1], "image": ["NA", "b"], "label": ["bad", "good"], "defect_type": ["007", "good"], "domain": ""}
    )
    data = tmp_path / "data"
    part = ImagePart(stack_of(data), table)
    ImagePartDataset(str(data / "parts" / "train.json")).save(part)
    data.rename(tmp_path / "moved")
    loaded = ImagePartDataset(str(tmp_path / "moved" / "parts" / "train.json")).load()
    assert [int(image[0, 0, 0]) for image in loaded] == [4, 1] and len(loaded) == 2
    assert loaded.is_bad.tolist() == [True, False]
    pd.testing.assert_frame_equal(loaded.table, table, check_dtype=False)
    assert loaded.table["defect_type"].tolist() == ["007", "good"]


@pytest.mark.parametrize(
    ("dataset", "data"),
    [
        (CSVDataset, pd.DataFrame({"a": [1, 2]})),
        (ParquetDataset, pd.DataFrame({"a": [1, 2]})),
        (JSONDataset, {"a": [1, 2]}),
        (TextDataset, "text"),
    ],
)
def test_a_save_that_breaks_leaves_the_file_as_it_was(tmp_path, monkeypatch, dataset, data) -> None:
    path = tmp_path / "results" / "file.x"
    kept = dataset(filepath=str(path))
    kept.save(data)
    before = path.read_bytes()

    def no_rename(*_: object) -> None:
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", no_rename)
        patch.setattr(Path, "replace", no_rename)
        with pytest.raises((DatasetError, OSError)):
            kept.save(data)
    assert path.read_bytes() == before
    kept.save(data)  # what the broken save left behind is in nobody's way
    assert kept.exists() and [p.name for p in path.parent.iterdir()] == ["file.x"]


class Payload:
    """Would create a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_a_checkpoint_that_carries_code_does_not_run_it(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    torch.save({"state_dict": Payload(str(target))}, tmp_path / "evil.pt")
    with pytest.raises(DatasetError):
        CheckpointDataset(str(tmp_path / "evil.pt")).load()
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(str(target))))  # the payload is a real one
    assert target.exists()


def test_a_checkpoint_round_trips(tmp_path: Path) -> None:
    dataset = CheckpointDataset(str(tmp_path / "c.pt"))
    dataset.save({"state_dict": {"w": torch.arange(3.0)}, "image_size": 64, "class_path": "x.Y", "mean": [0.5]})
    loaded = dataset.load()
    assert torch.equal(loaded["state_dict"]["w"], torch.arange(3.0)) and loaded["image_size"] == 64


def test_a_rendered_folder_appears_whole(tmp_path: Path) -> None:
    dataset = RenderedFolderDataset(str(tmp_path / "parts"))
    assert not dataset.exists()
    with pytest.raises(DatasetError):
        dataset.save({"ring/train/good/000.png": np.zeros((4, 4, 3), np.uint8), "ring/x.png": np.zeros((4, 4, 7))})
    assert not dataset.exists()
    dataset.save({"ring/train/good/000.png": np.zeros((4, 4, 3), np.uint8)})
    assert [str(p.relative_to(dataset.load())) for p in dataset.load().rglob("*.png")] == ["ring/train/good/000.png"]


def test_a_plan_exists_for_its_own_digest_only(tmp_path: Path) -> None:
    path = str(tmp_path / "grid.json")
    GridDataset(filepath=path, digest="aaaa").save({"digest": "aaaa"})
    assert GridDataset(filepath=path, digest="aaaa").exists()
    assert not GridDataset(filepath=path, digest="bbbb").exists()
    Path(path).write_text("{ damaged")
    assert not GridDataset(filepath=path, digest="aaaa").exists()


def test_an_index_of_other_files_is_not_overwritten(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"dataset": "d", "category": "c", "image": ["a.png", "b.png"], "split": "test", "label": "bad",
         "sha256": ["1", "2"], "masks": "", "mask_sha256": ["", "9"]}
    )  # fmt: skip
    dataset = IndexDataset(filepath=str(tmp_path / "i.parquet"))
    dataset.save(table)
    dataset.save(table.assign(modified_ns=5))  # the same files, touched
    for other in (table.assign(sha256=["1", "3"]), table.iloc[:1], table.assign(label=["bad", "good"])):
        with pytest.raises(DatasetError) as error:
            dataset.save(other)
        assert isinstance(error.value.__cause__, FolderChangedError)
        assert "d/c: 1 images or masks" in error.value.__cause__.message and "b.png" in error.value.__cause__.message


def test_known_files_are_those_of_the_last_run_or_none(tmp_path: Path) -> None:
    path = tmp_path / "files.parquet"
    known = KnownFilesDataset(filepath=str(path))
    assert known.exists() and known.load().empty, "before the first run nothing is known"
    table = pd.DataFrame({"file": ["a.png"], "file_size": [3]})
    ParquetDataset(filepath=str(path)).save(table)
    pd.testing.assert_frame_equal(known.load(), table)
    path.write_bytes(b"\x00\xff,damaged")
    assert known.load().empty
    with pytest.raises(DatasetError, match="read only"):
        known.save(table)
