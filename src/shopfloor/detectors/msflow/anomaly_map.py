"""From the likelihoods of three scales to an anomaly map and an image score (specification of MSFlow, section 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

_SCORED_SHARE = 0.03  # of the pixels


def additive_map(log_likelihoods: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Sums the likelihoods of the scales; a pixel is as anomalous as the sum falls short of the image's largest.

    The likelihoods of each scale are relative to the largest of the same image, so values of different images are not
    on a common scale.

    Args:
        log_likelihoods: One map ``(B, 1, h, w)`` per scale, any range.
        size: Height H and width W of the result, in pixels.

    Returns:
        Maps ``(B, 1, H, W)`` from 0 to below the number of scales; the smallest value of each image is 0.
    """
    relative = [torch.exp(values - _largest(values)) for values in log_likelihoods]
    total = torch.stack([_enlarge(values, size) for values in relative]).sum(0)
    return _largest(total) - total


def multiplicative_map(log_likelihoods: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Multiplies the likelihoods of the scales; what is anomalous in any of them is so in the product.

    Args:
        log_likelihoods: One map ``(B, 1, h, w)`` per scale, any range.
        size: Height H and width W of the result, in pixels.

    Returns:
        Maps ``(B, 1, H, W)`` from 0 to 1; the smallest value of each image is 0.
    """
    total = torch.stack([_enlarge(values, size) for values in log_likelihoods]).sum(0)
    return 1 - torch.exp(total - _largest(total))


def mean_of_largest(maps: torch.Tensor) -> torch.Tensor:
    """Averages the largest three percent of the values of each map, rounded down but one at least.

    Args:
        maps: Maps ``(B, 1, H, W)``, any range.

    Returns:
        Image scores ``(B,)``, in the range of the maps.
    """
    values = maps.flatten(1)
    count = max(1, int(_SCORED_SHARE * values.shape[1]))
    return values.topk(count, dim=1).values.mean(1)


def _largest(maps: torch.Tensor) -> torch.Tensor:
    """Largest value of each map ``(B, 1, 1, 1)``."""
    return maps.amax((2, 3), keepdim=True)


def _enlarge(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(maps, size, mode="bilinear", align_corners=True)
