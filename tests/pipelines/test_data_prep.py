"""Prepared images and masks against pixels worked out by hand."""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shopfloor.pipelines.data_prep.nodes import (
    index_category,
    list_labels,
    list_photos,
    measure_files,
    prepare_images,
    prepare_masks,
    report_resize,
    summarise_datasets,
)
from shopfloor.readers import DatasetError
from shopfloor.readers.category_files import Expected
from shopfloor.readers.summary import check_line, summary_text
from shopfloor.runners.missing import MissingResult


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Grey and colour images of several sizes; defects of one pixel, of a block, and none."""
    rng = np.random.default_rng(0)
    for i, shape in enumerate([(64, 64), (64, 64, 3), (100, 40), (40, 130, 3)]):
        save(tmp_path / f"part/train/good/{i}.png", rng.integers(0, 255, shape, dtype=np.uint8))
    save(tmp_path / "part/test/good/0.png", np.full((64, 64), 77, np.uint8))
    masks = {name: np.zeros((128, 128), np.uint8) for name in ("a", "b", "c")}
    masks["a"][1, 1] = 255  # one pixel at an odd place: not sampled when the size is halved
    masks["b"][1, 1] = masks["b"][64:80, 32:48] = 255  # the block stays, the pixel goes
    masks["c"][:] = 0
    for name, mask in masks.items():
        save(tmp_path / f"part/test/dent/{name}.png", rng.integers(0, 255, (128, 128), dtype=np.uint8))
        save(tmp_path / f"part/ground_truth/dent/{name}.png", mask)
    return tmp_path


def index_of(settings: dict[str, str]) -> pd.DataFrame:
    """Index of the category ``part`` of the dataset ``d``, measured from scratch."""
    files = measure_files(settings, dataset="d", category="part")(pd.DataFrame())
    index, _ = index_category(settings, files, dataset="d", category="part")
    return index


def prepared(root: Path, size: int = 64) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, pd.Series]:
    settings = {"root": str(root)}
    told = {"title": "Parts", "licence": "mine", "source": ""}
    index = index_of(settings)
    images = np.stack(list(prepare_images(index, settings, image_size=size).arrays))
    masks = np.stack(list(prepare_masks(index, settings, image_size=size).arrays))
    return index, images, masks, report_resize(index, settings, image_size=size, told=told).iloc[0]


def test_every_image_becomes_rgb_of_the_asked_size_in_the_order_of_the_index(root: Path) -> None:
    index, images, masks, _ = prepared(root)
    assert images.shape == (8, 64, 64, 3) and images.dtype == np.uint8
    assert masks.shape == (8, 64, 64)
    for row, name in enumerate(index["image"]):
        source = Image.open(root / name).convert("RGB")
        expected = np.asarray(source.resize((64, 64), Image.Resampling.BILINEAR))
        assert np.array_equal(images[row], expected), name


def test_grey_is_repeated_and_an_image_of_the_right_size_is_untouched(root: Path) -> None:
    index, images, _, _ = prepared(root)
    row = index.index[index["image"] == "part/train/good/0.png"][0]
    grey = np.asarray(Image.open(root / "part/train/good/0.png"))
    assert np.array_equal(images[row], np.stack([grey] * 3, axis=-1))


def test_masks_are_sampled_and_good_images_have_an_empty_one(root: Path) -> None:
    index, _, masks, _ = prepared(root)
    by_name = dict(zip(index["image"], masks, strict=True))
    assert by_name["part/test/dent/a.png"].sum() == 0
    block = by_name["part/test/dent/b.png"]
    assert block.sum() == 8 * 8 and (block[32:40, 16:24] == 1).all()
    assert by_name["part/test/good/0.png"].sum() == by_name["part/train/good/0.png"].sum() == 0


def test_what_vanishes_in_the_resize_is_counted(root: Path) -> None:
    line = prepared(root)[3]
    assert (line["train_good"], line["test_good"], line["test_bad"]) == (4, 1, 3)
    assert line["empty_masks"] == 1, "c is empty as published"
    assert line["vanished"] == 1, "a became empty"
    assert (line["regions"], line["lost_regions"]) == (3, 2)
    whole = prepared(root, size=128)[3]
    assert (whole["vanished"], whole["lost_regions"]) == (0, 0)


def test_an_image_that_breaks_after_the_check_is_named(root: Path) -> None:
    settings = {"root": str(root)}
    index = index_of(settings)
    (root / "part/test/good/0.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"part/test/good/0\.png"):
        list(prepare_images(index, settings, image_size=64).arrays)


def files_of(root: Path, known: pd.DataFrame | None = None) -> pd.DataFrame:
    known = pd.DataFrame() if known is None else known
    return measure_files({"root": str(root)}, dataset="d", category="part")(known)


def test_a_file_whose_content_is_known_is_not_decoded(root: Path) -> None:
    known = files_of(root)
    image = root / "part/test/good/0.png"
    status, content = image.stat(), image.read_bytes()
    wrong = known.assign(width=7)  # whoever decoded an image would see that it is not so
    pd.testing.assert_frame_equal(files_of(root, wrong), wrong)
    image.write_bytes(b"x" * len(content))  # the same size and time, and another content
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = files_of(root, wrong).set_index("file")
    assert "not an image" in str(changed.loc["part/test/good/0.png", "problem"])
    assert changed.drop("part/test/good/0.png").equals(wrong.set_index("file").drop("part/test/good/0.png"))


def test_added_and_removed_files_are_noticed(root: Path) -> None:
    known = files_of(root)
    (root / "part/train/good/0.png").rename(root / "part/train/good/new.png")
    assert set(files_of(root, known)["file"]) ^ set(known["file"]) == {
        "part/train/good/0.png",
        "part/train/good/new.png",
    }


def test_files_added_between_measuring_and_checking_are_named(root: Path) -> None:
    files = files_of(root)
    save(root / "part/train/good/9.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(click.ClickException, match=r"d/part: 1 files were added .*part/train/good/9\.png.*Run again"):
        index_category({"root": str(root)}, files, dataset="d", category="part")


def test_pixels_of_another_file_than_the_checked_one_are_refused(root: Path) -> None:
    settings = {"root": str(root)}
    index = index_of(settings)
    for prepare, name in ((prepare_images, "test/good/0.png"), (prepare_masks, "ground_truth/dent/b.png")):
        save(root / "part" / name, np.full((64, 64) if "good" in name else (128, 128), 99, np.uint8))
        with pytest.raises(ValueError, match=rf"part/{name}: the file changed after it was checked; run again"):
            list(prepare(index, settings, image_size=64).arrays)


def test_what_is_read_from_outside_is_listed_by_name_with_what_the_folders_say(root: Path) -> None:
    settings = {"root": str(root)}
    photos = list_photos(settings, dataset="d", category="part").files
    assert len(photos) == 8 + 3 and photos["part/test/good/0.png"] == root / "part/test/good/0.png"
    labels = list_labels(settings, dataset="d", category="part").notes
    assert len(labels) == 8 and labels["part/test/dent/a.png"] != labels["part/test/good/0.png"]
    assert "part/ground_truth/dent/a.png" in labels["part/test/dent/a.png"]
    assert labels["part/test/good/0.png"].split("\t") == ["test", "good", "good", "", ""], "names may hold spaces"
    assert not list_photos({"generator": {}}, dataset="d", category="part").files, "the pipeline makes them itself"


def test_a_table_of_files_that_is_none_is_not_trusted(root: Path) -> None:
    assert len(files_of(root, pd.DataFrame({"file": ["part/test/good/0.png"]}))) == 11


def test_the_summary_holds_every_category_with_what_was_found_and_expected(root: Path) -> None:
    settings = {"root": str(root)}
    _, check = index_category(settings, files_of(root), dataset="d", category="part")
    names = [
        {"dataset": "d", "category": category, "licence": "CC0", "project_page": "https://example.org"}
        for category in ("part", "lost", "spoilt")
    ]
    missing = MissingResult("failed", "[ROOT_MISSING] d: folder x does not exist. Download it.")
    spoilt = MissingResult("failed", "[MASK_SIZE] d/spoilt: too wide.\n[MASK_ORPHAN] d/spoilt: [sic] one.")
    table = summarise_datasets(check, missing, spoilt, categories=names)
    assert table["status"].tolist() == ["passed", "failed", "failed"]
    assert table["codes"].tolist() == ["IMAGE_SIZE, MASK_EMPTY", "ROOT_MISSING", "MASK_SIZE, MASK_ORPHAN"]
    first = table.iloc[0]
    assert (first["train_good"], first["test_good"], first["test_bad"]) == (4, 1, 3)
    assert first["sizes"] == "4 sizes, most often 64 x 64" or first["sizes"] == "4 sizes, most often 128 x 128"
    assert table.loc[1:, "train_good"].isna().all(), "what could not be read has no counts, not 0"
    text = summary_text(table)
    assert "d, CC0, https://example.org" in text
    assert "folder x does not exist. Download it." in text and "1 of 3 categories passed" in text


def test_counts_are_shown_beside_the_published_ones(root: Path) -> None:
    index = index_of({"root": str(root)})
    line = check_line(index, Expected(train_good=400, test_bad=3), [])
    names = {"dataset": "d", "category": "part", "licence": "", "project_page": ""}
    text = summary_text(summarise_datasets(line, categories=[names]))
    row = next(row for row in text.splitlines() if row.strip().startswith("part"))
    assert row.split()[1:5] == ["passed", "4/400", "1", "3/3"]


def test_an_image_smaller_than_the_input_is_warned_about(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = index_of({"root": str(root)})
    caplog.clear()
    prepare_images(index, {"root": str(root)}, image_size=64)
    assert [record.getMessage() for record in caplog.records] == [
        "[IMAGE_SIZE] d/part: 2 of 8 images are smaller than the 64 pixels asked for and are enlarged "
        "(first: part/train/good/2.png: 40 x 100)."
    ]


def test_a_missing_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="ROOT_MISSING"):
        index_of({"root": str(tmp_path / "nothing")})
