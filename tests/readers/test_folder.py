from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from shopfloor.readers import DatasetError, list_categories, read_index
from tests.readers.trees import make_tree, read, save_image, save_mask


def error_of(root: Path, category: str = "bolt", **options: str) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        read(root, category, **options)
    return caught.value


# --- tree


def test_tree(tmp_path: Path) -> None:
    make_tree(tmp_path, "nut")
    category = make_tree(tmp_path, "bolt", extension="bmp")
    save_image(category / "train/bad/000.TIFF", 70)
    save_image(category / "validation/good/000.webp", 71)
    assert list(list_categories("folder", tmp_path)) == ["bolt", "nut"]
    index = read(tmp_path, "bolt")
    counts = index.groupby(["split", "label", "defect_type"]).size().to_dict()
    assert counts == {
        ("train", "good", "good"): 4,
        ("train", "bad", "bad"): 1,
        ("val", "good", "good"): 1,
        ("test", "good", "good"): 2,
        ("test", "bad", "bent"): 1,
        ("test", "bad", "scratch"): 2,
    }
    row = index.set_index("image").loc["bolt/test/scratch/001.bmp"]
    assert row["masks"] == "bolt/ground_truth/scratch/001_mask.png"
    assert (row["width"], row["height"], row["domain"]) == (40, 40, "")
    assert bool(row["has_pixel_labels"])
    assert row["file_size"] == (category / "test/scratch/001.bmp").stat().st_size


def test_the_three_places_of_a_mask(tmp_path: Path) -> None:
    masks = make_tree(tmp_path, masks=False) / "ground_truth"
    save_mask(masks / "bent/000_mask.png")
    save_mask(masks / "scratch/000.bmp")
    save_mask(masks / "scratch/001/000.png")
    save_mask(masks / "scratch/001/001.png", value=3)
    index = read(tmp_path, "bolt").set_index("image")
    assert index.loc["bolt/test/bent/000.png", "masks"] == "bolt/ground_truth/bent/000_mask.png"
    assert index.loc["bolt/test/scratch/000.png", "masks"] == "bolt/ground_truth/scratch/000.bmp"
    both = "bolt/ground_truth/scratch/001/000.png;bolt/ground_truth/scratch/001/001.png"
    assert index.loc["bolt/test/scratch/001.png", "masks"] == both


def test_without_ground_truth_there_are_no_pixel_labels(tmp_path: Path) -> None:
    make_tree(tmp_path, masks=False)
    index = read(tmp_path, "bolt")
    assert not index["has_pixel_labels"].any()
    assert (index["masks"] == "").all()


def test_root_missing(tmp_path: Path) -> None:
    error = error_of(tmp_path / "nowhere")
    assert error.code == "ROOT_MISSING"
    assert str(tmp_path / "nowhere") in error.message
    assert "Set the path in the configuration" in error.message
    (tmp_path / "file").touch()
    assert "is not a folder" in error_of(tmp_path / "file").message


@pytest.mark.parametrize(
    ("given", "right"), [("..", "."), ("bolt", "."), ("bolt/train", "."), ("bolt/ground_truth", ".")]
)
def test_root_one_level_off_is_named(tmp_path: Path, given: str, right: str) -> None:
    root = tmp_path / "data"
    make_tree(root)
    error = error_of((root / given).resolve())
    assert error.code == "LAYOUT_UNKNOWN"
    assert f"{(root / right).resolve()} looks right: use that path." in error.message


def test_unknown_layout_lists_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    error = error_of(tmp_path)
    assert error.code == "LAYOUT_UNKNOWN"
    assert "found normal" in error.message
    assert "expected <category>/train/good" in error.message
    assert "looks right" not in error.message


@pytest.mark.parametrize("category", ["screw", "../data/bolt", ".", ""])
def test_category_missing(tmp_path: Path, category: str) -> None:
    make_tree(tmp_path / "data")
    error = error_of(tmp_path / "data", category)
    assert error.code == "CATEGORY_MISSING"
    assert "available: bolt" in error.message


def test_missing_folder_does_not_hide_other_problems(tmp_path: Path) -> None:
    category = make_tree(tmp_path)
    (category / "train/good").rename(category / "train/ok")
    (category / "test/bent/000.png").write_bytes(b"")
    error = error_of(tmp_path)
    assert [finding.code for finding in error.findings] == ["FOLDER_MISSING", "IMAGE_UNREADABLE"]
    assert error.paths == ("bolt/train/good",)
    assert "required folder bolt/train/good is missing" in error.message


