"""Gaussian smoothing of anomaly maps as SciPy does it, on any device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from kornia.filters import get_gaussian_kernel1d
from torch.nn import functional
from torchvision.transforms.v2.functional import pad

_TRUNCATE = 4.0  # SciPy's default: the kernel ends at this many standard deviations


def smooth(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooths maps with a Gaussian; equal to ``scipy.ndimage.gaussian_filter`` with its defaults.

    anomalib's ``GaussianBlur2d`` mirrors a map at its edge without the edge pixel, SciPy with it; the detectors whose
    official code uses SciPy differ from it near the edge otherwise (specification of SimpleNet, section 6).

    Args:
        maps: Maps ``(B, C, H, W)``, floating point, any range.
        sigma: Standard deviation of the Gaussian, in pixels, above 0.

    Returns:
        Smoothed maps ``(B, C, H, W)``.
    """
    radius = int(_TRUNCATE * sigma + 0.5)
    kernel = get_gaussian_kernel1d(2 * radius + 1, sigma, device=maps.device, dtype=maps.dtype)[0]
    channels = maps.shape[1]
    columns = kernel.expand(channels, 1, 1, -1)
    with _full_precision(maps.device.type):
        for weights in (columns, columns.transpose(2, 3)):  # along rows, then along columns
            height, width = weights.shape[2] // 2, weights.shape[3] // 2
            maps = functional.conv2d(_mirror(maps, height, width), weights, groups=channels)
    return maps


def _full_precision(device_type: str) -> AbstractContextManager[None]:
    """Mixed precision would round the maps."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()  # the device `meta`, on which shapes are computed, has none


def _mirror(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Mirrors maps beyond their edges, edge pixel included; as often as it takes when the margin exceeds the map."""
    while height > 0 or width > 0:
        rows, columns = min(height, maps.shape[2]), min(width, maps.shape[3])
        maps = pad(maps, [columns, rows], padding_mode="symmetric")
        height, width = height - rows, width - columns
    return maps
