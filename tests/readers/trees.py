"""Miniature datasets for the tests of the readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from shopfloor.readers import read_index

SIDE = 40


def save_image(path: Path, seed: int, side: int = SIDE) -> Path:
    """Writes a random colour image; equal seeds give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def save_mask(path: Path, *, width: int = SIDE, height: int = SIDE, value: int = 255) -> Path:
    """Writes a mask with a marked square of 5 x 5 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[10:15, 20:25] = value
    Image.fromarray(mask).save(path)
    return path


def make_tree(root: Path, category: str = "bolt", *, masks: bool = True, extension: str = "png") -> Path:
    """Writes a sound category: 4 train good, 2 test good, 3 bad of two types; returns the category folder."""
    folder = root / category
    names = {"train/good": 4, "test/good": 2, "test/bent": 1, "test/scratch": 2}
    seed = 0
    for place, count in names.items():
        for number in range(count):
            save_image(folder / place / f"{number:03d}.{extension}", seed)
            seed += 1
    if masks:
        for mask in ("bent/000_mask", "scratch/000_mask", "scratch/001_mask"):
            save_mask(folder / f"ground_truth/{mask}.png")
    return folder


def read(root: Path, category: str = "bolt", *, reader: str = "folder", **options: object) -> pd.DataFrame:
    """Index table of a category of the dataset ``demo``."""
    index, _ = read_index(reader, root, "demo", category, options)
    return index