@pytest.mark.parametrize(
    ("emptied", "text"),
    [("train/good", "no good image in train"), ("test/good", "no good image in test")],
)
def test_empty_split(tmp_path: Path, emptied: str, text: str) -> None:
    category = make_tree(tmp_path)
    for image in (category / emptied).iterdir():
        image.rename(image.with_suffix(".gif"))
    error = error_of(tmp_path)
    assert error.code == "SPLIT_EMPTY"
    assert f"{text} (bolt/{emptied}; accepted extensions bmp, jpg" in error.message
    count = {"train/good": 4, "test/good": 2}[emptied]
    assert f"{count} files with other extensions were ignored" in error.message


def test_no_defect_folder(tmp_path: Path) -> None:
    category = make_tree(tmp_path, masks=False)
    for name in ("bent", "scratch"):
        (category / "test" / name).rename(tmp_path / name)
    error = error_of(tmp_path)
    assert error.code == "SPLIT_EMPTY"
    assert "no bad image in test (bolt/test/<defect>" in error.message


def test_foreign_files_are_passed_over_or_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    category = make_tree(tmp_path)
    for name in (".DS_Store", "Thumbs.db", "license.txt", "readme.md", "._000.png"):
        (category / "train/good" / name).write_text("x")
    (tmp_path / "__MACOSX/bolt/train/good").mkdir(parents=True)
    assert list(list_categories("folder", tmp_path)) == ["bolt"]
    assert len(read(tmp_path, "bolt")) == 9
    assert caplog.messages == []
    (category / "train/good/000.psd").write_text("x")
    (category / "train/ok").mkdir()
    read(tmp_path, "bolt")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("[FILE_IGNORED] demo/bolt: 2 files or folders")


# --- manifest


def make_manifest(root: Path, lines: list[str], header: str = "image,split,label,mask,defect_type,domain") -> Path:
    """Writes four images, a mask and a manifest that names them plus the given lines."""
    for seed, name in enumerate(["a", "b", "c", "d"]):
        save_image(root / f"images/{name}.png", seed)
    save_mask(root / "masks/d1.png")
    save_mask(root / "masks/d2.png", value=2)
    sound = [
        "images/a.png,train,good,,,",
        "images/b.png,val,good,,,",
        "images/c.png,test,good,,,night",
        "images/d.png,test,bad,masks/d1.png;masks/d2.png,dent,",
    ]
    path = root / "manifest.csv"
    path.write_text("\n".join([header, *sound, *lines]) + "\n", encoding="utf-8-sig")
    return path


def test_manifest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "007"
    make_manifest(root, [])
    assert list(list_categories("folder", root)) == ["007"]
    index = read(root, "007").set_index("image")
    assert index["split"].tolist() == ["train", "val", "test", "test"]
    assert index["defect_type"].tolist() == ["good", "good", "good", "dent"]
    assert index.loc["images/c.png", "domain"] == "night"
    assert index.loc["images/d.png", "masks"] == "masks/d1.png;masks/d2.png"
    assert index["has_pixel_labels"].all()
    assert caplog.messages == []


