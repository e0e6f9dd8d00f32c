"""Cut the training part and the test part of a condition out of a prepared category.

The splits themselves are pure functions of the index already: see :mod:`shopfloor.perturbations.splits`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from shopfloor.catalog.image_stack import ImagePart


def cut_part(stack: np.ndarray, table: pd.DataFrame) -> ImagePart:
    """The images (or masks) that a table names, and nothing else, so that the graph shows who sees what.

    Args:
        stack: Images (M, H, W, 3) or masks (M, H, W) of a whole category, memory-mapped.
        table: Table of one part of a split.

    Returns:
        That part; no pixel is copied.
    """
    return ImagePart(stack, table)
