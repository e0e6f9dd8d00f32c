"""Picture of the foreground that was found in training images, to be looked at before it is believed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from shopfloor.catalog.image_stack import ImagePart

_SHOWN = 8
_COLUMNS = 4
_TILE_INCHES = 2.0
_DPI = 100
_OUTLINE_COLOUR = "#E69F00"
_BACKGROUND_BRIGHTNESS = 0.3


def draw_foreground(train: ImagePart, foreground: np.ndarray) -> Image.Image:
    """Draws training images with their background darkened; above each the share of its foreground.

    Half of the images shown are those with the least and the most foreground, where a segmentation fails first; the
    others are spread over the training part.

    Args:
        train: Training images ``(N, S, S, 3)``, uint8.
        foreground: Their foreground ``(N, S, S)``, 0 or 1.

    Returns:
        The picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = np.array([mask.mean() for mask in foreground])
    shown = _chosen(shares)
    rows = -(-len(shown) // _COLUMNS)
    size = (_COLUMNS * _TILE_INCHES, rows * (_TILE_INCHES + 0.3))
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for place, axes in enumerate(figure.subplots(rows, _COLUMNS, squeeze=False).flat):
        axes.axis("off")
        if place < len(shown):
            index = shown[place]
            mask = np.asarray(foreground[index])
            dimmed = np.where(mask[..., None] > 0, train[index], train[index] * _BACKGROUND_BRIGHTNESS)
            axes.imshow(dimmed.astype(np.uint8))
            if 0 < shares[index] < 1:
                axes.contour(mask, [0.5], colors=_OUTLINE_COLOUR, linewidths=0.8)
            axes.set_title(f"{shares[index]:.0%} foreground", fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return Image.open(data).convert("RGB")


def _chosen(shares: np.ndarray) -> list[int]:
    """Places of the images to show: the extremes first, then some spread over all, each once."""
    order = np.argsort(shares, kind="stable").tolist()
    chosen = list(dict.fromkeys([*order[: _SHOWN // 4], *order[-(_SHOWN // 4) :]]))
    others = [place for place in range(len(shares)) if place not in chosen]
    steps = np.linspace(0, len(others) - 1, min(_SHOWN - len(chosen), len(others))).round().astype(int)
    return [*chosen, *(others[step] for step in steps)]
