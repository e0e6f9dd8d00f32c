"""Positions as part of a descriptor, for parts that stand the same way in all images."""

from __future__ import annotations

import torch


def asymmetry(mean_image: torch.Tensor) -> float:
    """How much an image differs from its transpose: large where the mean over many images still shows a part.

    Args:
        mean_image: Image ``(3, S, S)`` in 0 to 255.

    Returns:
        Mean squared difference over pixels and colours, 0 or more.
    """
    return float((mean_image - mean_image.transpose(1, 2)).square().mean())


def with_positions(descriptors: torch.Tensor, weight: float) -> torch.Tensor:
    """Appends the position of each patch to its descriptor.

    Args:
        descriptors: Descriptors ``(..., h, w, D)``.
        weight: Entry that would stand for the whole width or height.

    Returns:
        Descriptors ``(..., h, w, D + 2)``; the new entries are ``weight * column / w`` and ``weight * row / h``.
    """
    height, width = descriptors.shape[-3:-1]
    columns = weight * torch.arange(width, device=descriptors.device) / width
    rows = weight * torch.arange(height, device=descriptors.device) / height
    positions = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).to(descriptors.dtype)
    return torch.cat([descriptors, positions.expand(*descriptors.shape[:-1], 2)], dim=-1)
