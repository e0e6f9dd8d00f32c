from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from shopfloor.synthetic_parts.render import CATEGORIES, IMAGE_SIZE, defects, render_category, render_sample
from tests.readers.trees import read

STRUCTURAL_AND_LOGICAL = [(category, defect) for category in CATEGORIES for defect in defects(category)]
COUNTS = {"train_good": 3, "test_good": 2, "test_bad": 6}


def digest(files: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(path.encode() + files[path].tobytes() for path in sorted(files))).hexdigest()


@pytest.mark.parametrize("category", CATEGORIES)
def test_tree(category: str) -> None:
    files = render_category(category, seed=0, counts=COUNTS, size=96)
    images = [path for path in files if not path.startswith("ground_truth")]
    assert [path for path in images if path.startswith("train")] == [f"train/good/{n:03d}.png" for n in range(3)]
    assert sum(path.startswith("test/good/") for path in images) == 2
    bad = [path for path in images if path.startswith("test") and "/good/" not in path]
    assert len(bad) == 6
    assert {path.split("/")[1] for path in bad} == set(defects(category))
    masks = {path for path in files if path.startswith("ground_truth")}
    assert masks == {path.replace("test", "ground_truth").replace(".png", "_mask.png") for path in bad}
    for path in images:
        assert files[path].shape == (96, 96, 3)
        assert files[path].dtype == np.uint8
    for path in masks:
        assert files[path].shape == (96, 96)
        assert set(np.unique(files[path])) == {0, 255}


@pytest.mark.parametrize("category", CATEGORIES)
def test_saved_tree_is_sound_for_the_folder_reader(
    category: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path, pixels in render_category(category, 0, COUNTS, size=96).items():
        file = tmp_path / category / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    index = read(tmp_path, category)
    assert caplog.messages == []
    assert len(index) == 11
    assert (index.loc[index["label"] == "bad", "masks"] != "").all()


@pytest.mark.parametrize("category", CATEGORIES)
def test_fewer_images_are_a_subset_and_order_does_not_matter(category: str) -> None:
    many = render_category(category, 5, {"train_good": 3, "test_good": 3, "test_bad": 7}, size=64)
    few = render_category(category, 5, {"train_good": 1, "test_good": 2, "test_bad": 4}, size=64)
    assert set(few) < set(many)
    for path in reversed(few):
        np.testing.assert_array_equal(few[path], many[path])


def test_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from shopfloor.synthetic_parts.render import render_category as r\n"
        "files = {f'{c}/{p}': a for c in ('machined_ring', 'blister_pack')"
        " for p, a in r(c, 1, {'train_good': 1, 'test_good': 1, 'test_bad': 5}, 80).items()}\n"
        "print(hashlib.sha256(b''.join(p.encode() + files[p].tobytes() for p in sorted(files))).hexdigest())"
    )
    counts = {"train_good": 1, "test_good": 1, "test_bad": 5}
    here = {f"{c}/{p}": a for c in CATEGORIES for p, a in render_category(c, 1, counts, 80).items()}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == digest(here)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_image_is_different(category: str) -> None:
    first, second = (render_category(category, seed, COUNTS, size=64) for seed in (0, 1))
    images = [files[path].tobytes() for files in (first, second) for path in files if "ground" not in path]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize(("category", "defect"), STRUCTURAL_AND_LOGICAL)
def test_mask_is_what_the_defect_changes(category: str, defect: str) -> None:
    for number in range(6):
        path = f"test/{defect}/{number:03d}.png"
        damaged, mask = render_sample(category, 3, path, defect)
        sound, no_mask = render_sample(category, 3, path, "good")
        assert not no_mask.any()
        inside = mask > 0
        change = np.abs(damaged.astype(int) - sound).max(axis=2)
        assert change[~inside].max() <= 8
        assert change[inside].mean() > 25
        # nearly every marked pixel did change: the mask is not a generous blob around the defect
        assert (change[inside] > 8).mean() > 0.75


@pytest.mark.parametrize(("category", "defect"), STRUCTURAL_AND_LOGICAL)
def test_defects_are_small_but_survive_the_resize_to_256(category: str, defect: str) -> None:
    for number in range(6):
        _, mask = render_sample(category, 3, f"test/{defect}/{number:03d}.png", defect)
        assert 40 < (mask > 0).sum() < 0.06 * mask.size
        rows = np.arange(256) * IMAGE_SIZE // 256
        assert mask[np.ix_(rows, rows)].any()


def test_logical_defects_mark_whole_parts() -> None:
    _, swapped = render_sample("blister_pack", 0, "test/swapped_pills/000.png", "swapped_pills")
    assert ndimage.label(swapped)[1] == 2
    _, missing = render_sample("blister_pack", 0, "test/missing_pill/000.png", "missing_pill")
    assert ndimage.label(missing)[1] == 1
    assert (missing > 0).sum() > np.pi * 21.5**2 * 0.98  # the pill's disc at least
    _, hole = render_sample("machined_ring", 0, "test/missing_hole/000.png", "missing_hole")
    assert (hole > 0).sum() == pytest.approx(np.pi * 13.5**2, rel=0.08)  # the countersink's disc


def dark_holes(image: np.ndarray) -> int:
    """Counts dark discs of the size of a bolt hole within the ring."""
    dark = ndimage.binary_opening(image.max(axis=2) < 60, iterations=3)
    labels, count = ndimage.label(dark)
    areas = ndimage.sum_labels(dark, labels, range(1, count + 1))
    return int(((areas > 120) & (areas < 500)).sum())


def test_number_of_bolt_holes_can_be_counted_in_the_image() -> None:
    for number in range(4):
        for defect, holes in (("good", 6), ("missing_hole", 5), ("extra_hole", 7)):
            image, _ = render_sample("machined_ring", 7, f"test/{defect}/{number:03d}.png", defect)
            assert dark_holes(image) == holes


def test_number_of_red_pills_can_be_counted_in_the_image() -> None:
    for defect, columns in (("good", 1), ("swapped_pills", 2)):
        image, _ = render_sample("blister_pack", 7, f"test/{defect}/000.png", defect)
        red = (image[..., 0] > 120) & (image[..., 1] < 100)
        labels, _ = ndimage.label(ndimage.binary_opening(red, iterations=3))
        sizes = np.bincount(labels.ravel())[1:]
        centres = ndimage.center_of_mass(labels > 0, labels, np.flatnonzero(sizes > 300) + 1)
        assert len({round(x / 72) for _, x in centres}) == columns
        assert len(centres) == 3


@pytest.mark.parametrize("category", CATEGORIES)
def test_exposure_is_that_of_a_usable_photograph(category: str) -> None:
    image, _ = render_sample(category, 0, "train/good/000.png", "good")
    assert (image == 255).mean() < 0.01
    assert (image == 0).mean() < 0.01
    assert image.max() > 200
    assert image.std() > 30


@pytest.mark.parametrize("category", CATEGORIES)
def test_rendering_is_fast_enough_for_a_demo(category: str) -> None:
    render_sample(category, 0, "train/good/000.png", "good")
    start = time.process_time()
    for number in range(5):
        render_sample(category, 0, f"train/good/{number:03d}.png", "good")
    assert (time.process_time() - start) / 5 < 0.25


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="generated are blister_pack, machined_ring"):
        render_category("gear", 0, COUNTS)
    with pytest.raises(ValueError, match="unknown defect 'rust' of machined_ring; it has scratch"):
        render_sample("machined_ring", 0, "test/rust/000.png", "rust")
