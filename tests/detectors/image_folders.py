"""Image files as anomalib's own data module reads them, which trains on the good ones only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from anomalib.data import Folder
from PIL import Image


def folder_of(root: Path, good: np.ndarray, bad: np.ndarray, size: tuple[int, int] | None = None) -> Folder:
    """Writes images (N, S, S, 3), uint8, as files below a folder.

    Args:
        root: The folder.
        good: Good images; anomalib takes a fifth of them for testing.
        bad: Bad images, all for testing.
        size: Width and height of the files; None keeps that of the images.

    Returns:
        A data module of batches of four.
    """
    for name, stack in (("good", good), ("bad", bad)):
        (root / name).mkdir(parents=True)
        for number, image in enumerate(stack):
            file = Image.fromarray(image)
            (file if size is None else file.resize(size)).save(root / name / f"{number:03}.png")
    return Folder("parts", "good", root, "bad", train_batch_size=4, eval_batch_size=4, num_workers=0, seed=0)
