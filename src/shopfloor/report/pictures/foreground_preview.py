"""Picture of the foreground that was found in training images, to be looked at before it is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shopfloor.report.pictures.canvas import picture_of, titled_grid

if TYPE_CHECKING:
    from PIL import Image

    from shopfloor.catalog.image_stack import ImagePart

_SHOWN = 8
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
    shares = np.array([mask.mean() for mask in foreground])
    shown = _chosen(shares)
    figure, places = titled_grid(len(shown), columns=4, side=2.0, title=0.3, dpi=100)
    for place, index in zip(places, shown, strict=True):
        mask = np.asarray(foreground[index])
        dimmed = np.where(mask[..., None] > 0, train[index], train[index] * _BACKGROUND_BRIGHTNESS)
        place.imshow(dimmed.astype(np.uint8))
        if 0 < shares[index] < 1:
            place.contour(mask, [0.5], colors=_OUTLINE_COLOUR, linewidths=0.8)
        place.set_title(f"{shares[index]:.0%} foreground", fontsize=8)
    return picture_of(figure)


def _chosen(shares: np.ndarray) -> list[int]:
    """Places of the images to show: the extremes first, then some spread over all, each once."""
    order = np.argsort(shares, kind="stable").tolist()
    chosen = list(dict.fromkeys([*order[: _SHOWN // 4], *order[-(_SHOWN // 4) :]]))
    others = [place for place in range(len(shares)) if place not in chosen]
    steps = np.linspace(0, len(others) - 1, min(_SHOWN - len(chosen), len(others))).round().astype(int)
    return [*chosen, *(others[step] for step in steps)]
