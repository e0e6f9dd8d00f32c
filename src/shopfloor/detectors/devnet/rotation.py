"""Random rotation of normalised images."""

from __future__ import annotations

import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import rotate


def rotate_each(images: torch.Tensor, black: list[float]) -> torch.Tensor:
    """Rotates each image about its centre by an angle of its own, uniform in [-180, 180] degrees.

    The nearest pixels are taken and the size is kept, so that rotating normalised images gives the same as normalising
    rotated ones, if the corners are filled with what black has become.

    Args:
        images: Normalised images ``(B, 3, H, W)``.
        black: Normalised black, one value per channel.

    Returns:
        Rotated images ``(B, 3, H, W)``.
    """
    angles = torch.empty(len(images)).uniform_(-180, 180).tolist()
    rotated = [
        rotate(image, angle, InterpolationMode.NEAREST, fill=black) for image, angle in zip(images, angles, strict=True)
    ]
    return torch.stack(rotated)
