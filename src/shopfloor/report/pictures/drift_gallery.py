"""Picture of every drift transform on one image, as in the paper's Figure 5."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from shopfloor.perturbations.drift import draw_drift, drift_image
from shopfloor.perturbations.drift_settings import DriftSettings

_COLUMNS = 4
_TILE_INCHES = 2.4
_DPI = 110
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
    rows = -(-len(tiles) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _TILE_INCHES, rows * (_TILE_INCHES + 0.35)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for place, axes in enumerate(figure.subplots(rows, _COLUMNS, squeeze=False).flat):
        axes.axis("off")
        if place < len(tiles):
            title, pixels = tiles[place]
            axes.set_title(title, fontsize=8)
            axes.imshow(_reduced(pixels))
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return Image.open(data).convert("RGB")


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
