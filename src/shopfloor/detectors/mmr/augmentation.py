"""Augmentation of the training images of MMR."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.transforms.v2 import Compose, InterpolationMode, RandomHorizontalFlip, RandomResizedCrop

_AREA = (0.7, 1.0)  # of the crop, as a part of the image
_ASPECT_RATIO = (3 / 4, 4 / 3)
_FLIPPED = 0.5


class Augmentation(nn.Module):
    """Crops every image of a batch at random and enlarges it to its old size; flips it, left to right, or not.

    Each image is flipped with probability 0.5, whatever happens to the others. Specification of MMR, section 2. Random
    numbers come from torch's global generator on the CPU, anew for each image.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Augments images.

        Args:
            images: Images ``(B, 3, H, W)``, normalised or not. Bicubic interpolation may leave their range a little.

        Returns:
            Images of the same shape.
        """
        augment = Compose(
            [
                RandomResizedCrop(
                    list(images.shape[-2:]), scale=_AREA, ratio=_ASPECT_RATIO, interpolation=InterpolationMode.BICUBIC
                ),
                RandomHorizontalFlip(_FLIPPED),
            ]
        )
        return torch.stack([augment(image) for image in images])
