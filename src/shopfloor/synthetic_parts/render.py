"""Renders the generated dataset: categories, trees of files, single images with their masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from shopfloor.synthetic_parts import blister_pack, machined_ring
from shopfloor.synthetic_parts.drawing import photograph

_PARTS = {"blister_pack": blister_pack, "machined_ring": machined_ring}
CATEGORIES = tuple(_PARTS)
IMAGE_SIZE = 320


def render_category(
    category: str, seed: int, counts: Mapping[str, int], size: int = IMAGE_SIZE
) -> dict[str, NDArray[np.uint8]]:
    """Render one category as a tree like that of MVTec AD.

    Args:
        category: One of ``CATEGORIES``.
        seed: Seed of the whole dataset, at least 0.
        counts: Number of images ``train_good``, ``test_good``, ``test_bad`` and, if wanted, ``train_bad``; bad images
            are dealt out to the defects of the category in turn.
        size: Side of the images in pixels.

    Returns:
        Arrays by relative path: images (size, size, 3) uint8 RGB under ``train/good/000.png``,
        ``test/good/000.png``, ``test/<defect>/000.png`` and ``train/bad/000.png``, masks (size, size) uint8 0 or 255 of
        the bad test images under ``ground_truth/<defect>/000_mask.png``.

    Raises:
        ValueError: Unknown category.
    """
    names = defects(category)
    defect_of = {
        f"{split}/good/{i:03d}.png": "good" for split in ("train", "test") for i in range(counts[f"{split}_good"])
    }
    defect_of |= {f"train/bad/{i:03d}.png": names[i % len(names)] for i in range(counts.get("train_bad", 0))}
    for i in range(counts["test_bad"]):
        defect_of[f"test/{names[i % len(names)]}/{i // len(names):03d}.png"] = names[i % len(names)]
    files: dict[str, NDArray[np.uint8]] = {}
    for path, defect in tqdm(defect_of.items(), desc=f"Rendering {category}", unit="image", mininterval=1.0):
        files[path], mask = render_sample(category, seed, path, defect, size)
        if path.startswith("test/") and defect != "good":
            files[path.replace("test/", "ground_truth/", 1).replace(".png", "_mask.png")] = mask
    return files


def render_sample(
    category: str, seed: int, path: str, defect: str, size: int = IMAGE_SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one image and its mask.

    The part, the light and the camera noise are drawn from other random streams than the defect: the same
    path with ``defect="good"`` gives the same photograph of the same part before it was damaged.

    Args:
        category: One of ``CATEGORIES``.
        seed: Seed of the dataset.
        path: Relative path of the image, the only other source of randomness.
        defect: One of ``defects(category)`` or ``good``.
        size: Side in pixels.

    Returns:
        Image (size, size, 3) uint8 RGB, and mask (size, size) uint8, 255 where the defect hides more than a
        twentieth of what the sound part would show.

    Raises:
        ValueError: Unknown category or defect.
    """
    if defect not in ("good", *defects(category)):
        raise ValueError(f"unknown defect {defect!r} of {category}; it has {', '.join(defects(category))}")
    digest = hashlib.sha256(f"{category}/{path}".encode()).digest()
    part, damage, camera = np.random.default_rng([seed, *digest]).spawn(3)
    scene, footprint = _PARTS[category].draw(part, damage, defect, size)
    mask = np.where(footprint > 1 / 20, np.uint8(255), np.uint8(0))
    return photograph(scene, camera), mask


def defects(category: str) -> tuple[str, ...]:
    """Name the defects of a category, structural ones first.

    Raises:
        ValueError: Unknown category.
    """
    if category not in _PARTS:
        raise ValueError(f"unknown category {category!r}; generated are {', '.join(CATEGORIES)}")
    return _PARTS[category].DEFECTS
