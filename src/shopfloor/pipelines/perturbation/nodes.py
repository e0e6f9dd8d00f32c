"""Cut the training part and the test part of a condition out of a prepared category."""

from __future__ import annotations

import numpy as np
import pandas as pd

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.perturbations.splits import clean_split, noisy_split


def split_clean(index: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of the training and the test part without any perturbation; see :func:`clean_split`."""
    return clean_split(index)


def split_noisy(
    index: pd.DataFrame, *, noise_percent: float, seed: int, minimum_bad: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Tables of a contaminated training part, its test part and the draw; see :func:`noisy_split`."""
    return noisy_split(index, noise_percent, seed, minimum_bad)


def cut_part(stack: np.ndarray, table: pd.DataFrame) -> ImagePart:
    """The images (or masks) that a table names, and nothing else, so that the graph shows who sees what.

    Args:
        stack: Images (M, H, W, 3) or masks (M, H, W) of a whole category, memory-mapped.
        table: Table of one part of a split.

    Returns:
        That part; no pixel is copied.
    """
    return ImagePart(stack, table)
