"""The project's own Kedro datasets: whole files, exact round trips."""

from __future__ import annotations

import hashlib
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
from shopfloor.catalog.image_stack import ImagePart, ImagePartDataset, ImageStackDataset, LazyStack, stack_rows
from shopfloor.catalog.updated_table import UpdatedTableDataset
from shopfloor.runners.failures import Failure


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
    ImagePartDataset(str(data / "parts" / "train.parquet")).save(part)
    data.rename(tmp_path / "moved")
    loaded = ImagePartDataset(str(tmp_path / "moved" / "parts" / "train.parquet")).load()
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
    with pytest.raises(DatasetError, match=r"evil\.pt is damaged, or another file.*Delete it") as error:
        CheckpointDataset(str(tmp_path / "evil.pt")).load()
    assert "to `False`" not in str(error.value)  # torch's advice to read the file unsafely
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


def test_a_table_is_made_from_the_one_that_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "files.parquet"
    dataset, seen = UpdatedTableDataset(filepath=str(path)), []

    def update(known: pd.DataFrame) -> pd.DataFrame:
        seen.append(known)
        return pd.DataFrame({"file": [f"{len(seen)}.png"]})

    dataset.save(update)
    dataset.save(update)
    assert seen[0].empty and seen[1]["file"].tolist() == ["1.png"]
    path.write_bytes(b"\x00\xff,damaged")
    dataset.save(update)
    assert seen[2].empty and dataset.load()["file"].tolist() == ["3.png"]
    dataset.load().assign(file="other.png").to_parquet(path, index=False)
    dataset.save(update)
    assert seen[3].empty, "what somebody altered is not known"


def named(count: int) -> pd.DataFrame:
    """Names of the images of a stack."""
    numbers = range(count)
    return pd.DataFrame({"image": [f"{i}.png" for i in numbers], "sha256": [f"{i:064}" for i in numbers]})


def stack_of_named(tmp_path: Path, values: list[int], rows: pd.DataFrame | None = None, name: str = "s") -> np.ndarray:
    dataset = ImageStackDataset(str(tmp_path / f"{name}.npy"))
    arrays = (np.full((2, 2), value, np.uint8) for value in values)
    dataset.save(LazyStack(arrays, len(values), (2, 2), rows=named(len(values)) if rows is None else rows))
    return dataset.load()


def part_of(stack: np.ndarray, rows: list[int], label: str = "good") -> ImagePart:
    table = named(len(stack)).assign(row=range(len(stack)), label=label, defect_type="good", domain="")
    return ImagePart(stack, table.iloc[rows].reset_index(drop=True))


def test_a_stack_carries_the_names_of_its_images_and_numpy_reads_it(tmp_path: Path) -> None:
    stack = stack_of_named(tmp_path, [5, 6, 7])
    assert np.array_equal(np.load(tmp_path / "s.npy"), stack) and [int(each.max()) for each in stack] == [5, 6, 7]
    rows = stack_rows(stack)
    assert rows is not None and rows["image"].tolist() == ["0.png", "1.png", "2.png"]
    assert rows["pixels"][1] == hashlib.sha256(np.full((2, 2), 6, np.uint8).tobytes()).hexdigest()[:32]
    assert stack_rows(np.zeros((3, 2, 2))) is None and stack_rows(stack_of(tmp_path)) is None


@pytest.mark.parametrize("column", ["image", "sha256"])
def test_a_part_of_a_stack_of_other_images_is_refused_with_the_files_name(tmp_path: Path, column: str) -> None:
    rows = named(3)
    rows.loc[1, column] = "other"
    stack = stack_of_named(tmp_path, [5, 6, 7], rows)
    part_of(stack, [0, 2]).rows()
    with pytest.raises(DatasetError, match=r"s\.npy is not of the images of its index: 1 of 2 rows .*1\.png"):
        part_of(stack, [1, 2]).rows()
    dataset = ImagePartDataset(str(tmp_path / "part.parquet"))
    dataset.save(part_of(stack, [1, 2]))
    with pytest.raises(DatasetError, match=r"s\.npy is not of the images"):
        dataset.load()


def test_a_row_that_a_stack_does_not_have_is_refused(tmp_path: Path) -> None:
    stack = stack_of_named(tmp_path, [5, 6])
    with pytest.raises(DatasetError, match=r"s\.npy has 2 images, and row 2 is asked"):
        ImagePart(stack, named(3).assign(row=range(3))).rows()


@pytest.mark.parametrize("spoil", [lambda data: data[:100], lambda data: b"", lambda data: b"x" + data[1:]])
def test_a_damaged_stack_is_named_and_not_the_part(tmp_path: Path, spoil) -> None:
    dataset = ImagePartDataset(str(tmp_path / "part.parquet"))
    dataset.save(part_of(stack_of_named(tmp_path, [5, 6, 7]), [0]))
    stack = tmp_path / "s.npy"
    stack.write_bytes(spoil(stack.read_bytes()))
    with pytest.raises(DatasetError) as error:
        dataset.load()
    reason = Failure.of(error.value).reason
    assert f"The stack {stack} is damaged" in reason and "part.parquet" not in reason


def test_the_id_of_a_part_is_that_of_what_it_shows(tmp_path: Path) -> None:
    def id_of(part: ImagePart) -> str:
        dataset = ImagePartDataset(str(tmp_path / "part.parquet"))
        dataset.save(part)
        return dataset.content_id()

    one = id_of(part_of(stack_of_named(tmp_path, [5, 6, 7]), [1, 2]))
    moved = stack_of_named(tmp_path, [9, 6, 7], name="moved")
    assert id_of(part_of(moved, [1, 2])) == one, "wherever the rows lie and whatever else the stack holds"
    assert id_of(part_of(moved, [0, 2])) != one
    assert id_of(part_of(moved, [2, 1])) != one
    assert id_of(part_of(moved, [1, 2], label="bad")) != one
    assert id_of(part_of(stack_of_named(tmp_path, [5, 6, 8], name="other"), [1, 2])) != one


def test_the_id_of_a_stack_is_taken_while_it_is_written_and_is_that_of_the_file(tmp_path: Path) -> None:
    dataset = ImageStackDataset(str(tmp_path / "s.npy"))
    dataset.save(LazyStack(iter(np.zeros((2, 2, 2), np.uint8)), 2, (2, 2), rows=named(2)))
    whole = hashlib.sha256((tmp_path / "s.npy").read_bytes()).hexdigest()[:32]
    assert dataset.content_id() == whole == ImageStackDataset(str(tmp_path / "s.npy")).content_id()
    (tmp_path / "s.npy").write_bytes(b"other")
    assert dataset.content_id() == hashlib.sha256(b"other").hexdigest()[:32]
