"""Small images that several detectors are tried on: smooth ones, of which the last have a defect."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import nn

from shopfloor.catalog.image_stack import ImagePart


def squares_stack(n_good: int, n_bad: int, size: int) -> np.ndarray:
    """Smooth random images (N, S, S, 3), uint8; each of the last ``n_bad`` has a dark square somewhere."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(60, 200, (n_good + n_bad, 3, 8, 8)))
    images = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(40, 220)
    for image in images[n_good:]:
        row, column = rng.integers(4, size - 20, 2)
        image[:, row : row + 14, column : column + 14] = 0
    return images.permute(0, 2, 3, 1).byte().numpy()


def scratches_stack(n_good: int, n_bad: int, size: int) -> np.ndarray:
    """Smooth random images (N, S, S, 3), uint8; each of the last ``n_bad`` has a dark scratch somewhere."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(60, 200, (n_good + n_bad, 3, 4, 4)))
    images = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255)
    for image in images[n_good:]:
        row, column = rng.integers(4, size - 36, 2)
        image[:, row : row + 3, column : column + 32] = 20
    return images.permute(0, 2, 3, 1).byte().numpy()


def part_of(stack: np.ndarray, rows: Iterable[int], n_good: int) -> ImagePart:
    """Some rows of a stack; those from ``n_good`` on are labelled bad."""
    places = np.asarray(list(rows))
    label = np.where(places >= n_good, "bad", "good")
    names = [f"part/{place:03}.png" for place in places]
    table = pd.DataFrame({"row": places, "image": names, "label": label, "defect_type": label, "domain": "d"})
    return ImagePart(stack, table)