def test_manifest_with_categories_and_another_name(tmp_path: Path) -> None:
    for seed, name in enumerate(["a", "b", "c", "d", "e", "f"]):
        save_image(tmp_path / f"{name}.png", seed)
    (tmp_path / "lists").mkdir()
    (tmp_path / "parts.csv").write_text(
        "label,category,image,split\n"
        "good,NA,a.png,train\ngood,NA,b.png,test\nbad,NA,c.png,test\n"
        "good,gear,d.png,train\ngood,gear,e.png,test\nbad,gear,f.png,test\n"
    )
    assert list(list_categories("folder", tmp_path, {"manifest": "parts.csv"})) == ["NA", "gear"]
    index = read(tmp_path, "NA", manifest="parts.csv")
    assert index["image"].tolist() == ["a.png", "b.png", "c.png"]
    assert index["category"].unique().tolist() == ["NA"]
    assert index["defect_type"].tolist() == ["good", "good", "bad"]
    assert not index["has_pixel_labels"].any()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("../outside.png,test,good,,,", "path ../outside.png leaves the root"),
        ("images/../../outside.png,test,good,,,", "path images/../../outside.png leaves the root"),
        ("/etc/passwd,test,good,,,", "absolute path /etc/passwd"),
        (r"C:\parts\a.png,test,good,,,", "absolute path"),
        (r"..\outside.png,test,good,,,", r"path ..\outside.png leaves the root"),
        ("link/outside.png,test,good,,,", "path link/outside.png leaves the root through a link"),
        ("images/e.png,test,bad,../mask.png,,", "path ../mask.png leaves the root"),
        (",test,good,,,", "empty path"),
        ("images/a.png,test,good,,,", "images/a.png occurs a second time, first on line 2"),
        ("images/e.png,validation,good,,,", "split 'validation' is none of train, val, test"),
        ("images/e.png,test,normal,,,", "label 'normal' is neither good nor bad"),
        ("images/e.png,test,good,,scratch,", "defect_type 'scratch' contradicts label 'good'"),
        ("images/e.png,test,good", "3 cells under 6 columns"),
    ],
)
def test_manifest_row_that_cannot_be_used(tmp_path: Path, line: str, reason: str) -> None:
    root = tmp_path / "parts"
    make_manifest(root, [line])
    save_image(tmp_path / "elsewhere/outside.png", 80)
    save_image(tmp_path / "outside.png", 81)
    os.symlink(tmp_path / "elsewhere", root / "link")
    error = error_of(root, "parts")
    assert error.code == "SPLITFILE_INVALID"
    assert error.paths == ("manifest.csv:6",)
    assert f"manifest.csv, line 6: {reason}" in error.message
    assert "expected columns image, split, label" in error.message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"image;split;label\na.png;train;good\n", "line 1: column image is missing"),
        (b"image,split,label,masks\n", "line 1: unknown column 'masks'"),
        (b"image,split,label,label\n", "a column occurs twice"),
        (b"", "column image is missing"),
        (b"image,split,label\n\xff\xfe.png,train,good\n", "not UTF-8"),
        (b'image,split,label\n"a.png,train,good\n', "line 2: "),
        (b"image,split,label,category\na.png,train,good,../up\n", "category '../up' is not a plain name"),
        (b"image,split,label,category\na.png,train,good,\n", "category '' is not a plain name"),
    ],
)
def test_manifest_that_cannot_be_read(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    error = error_of(tmp_path, tmp_path.name)
    assert error.code == "SPLITFILE_INVALID"
    assert reason in error.message


def test_manifest_names_missing_and_leaves_unlisted_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "parts"
    make_manifest(root, ["images/e.png,test,good,,,"])
    save_image(root / "images/z.png", 90)
    error = error_of(root, "parts")
    assert error.code == "FILE_MISSING"
    assert error.paths == ("images/e.png",)
    assert "1 of 7 files named in manifest.csv do not exist (first: images/e.png, line 6)" in error.message
    assert [message.split(" ")[0] for message in caplog.messages] == ["[FILE_UNLISTED]"]
    assert "images/z.png" in caplog.messages[0]


def test_manifest_partly_with_masks(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    make_manifest(root, ["images/e.png,test,bad,,,"])
    save_image(root / "images/e.png", 91)
    error = error_of(root, "parts")
    assert (error.code, error.paths) == ("MASK_MISSING", ("images/e.png",))
    assert "expected a path in column mask, manifest.csv line 6" in error.message


def test_manifest_asked_for_must_exist_inside_the_root(tmp_path: Path) -> None:
    make_tree(tmp_path)
    assert "the file does not exist" in error_of(tmp_path, manifest="parts.csv").message
    assert "leaves the root" in error_of(tmp_path, manifest="../parts.csv").message


# --- real data


def test_magnetic_tile(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = shared_data / "magnetic_tile"
    assert list(list_categories("folder", root)) == ["tile"]
    with caplog.at_level(logging.WARNING):
        index = read(root, "tile")
    counts = index.groupby(["split", "label"]).size().to_dict()
    assert counts == {("train", "good"): 700, ("test", "good"): 252, ("test", "bad"): 392}
    assert set(index.loc[index["label"] == "bad", "defect_type"]) == {
        "blowhole",
        "break",
        "crack",
        "fray",
        "uneven",
    }
    assert (index.loc[index["label"] == "bad", "masks"] != "").all()
    empty = [message for message in caplog.messages if message.startswith("[MASK_EMPTY]")]
    assert len(empty) == 1
    assert "demo/tile: 4 bad images" in empty[0]


def test_mpdd_metal_plate(shared_data: Path) -> None:
    """A copy of another size with merged types of defects: read, with the differences as warnings."""
    index, warnings = read_index("mpdd", shared_data / "mpdd_512", "mpdd", "metal_plate")
    counts = index.groupby(["split", "label"]).size().to_dict()
    assert counts == {("train", "good"): 54, ("test", "good"): 26, ("test", "bad"): 71}
    assert index[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[512, 512]]
    assert index["has_pixel_labels"].all() and (index.loc[index["label"] == "bad", "masks"] != "").all()
    assert [warning.code for warning in warnings] == ["COUNT_MISMATCH", "IMAGE_SIZE"]
    assert "defect bad: 71 found, 0 expected" in warnings[0].text
    assert "151 images are not 1024 x 1024 pixels as published" in warnings[1].text
