"""Picture of every drift transform on one image, as in the paper's Figure 5."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
from PIL import Image

from shopfloor.perturbations.drift import draw_drift, drift_image
from shopfloor.perturbations.drift_settings import DriftSettings
from shopfloor.report.pictures.canvas import picture_of, titled_grid

_LONGEST_SIDE = 700


def draw_gallery(image: np.ndarray, drift: DriftSettings, name: str) -> Image.Image:
    """Draw an image as it is and after each transform alone.

    Args:
        image: Array (H, W, 3), uint8.
        drift: Settings of the transforms.
        name: Path of the image, which the drawn parameters depend on.

    Returns:
        The picture: a grid of tiles, each with the transform and its drawn parameters above it.
    """
    tiles = [("as it is", image), *_tiles(image, drift, name)]
    figure, places = titled_grid(len(tiles), columns=4, side=2.4, title=0.35, dpi=110)
    for place, (title, pixels) in zip(places, tiles, strict=True):
        place.set_title(title, fontsize=8)
        place.imshow(_reduced(pixels))
    return picture_of(figure)


def _tiles(image: np.ndarray, drift: DriftSettings, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Each transform alone, in the order in which they are applied."""
    table = pd.DataFrame({"image": [name]})
    for category in drift.order:
        for transform in drift.transforms.on[category]:
            alone = drift.alone(transform)
            parameters = json.loads(draw_drift(table, alone, "gallery", category, seed=0)["parameters"].iloc[0])
            yield transform.replace("_", " "), drift_image(image, parameters, alone)


def _reduced(pixels: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(pixels)
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return np.asarray(picture)
