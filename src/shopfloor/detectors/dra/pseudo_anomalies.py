"""Pseudo anomalies: normal images with a piece of themselves pasted in at another place (specification of DRA, 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torchvision.transforms.v2 import ColorJitter

_AREA = (0.02, 0.15)  # share of the image
_ASPECT = (0.3, 1 / 0.3)
_SHARE = 0.5
_jitter = ColorJitter(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1)


def is_replaced() -> bool:
    """Whether a normal image gives way to a pseudo anomaly: true half the time."""
    return bool(torch.rand(()) < _SHARE)


def cut_mix(image: torch.Tensor) -> torch.Tensor:
    """Copies a random rectangle of an image, changes its colours a little and pastes it in somewhere else.

    Args:
        image: Image ``(3, H, W)``, uint8, not normalised; it is left as it is.

    Returns:
        The changed image, of the same form.
    """
    height, width = image.shape[-2:]
    patch_height, patch_width = _patch_size(height, width)
    top, left = _corner(height - patch_height, width - patch_width)
    patch = _jitter(image[:, top : top + patch_height, left : left + patch_width])
    top, left = _corner(height - patch_height, width - patch_width)
    mixed = image.clone()
    mixed[:, top : top + patch_height, left : left + patch_width] = patch
    return mixed


def pseudo_anomaly(images: Sequence[torch.Tensor] | torch.Tensor, instead_of: int | None) -> torch.Tensor:
    """A random normal image after :func:`cut_mix`.

    Args:
        images: Normal images ``(N, 3, H, W)``, uint8, not normalised.
        instead_of: Number of the image that is not to be taken; None if any will do. It is taken nevertheless if there
            is no other.

    Returns:
        Image ``(3, H, W)``, uint8.
    """
    if instead_of is None or len(images) == 1:
        return cut_mix(images[int(torch.randint(len(images), ()))])
    other = int(torch.randint(len(images) - 1, ()))
    return cut_mix(images[other + (other >= instead_of)])


def draw_references(
    images: Sequence[torch.Tensor] | torch.Tensor, rows: Iterator[int], count: int, normal_only: bool
) -> torch.Tensor:
    """The next reference images, each of them a pseudo anomaly half the time.

    Args:
        images: Normal images ``(N, 3, H, W)``, uint8, not normalised.
        rows: Gives their numbers in the order they are to be taken.
        count: How many references are wanted.
        normal_only: Whether all of them stay unaltered.

    Returns:
        References ``(count, 3, H, W)``, uint8.
    """
    drawn = [next(rows) for _ in range(count)]
    return torch.stack(
        [images[row] if normal_only or not is_replaced() else pseudo_anomaly(images, row) for row in drawn]
    )


def _patch_size(height: int, width: int) -> tuple[int, int]:
    area = _uniform(*_AREA) * height * width
    aspect = math.exp(_uniform(*map(math.log, _ASPECT)))
    # Only in an image far from square could a patch be larger than the image.
    return min(round(math.sqrt(area / aspect)), height), min(round(math.sqrt(area * aspect)), width)


def _corner(free_rows: int, free_columns: int) -> tuple[int, int]:
    return int(_uniform(0, free_rows)), int(_uniform(0, free_columns))


def _uniform(low: float, high: float) -> float:
    return torch.empty(()).uniform_(low, high).item()
