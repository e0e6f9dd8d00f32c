"""Synthetic defects of DRAEM: patches of a foreign texture, cut out by Perlin noise, blended into good images.

Decisions are drawn from torch's global generator of the CPU, noise from that of the images' device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from anomalib.data.utils.generators.perlin import generate_perlin_noise
from numpy.typing import NDArray
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import rotate, to_dtype

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.draem.texture_augmenters import augment

_SHARE_ROTATED = 0.3
_SHARE_ALTERED = 0.5
_NOISE_THRESHOLD = 0.5
_NOISE_SCALES = 6  # cells of the noise along a side: 1, 2, 4, ..., 32


def rotate_some(images: torch.Tensor) -> torch.Tensor:
    """Rotates each image with probability 0.3 by up to 90 degrees either way; the empty corners become black.

    Args:
        images: Images ``(B, 3, S, S)`` in [0, 1].

    Returns:
        Images ``(B, 3, S, S)``, new.
    """
    is_rotated = torch.rand(len(images)) < _SHARE_ROTATED
    return torch.stack(
        [_rotate(image) if rotated else image for image, rotated in zip(images, is_rotated, strict=True)]
    )


def perlin_mask(image_size: int, device: torch.device) -> torch.Tensor:
    """Draws the shape of a defect: rotated Perlin noise above 0.5.

    Args:
        image_size: Side S of the mask, in pixels.
        device: Where it is made.

    Returns:
        Mask ``(1, S, S)``, bool. May be empty; anomalib draws such a mask again.
    """
    rows, columns = (2 ** torch.randint(_NOISE_SCALES, (2,))).tolist()
    noise = generate_perlin_noise(image_size, image_size, (rows, columns), device)
    return _rotate(noise.unsqueeze(0)) > _NOISE_THRESHOLD


class SyntheticAnomalies:
    """Alters half of the images it is given.

    Args:
        textures: Textures ``(N, S, S, 3)``, RGB, uint8, for images S x S; read one by one, never copied as a whole.
        beta: Range of the weight of the texture within a defect, drawn anew for each: ``(low, high]``, within [0, 1].

    Raises:
        DetectorError: If the textures have another form.
    """

    def __init__(self, textures: NDArray[np.uint8], beta: Sequence[float]) -> None:
        if textures.ndim != 4 or textures.shape[3] != 3 or not len(textures) or textures.dtype != np.uint8:
            raise DetectorError(
                f"Draem needs textures (N, S, S, 3) of 8 bits, at least one, but was given {textures.shape}, "
                f"{textures.dtype}. shopfloor.detectors.textures.stack_textures reads a folder in this form."
            )
        self.textures = textures
        self.beta = beta

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Alters each image with probability 0.5.

        Args:
            images: Good images ``(B, 3, S, S)`` in [0, 1].

        Returns:
            Images ``(B, 3, S, S)``, new, in [0, 1], and the masks of the defects ``(B, 1, S, S)``, float, 0 or 1.

        Raises:
            DetectorError: If the textures are of another size than the images.
        """
        if images.shape[2:] != self.textures.shape[1:3]:
            raise DetectorError(
                f"Draem: the images have {tuple(images.shape[2:])} pixels, the textures {self.textures.shape[1:3]}. "
                "Give textures of the images' size."
            )
        altered, masks = images.clone(), torch.zeros_like(images[:, :1])
        for index in (torch.rand(len(images)) < _SHARE_ALTERED).nonzero().flatten().tolist():
            mask = perlin_mask(images.shape[2], images.device)
            blend = torch.lerp(images[index], self._texture(images.device), self._texture_weight())
            altered[index] = torch.where(mask, blend, images[index])
            masks[index] = mask.to(masks)
        return altered, masks

    def _texture(self, device: torch.device) -> torch.Tensor:
        """A random texture ``(3, S, S)`` in [0, 1], changed by three random augmenters."""
        index = int(torch.randint(len(self.textures), ()))
        pixels = torch.from_numpy(augment(np.array(self.textures[index]))).to(device).permute(2, 0, 1)
        return to_dtype(pixels, torch.float32, scale=True)

    def _texture_weight(self) -> float:
        low, high = self.beta
        return high - (high - low) * float(torch.rand(()))


def _rotate(image: torch.Tensor) -> torch.Tensor:
    """Rotates ``(C, S, S)`` by a random angle from -90 to 90 degrees; what comes from outside is 0."""
    angle = 180 * float(torch.rand(())) - 90
    return rotate(image, angle, interpolation=InterpolationMode.BILINEAR)
