"""Counts are compared with ``labels.csv`` as pandas reads it, behaviour on a miniature copy."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest

from shopfloor.readers import DatasetError, elpv, find_root, list_categories, read_index
from tests.readers.trees import read, save_image


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    if importlib.util.find_spec("elpv_dataset") is None:
        pytest.skip("package elpv-dataset is not installed")
    path = elpv.default_root() / "labels.csv"
    return pd.read_csv(path, sep=r"\s+", names=["path", "probability", "type"])


def make_cells(root: Path, good: int = 12, bad: int = 5) -> Path:
    """Writes ``good`` + ``bad`` mono cells, one uncertain mono cell and three poly cells."""
    rows = [("mono", 0.0)] * good + [("mono", 1.0)] * bad + [("mono", 1 / 3)]
    rows += [("poly", 0.0), ("poly", 0.0), ("poly", 1.0)]
    lines = []
    for number, (kind, probability) in enumerate(rows):
        save_image(root / f"images/cell{number:04d}.png", number)
        lines.append(f"images/cell{number:04d}.png  {probability}   {kind}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("category", ["mono", "poly"])
def test_real_counts(labels: pd.DataFrame, category: str) -> None:
    root = find_root("elpv", None)
    assert list(elpv.categories(root)) == sorted(labels["type"].unique()) == ["mono", "poly"]
    options = {"split_seed": 3, "train_good": 60, "test_good": 20, "test_bad": 30}
    index, _ = read_index("elpv", None, "elpv", category, options)
    counts = index.groupby(["split", "label"]).size().to_dict()
    assert counts == {("train", "good"): 60, ("test", "good"): 20, ("test", "bad"): 30}
    known = labels.set_index("path").loc[index["image"]]
    assert (known["type"] == category).all()
    assert known["probability"].tolist() == [float(label == "bad") for label in index["label"]]
    assert index[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[300, 300]]
    assert not index["has_pixel_labels"].any()


def test_without_limits_every_certain_image_is_used(labels: pd.DataFrame) -> None:
    index, _ = read_index("elpv", None, "elpv", "mono", {"test_good": 100})
    mono = labels[labels["type"] == "mono"]
    assert len(index) == ((mono["probability"] == 0) | (mono["probability"] == 1)).sum()
    assert (index["label"] == "bad").sum() == (mono["probability"] == 1).sum()
    assert ((index["split"] == "test") & (index["label"] == "good")).sum() == 100


def parts(root: Path, **options: int) -> dict[tuple[str, str], set[str]]:
    index = read(root, "mono", reader="elpv", **options)
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for split, label, image in zip(index["split"], index["label"], index["image"], strict=True):
        found[split, label].add(image)
    return found


def test_split_is_seeded_nested_and_disjoint(tmp_path: Path) -> None:
    root = make_cells(tmp_path)
    large = parts(root, split_seed=1, train_good=7, test_good=5, test_bad=5)
    small = parts(root, split_seed=1, train_good=3, test_good=2, test_bad=1)
    assert {key: len(images) for key, images in small.items()} == {
        ("train", "good"): 3,
        ("test", "good"): 2,
        ("test", "bad"): 1,
    }
    assert all(small[key] <= large[key] for key in small)
    assert not large["train", "good"] & large["test", "good"]
    assert parts(root, split_seed=1, train_good=7, test_good=5, test_bad=5) == large
    assert parts(root, split_seed=2, train_good=7, test_good=5, test_bad=5) != large


def test_order_of_the_label_file_does_not_matter(tmp_path: Path) -> None:
    root = make_cells(tmp_path)
    before = parts(root, train_good=5, test_good=4, test_bad=2)
    lines = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join(reversed(lines)))
    assert parts(root, train_good=5, test_good=4, test_bad=2) == before


@pytest.mark.parametrize(
    "options",
    [{"train_good": 8, "test_good": 5}, {"test_good": 12}, {"test_bad": 6, "test_good": 1}, {"test_good": 0}],
)
def test_impossible_limits(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(DatasetError, match="images exist") as caught:
        read(make_cells(tmp_path), "mono", reader="elpv", **options)
    assert caught.value.code == "OPTION_INVALID"


def test_missing_file_is_named_with_its_line(tmp_path: Path) -> None:
    root = make_cells(tmp_path)
    (root / "images/cell0003.png").unlink()
    with pytest.raises(DatasetError) as caught:
        read(root, "mono", reader="elpv", test_good=4)
    assert (caught.value.code, caught.value.paths) == ("FILE_MISSING", ("images/cell0003.png",))
    assert "1 of 18 files named in labels.csv do not exist (first: images/cell0003.png, line 4)" in caught.value.message


def test_unlisted_file_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_cells(tmp_path)
    save_image(root / "images/new.png", 99)
    read(root, "mono", reader="elpv", test_good=4)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("[FILE_UNLISTED]")
    assert "images/new.png" in caplog.messages[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("../cell.png 0.0 mono", "leaves the root"),
        ("/etc/passwd 0.0 mono", "absolute path"),
        ("images/x.png zero mono", "is not a number"),
        ("images/x.png nan mono", "is not between 0 and 1"),
        ("images/x.png 0.0 thin-film", "neither mono nor poly"),
        ("images/x.png 0.0", "2 values instead of 3"),
        ("images/cell0000.png 1.0 mono", "occurs a second time"),
    ],
)
def test_label_file_with_a_bad_line(tmp_path: Path, line: str, reason: str) -> None:
    root = make_cells(tmp_path)
    with (root / "labels.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError) as caught:
        elpv.categories(root)
    assert (caught.value.code, caught.value.paths) == ("SPLITFILE_INVALID", ("labels.csv:22",))
    assert "labels.csv, line 22: " in caught.value.message
    assert reason in caught.value.message


def test_clone_of_the_repository_as_root(tmp_path: Path) -> None:
    make_cells(tmp_path / "src/elpv_dataset/data")
    with pytest.raises(DatasetError) as caught:
        list_categories("elpv", tmp_path)
    assert caught.value.code == "LAYOUT_UNKNOWN"
    assert f"{tmp_path / 'src/elpv_dataset/data'} looks right" in caught.value.message


def test_missing_package_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError) as caught:
        elpv.default_root()
    assert caught.value.code == "PACKAGE_MISSING"
    assert 'pip install "shopfloor[demo]"' in caught.value.message
