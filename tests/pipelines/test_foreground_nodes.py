"""Nodes around synthetic defects: the foreground of training images, and the textures."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shopfloor.catalog.image_stack import ImagePart, ImageStackDataset
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.foreground import grab_cut
from shopfloor.pipelines.data_prep.nodes import prepare_textures
from shopfloor.pipelines.perturbation.nodes import find_foreground, show_foreground

S = 64


def disc(radius, size=S):
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    return np.hypot(x, y) < radius


def part_image(radius, seed=0):
    """A bright disc before a dark background, both with noise."""
    base = np.where(disc(radius)[..., None], 200, 60)
    return np.clip(base + np.random.default_rng(seed).normal(0, 8, (S, S, 3)), 0, 255).astype(np.uint8)


RADII = (12, 16, 20, 24, 28)
CHOSEN = [3, 0, 4]  # of the stack's rows; the others are test images


@pytest.fixture(scope="module")
def stack():
    return np.stack([part_image(radius, seed) for seed, radius in enumerate(RADII)])


@pytest.fixture
def train(stack):
    names = [f"ring/train/good/{row}.jpg" for row in CHOSEN]
    return ImagePart(stack, pd.DataFrame({"row": CHOSEN, "image": names, "sha256": names, "label": "good"}))


def found(train, settings=None, foreground=None, method="automatic"):
    return find_foreground(train, settings or {}, foreground or {}, method=method, category="ring")


# Foreground


def test_foreground_is_found_in_the_order_of_the_training_part(train):
    masks = found(train)
    assert (masks.length, masks.shape, masks.dtype) == (3, (S, S), "uint8")
    for mask, row in zip(masks.arrays, CHOSEN, strict=True):
        truth = disc(RADII[row])
        assert (mask & truth).sum() / (mask | truth).sum() > 0.95


def test_foreground_is_that_of_each_image_alone(train):
    """Threads work at the same time, and give the bits of one after the other."""
    masks = list(found(train).arrays)
    assert all(np.array_equal(mask, grab_cut(image)) for mask, image in zip(masks, train, strict=True))


def test_foreground_can_be_kept_and_shown(train, tmp_path):
    dataset = ImageStackDataset(str(tmp_path / "foreground.npy"))
    dataset.save(found(train))
    masks = dataset.load()
    assert masks.shape == (3, S, S) and masks.dtype == np.uint8
    picture = show_foreground(train, masks)
    assert isinstance(picture, Image.Image) and picture.mode == "RGB"
    picture.save(tmp_path / "preview.jpg")
    assert (tmp_path / "preview.jpg").stat().st_size < 100_000


def test_only_training_images_are_looked_at(train):
    spoilt = train.stack.copy()
    spoilt[[row for row in range(len(RADII)) if row not in CHOSEN]] = 255
    other = ImagePart(spoilt, train.table)
    assert all(np.array_equal(*pair) for pair in zip(found(train).arrays, found(other).arrays, strict=True))


def test_masks_of_the_user_come_by_the_names_of_the_images(train, tmp_path):
    folder = tmp_path / "ring/train/good"
    folder.mkdir(parents=True)
    for row in CHOSEN:
        mask = disc(2 * RADII[row], size=2 * S).astype(np.uint8) * 255
        assert cv2.imwrite(str(folder / f"{row}.png"), mask)
    masks = list(found(train, {"foreground_folder": str(tmp_path)}, method="folder").arrays)
    assert [mask.shape for mask in masks] == [(S, S)] * 3
    for mask, row in zip(masks, CHOSEN, strict=True):
        assert set(np.unique(mask)) == {0, 1}
        assert (mask != disc(RADII[row])).mean() < 0.01


def test_missing_folder_of_masks_is_named_with_the_category(train):
    with pytest.raises(DetectorError, match=r"FOREGROUND_MISSING.*ring.*foreground_folder"):
        list(found(train, {}, method="folder").arrays)


def test_missing_mask_is_named_with_its_image(train, tmp_path):
    with pytest.raises(DetectorError, match=r"FOREGROUND_MISSING.*'ring/train/good/3\.jpg'"):
        list(found(train, {"foreground_folder": str(tmp_path)}, method="folder").arrays)


def test_missing_mask_leaves_no_file(train, tmp_path):
    (tmp_path / "masks").mkdir()
    dataset = ImageStackDataset(str(tmp_path / "made" / "foreground.npy"))
    with pytest.raises(Exception, match="there is no foreground mask"):  # Kedro wraps it
        dataset.save(found(train, {"foreground_folder": str(tmp_path / "masks")}, method="folder"))
    assert not dataset.exists()


def test_missing_weights_are_said_before_any_image_is_segmented(train):
    with pytest.raises(DetectorError, match="FOREGROUND_WEIGHTS"):
        found(train, foreground={"mobile_sam": None}, method="mobile_sam")


def test_unknown_method_is_refused(train):
    with pytest.raises(ValueError, match="'by_hand'"):
        found(train, method="by_hand")


# Textures


def test_textures_of_a_folder_come_in_the_order_of_their_paths(tmp_path):
    for name, value in (("wood/b.png", 20), ("bark.png", 10), ("wood/a.jpg", 30)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 90, 3), value, np.uint8)).save(tmp_path / name)
    textures = prepare_textures({"folder": str(tmp_path)}, name="own", image_size=32)
    assert (textures.length, textures.shape, textures.dtype) == (3, (32, 32, 3), "uint8")
    arrays = np.stack(list(textures.arrays))
    assert arrays.shape == (3, 32, 32, 3) and arrays.dtype == np.uint8
    assert arrays[:, 0, 0, 0].tolist() == pytest.approx([10, 30, 20], abs=1)


def test_textures_are_squeezed_or_cropped(tmp_path):
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[:, None], (32, 96, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    squeezed, cropped = (
        next(iter(prepare_textures({"folder": str(tmp_path)}, name="own", image_size=32, crop=crop).arrays))
        for crop in (False, True)
    )
    assert (squeezed[0, [0, -1], 0]).tolist() == pytest.approx([1, 94], abs=1)
    assert np.array_equal(cropped, ramp[:, 32:64])


@pytest.mark.parametrize("entry", [{}, {"folder": None}, {"folder": "no/such/folder"}])
def test_missing_folder_of_textures_is_said_at_once_with_its_entry(entry):
    with pytest.raises(DetectorError, match=r"TEXTURES_MISSING.*textures\.dtd\.folder"):
        prepare_textures(entry, name="dtd", image_size=32)


def test_damaged_texture_is_named(tmp_path):
    (tmp_path / "spoilt.png").write_bytes(b"\x89PNG not really")
    textures = prepare_textures({"folder": str(tmp_path)}, name="own", image_size=32)
    with pytest.raises(DetectorError, match=r"TEXTURE_UNREADABLE.*spoilt\.png"):
        list(textures.arrays)


def generated(count=12, seed=1, size=S):
    textures = prepare_textures({"generator": {"seed": seed, "count": count}}, name="generated", image_size=size)
    assert (textures.length, textures.shape, textures.dtype) == (count, (size, size, 3), "uint8")
    arrays = list(textures.arrays)
    assert {(array.shape, array.dtype.name) for array in arrays} == {((size, size, 3), "uint8")}
    return np.stack(arrays)


def test_generated_textures_are_the_same_every_time_whatever_their_number():
    textures = generated(12)
    assert np.array_equal(textures, generated(12))
    assert np.array_equal(textures[:5], generated(5))


def test_generated_textures_differ_among_themselves_and_between_seeds():
    both = np.concatenate([generated(seed=1), generated(seed=2)])
    assert len({texture.tobytes() for texture in both}) == 24


def test_generated_textures_have_a_pattern():
    """More than the grain: blocks differ in their means."""
    blocks = generated(24).reshape(24, S // 4, 4, S // 4, 4, 3).mean(axis=(2, 4))
    assert (blocks.std(axis=(1, 2)).max(axis=-1) > 4).all()


@pytest.mark.parametrize("size", [1, 2, 7, 33, 300])
def test_generated_textures_have_any_size(size):
    generated(count=6, size=size)
