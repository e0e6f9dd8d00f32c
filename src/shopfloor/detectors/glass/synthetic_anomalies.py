"""Synthetic defects of GLASS: textures pasted into good images.

Follows the specification of the models taken from anomalib, section 5, and so the original code.
"""

from __future__ import annotations

import numpy as np
import torch
from anomalib.data.transforms import MultiRandomChoice
from anomalib.data.utils.generators.perlin import generate_perlin_noise
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_dtype

_NOISE_THRESHOLD = 0.5
_MOST_DRAWS = 100
_COMBINATIONS = (None, torch.logical_and, torch.logical_or)
_rotate = v2.RandomAffine(degrees=90, interpolation=v2.InterpolationMode.BILINEAR)
_alter_texture = MultiRandomChoice(
    [
        v2.ColorJitter(contrast=(0.8, 1.2)),
        v2.ColorJitter(brightness=(0.8, 1.2)),
        v2.ColorJitter(saturation=(0.8, 1.2), hue=0.2),
        v2.RandomHorizontalFlip(p=1),
        v2.RandomVerticalFlip(p=1),
        v2.RandomGrayscale(p=1),
        v2.RandomAutocontrast(p=1),
        v2.RandomEqualize(p=1),
        v2.RandomAffine(degrees=45),
    ],
    num_transforms=3,
    fixed_num_transforms=True,
)


class SyntheticAnomalies:
    """Pastes a texture into each image of a batch. All random numbers come from the global generators.

    Attributes:
        textures: Textures ``(N, H, W, 3)``, uint8, maybe a memory map: one is read at a time. None until training.
        foreground: Where defects may lie ``(B, H, W)``, bool, in the batch to come; None for anywhere.
        grid: Rows and columns of the patches, on which the masks are given.
    """

    def __init__(self) -> None:
        self.textures: np.ndarray | None = None
        self.foreground: torch.Tensor | None = None
        self.grid = (0, 0)

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Makes defects.

        Args:
            images: Good images ``(B, 3, H, W)``, in [0, 1].

        Returns:
            Images with a defect each ``(B, 3, H, W)``, in [0, 1]; and where it is, on the grid of the patches
            ``(B, 1, h, w)``, 0 or 1.
        """
        masks = self._draw_masks(images)[:, None]
        textures = torch.stack([self._draw_texture() for _ in images]).to(images.device)
        weights = draw_texture_weights(len(images)).to(images.device)[:, None, None, None]
        defective = torch.where(masks, weights * textures + (1 - weights) * images, images)
        return defective, functional.adaptive_max_pool2d(masks.float(), self.grid)

    def _draw_masks(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        foreground = [None] * len(images) if self.foreground is None else self.foreground
        return torch.stack([draw_mask(height, width, allowed, images.device) for allowed in foreground])

    def _draw_texture(self) -> torch.Tensor:
        """One texture ``(3, H, W)``, in [0, 1], altered in three ways."""
        assert self.textures is not None  # checked when the training started
        number = int(torch.randint(len(self.textures), ()))
        pixels = torch.from_numpy(np.array(self.textures[number])).permute(2, 0, 1)
        return to_dtype(_alter_texture(pixels), torch.float32, scale=True)


def draw_texture_weights(n: int) -> torch.Tensor:
    """Weights of n textures where they cover an image ``(n,)``, in [0.2, 0.8], mostly near 0.5."""
    return 1 - torch.normal(0.5, 0.1, (n,)).clamp(0.2, 0.8)


def draw_mask(height: int, width: int, foreground: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    """Draws the shape of a defect, again and again until some of it lies on the foreground.

    A foreground that is empty, or that a hundred shapes have missed, is disregarded: the defect may then lie anywhere.
    Max-pooling loses no pixel of a mask, so one that is not empty is not empty on any grid either.

    Args:
        height: Rows H.
        width: Columns W.
        foreground: Where the defect may lie ``(H, W)``, bool; None for anywhere.
        device: Where to draw.

    Returns:
        Mask ``(H, W)``, bool.
    """
    mask = torch.zeros(height, width, dtype=torch.bool, device=device)
    for allowed in (foreground, None):
        if allowed is not None and not bool(allowed.any()):
            continue
        for _ in range(_MOST_DRAWS):
            mask = _draw_combination(height, width, device)
            if allowed is not None:
                mask = mask & allowed
            if bool(mask.any()):
                return mask
    return mask


def _draw_combination(height: int, width: int, device: torch.device) -> torch.Tensor:
    """One Perlin shape, or intersection or union of two, each in a third of the cases ``(H, W)``."""
    combine = _COMBINATIONS[int(torch.randint(len(_COMBINATIONS), ()))]
    shape = _draw_shape(height, width, device)
    return combine(shape, _draw_shape(height, width, device)) if combine else shape


def _draw_shape(height: int, width: int, device: torch.device) -> torch.Tensor:
    noise = generate_perlin_noise(height, width, device=device)
    return _rotate(noise[None])[0] > _NOISE_THRESHOLD
