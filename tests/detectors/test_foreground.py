"""The part and the background, on drawn images whose outline is known, and from the user's own masks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import cv2
import numpy as np
import pytest
import torch
from kornia.contrib.visual_prompter import VisualPrompter

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.foreground import MobileSam, grab_cut, read_foreground, segmenter
from shopfloor.planning.settings import ForegroundSettings

SAM_FILE = Path(os.environ.get("SHOPFLOOR_MOBILE_SAM", ""))
needs_sam = pytest.mark.skipif(
    not SAM_FILE.is_file(), reason="set SHOPFLOOR_MOBILE_SAM to the file mobile_sam.pt, which is not in the repository"
)


def overlap(mask, truth):
    """Intersection over union."""
    return (mask.astype(bool) & truth).sum() / (mask.astype(bool) | truth).sum()


def painted(truth, part=(190, 170, 150), ground=(60, 70, 80), noise=12.0, seed=0):
    """A part before a background, both with noise."""
    image = np.where(truth[..., None], part, ground) + np.random.default_rng(seed).normal(0, noise, (*truth.shape, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def grid(size):
    return (np.mgrid[:size, :size] + 0.5) / size - 0.5


def disc(size, radius=0.3, row=0.0, column=0.0):
    y, x = grid(size)
    return (y - row) ** 2 + (x - column) ** 2 < radius**2


def ring(size):
    return disc(size, 0.38) & ~disc(size, 0.18)


def rotated_rectangle(size):
    y, x = grid(size)
    along, across = x * np.cos(0.5) + y * np.sin(0.5), y * np.cos(0.5) - x * np.sin(0.5)
    return (abs(along) < 0.34) & (abs(across) < 0.15)


# GrabCut


@pytest.mark.parametrize("size", [64, 128, 256, 512])
@pytest.mark.parametrize("shape", [disc, ring, rotated_rectangle])
def test_outline_is_found(shape, size):
    truth = shape(size)
    mask = grab_cut(painted(truth))
    assert mask.shape == (size, size) and mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert overlap(mask, truth) > 0.95


def test_hole_of_a_ring_is_background():
    mask = grab_cut(painted(ring(128)))
    assert mask[56:72, 56:72].max() == 0


def test_part_beside_the_middle_is_found_where_it_is():
    truth = disc(128, 0.15, row=-0.25, column=0.2)
    assert overlap(grab_cut(painted(truth)), truth) > 0.95


def test_rectangle_over_a_very_noisy_background():
    truth = rotated_rectangle(128)
    image = painted(truth, noise=8)
    clutter = np.random.default_rng(1).normal(70, 30, (128, 128, 3)).clip(0, 255).astype(np.uint8)
    image[~truth] = clutter[~truth]
    assert overlap(grab_cut(image), truth) > 0.95


def test_dark_part_before_a_bright_background():
    truth = disc(128)
    assert overlap(grab_cut(painted(truth, part=(40, 40, 40), ground=(220, 220, 220))), truth) > 0.95


def test_colour_alone_tells_the_part_from_the_background():
    """Red and blue are as grey as each other; swapped channels or a grey picture would lose the part."""
    truth = disc(128)
    assert overlap(grab_cut(painted(truth, part=(200, 60, 60), ground=(60, 60, 200), noise=5)), truth) > 0.95


@pytest.mark.parametrize("spread", [0, 4, 25])
@pytest.mark.parametrize("size", [64, 300])
def test_surface_that_fills_the_image_is_foreground_as_a_whole(size, spread):
    surface = np.random.default_rng(3).normal(120, spread, (size, size, 3)).clip(0, 255).astype(np.uint8)
    mask = grab_cut(surface)
    assert mask.shape == (size, size) and mask.dtype == np.uint8
    assert mask.all()


def test_woven_surface_is_foreground_as_a_whole():
    y, x = grid(128)
    weave = 120 + 40 * np.sign(np.sin(x * 100)) * np.sign(np.sin(y * 100))
    assert grab_cut(np.repeat(weave[..., None], 3, -1).astype(np.uint8)).all()


def test_same_image_gives_the_same_bits_whatever_came_before():
    image, other = painted(ring(96)), painted(disc(96), seed=7)
    first = grab_cut(image)
    cv2.setRNGSeed(99)
    grab_cut(other)
    assert np.array_equal(first, grab_cut(image))


def test_several_threads_give_the_same_bits_as_one():
    images = [painted(disc(96, 0.2 + 0.02 * number), seed=number) for number in range(6)]
    alone = [grab_cut(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(grab_cut, images))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_image_is_only_read():
    image = painted(disc(64))
    before = image.copy()
    image.flags.writeable = False  # as that of a memory map
    grab_cut(image)
    assert np.array_equal(image, before)


# The user's masks


def save_mask(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask)


def half(size=8):
    mask = np.zeros((size, size), np.uint8)
    mask[:, size // 2 :] = 255
    return mask


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_mask_lies_where_its_image_lies_whatever_their_suffixes(suffix, tmp_path):
    save_mask(tmp_path / f"ring/train/good/007{suffix}", half())
    mask = read_foreground(tmp_path, "ring", "ring/train/good/007.jpg", 8)
    assert np.array_equal(mask, half() // 255)
    assert mask.dtype == np.uint8


def test_name_with_dots_keeps_all_but_its_suffix(tmp_path):
    save_mask(tmp_path / "part.v2.left.png", half())
    save_mask(tmp_path / "part.v2.png", 255 - half())
    assert np.array_equal(read_foreground(tmp_path, "c", "part.v2.left.jpeg", 8), half() // 255)


def test_any_value_above_0_is_foreground(tmp_path):
    values = np.array([[0, 1], [128, 255]], np.uint8)
    save_mask(tmp_path / "a.png", values)
    assert read_foreground(tmp_path, "c", "a.png", 2).tolist() == [[0, 1], [1, 1]]


def test_mask_with_colours_counts_where_any_of_them_is_there(tmp_path):
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, 1] = (0, 0, 255)
    colours[1, 0] = (1, 0, 0)  # grey is 0.1 of it, and "any value above 0" is what the text says
    save_mask(tmp_path / "a.png", colours)
    assert read_foreground(tmp_path, "c", "a.png", 2).tolist() == [[0, 1], [1, 0]]


def test_mask_of_16_bits_counts_from_the_smallest_value_on(tmp_path):
    save_mask(tmp_path / "a.png", np.array([[0, 1], [255, 65535]], np.uint16))
    assert read_foreground(tmp_path, "c", "a.png", 2).tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize("size", [4, 8, 16, 24])
def test_mask_is_resized_without_new_values(size, tmp_path):
    save_mask(tmp_path / "a.png", half(8))
    mask = read_foreground(str(tmp_path), "c", "a.png", size)
    assert np.array_equal(mask, half(size) // 255)


def test_mask_of_another_aspect_ratio_is_stretched_like_its_image(tmp_path):
    wide = np.zeros((10, 40), np.uint8)
    wide[:, 20:] = 255
    save_mask(tmp_path / "a.png", wide)
    assert np.array_equal(read_foreground(tmp_path, "c", "a.png", 16), half(16) // 255)


@pytest.mark.parametrize("folder", [None, "", "no/such/folder"])
def test_missing_folder_is_named_with_its_entry(folder):
    with pytest.raises(
        DetectorError, match=r"FOREGROUND_MISSING.*of foreground masks for ring.*foreground_folder"
    ) as error:
        read_foreground(folder, "ring", "a.png", 8)
    assert repr(folder) in error.value.message


def test_missing_mask_is_named_with_its_image(tmp_path):
    with pytest.raises(DetectorError, match=r"FOREGROUND_MISSING.*train/good/7\.png' for 'train/good/7\.jpg'"):
        read_foreground(tmp_path, "ring", "train/good/7.jpg", 8)


@pytest.mark.parametrize("image", ["../secret.png", "inside/../../secret.png", "/etc/secret.png"])
def test_path_that_leaves_the_folder_is_refused(image, tmp_path):
    save_mask(tmp_path / "secret.png", half())
    (tmp_path / "masks" / "inside").mkdir(parents=True)
    with pytest.raises(DetectorError, match="FOREGROUND_MISSING.*leads out of the folder"):
        read_foreground(tmp_path / "masks", "ring", image, 8)


def test_damaged_mask_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(DetectorError, match=r"FOREGROUND_MISSING.*a\.png.*cannot be read as a mask"):
        read_foreground(tmp_path, "ring", "a.png", 8)


# The way to choose, and MobileSAM's weights


def test_automatic_is_grab_cut_and_an_unknown_way_is_refused():
    assert segmenter("automatic", ForegroundSettings()) is grab_cut
    for method in ("folder", "none", "sam2"):
        with pytest.raises(ValueError, match=method):
            segmenter(method, ForegroundSettings())


@pytest.mark.parametrize("file", [None, "", "nowhere/mobile_sam.pt"])
def test_missing_weights_are_named_with_the_way_to_get_them(file):
    advice = r"FOREGROUND_WEIGHTS.*github\.com/ChaoningZhang/MobileSAM.*mobile_sam: <path>.*foreground: automatic"
    with pytest.raises(DetectorError, match=advice) as error:
        segmenter("mobile_sam", ForegroundSettings(mobile_sam=file))
    assert repr(file) in error.value.message


def test_other_weights_are_refused(tmp_path):  # files of another kind: test_tensor_files.py
    torch.save({"layer.weight": torch.zeros(2, 2)}, tmp_path / "mobile_sam.pt")
    with pytest.raises(
        DetectorError, match=r"(?s)FOREGROUND_WEIGHTS.*mobile_sam\.pt.*does not hold MobileSAM's weights"
    ):
        MobileSam(tmp_path / "mobile_sam.pt")


@pytest.fixture(scope="module")
def mobile_sam():
    return MobileSam(SAM_FILE)


@pytest.mark.slow
@needs_sam
@pytest.mark.parametrize("size", [128, 256])
def test_mobile_sam_finds_a_drawn_disc(mobile_sam, size):
    truth = disc(size, 0.25, row=0.1, column=-0.1)
    image = painted(truth)
    mask = mobile_sam(image)
    assert mask.shape == (size, size) and mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert overlap(mask, truth) > 0.9
    assert np.array_equal(mask, mobile_sam(image))


@pytest.mark.slow
@needs_sam
def test_mobile_sam_gives_each_thread_the_mask_of_its_own_image(mobile_sam, monkeypatch):
    """Images are segmented on all cores at once; here the second is shown while the first waits for its mask."""
    both_shown, show = Barrier(2), VisualPrompter.set_image

    def show_and_wait(prompter, *arguments, **options):
        show(prompter, *arguments, **options)
        with suppress(BrokenBarrierError):  # threads that take turns never meet
            both_shown.wait(timeout=20)

    monkeypatch.setattr(VisualPrompter, "set_image", show_and_wait)
    images = [painted(disc(96, 0.2, row=row)) for row in (-0.25, 0.25)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(mobile_sam, images))
    alone = [mobile_sam(image) for image in images]
    assert [np.array_equal(*masks) for masks in zip(alone, together, strict=True)] == [True, True]
