"""Patch descriptors made of 3x3 neighbourhoods, as SimpleNet, GLASS and InReaCh use them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

_NEIGHBOURHOOD = 3


def describe_patches(levels: Sequence[torch.Tensor], level_size: int, target_size: int) -> torch.Tensor:
    """Describes every position of the first level's grid by its neighbourhoods in all levels.

    Adaptive average pooling takes each level's neighbourhoods (:func:`describe_level`), level by level one after the
    other, to ``target_size`` entries (specification of SimpleNet, section 3; of InReaCh, section 3).

    There, all 9C entries of a level are brought to the first level's grid before anything is pooled. Interpolation and
    pooling are linear and act on different axes, so they may change places: here the entries are pooled first, which
    leaves a fraction of them to interpolate. The result is the same up to float32 rounding.

    Args:
        levels: Feature maps ``(B, C_l, h_l, w_l)``, one of each level, at least one.
        level_size: Entries each level is pooled to, above 0.
        target_size: Entries of a descriptor, above 0.

    Returns:
        Descriptors ``(B, target_size, h_1, w_1)``, any range.
    """
    grid = levels[0].shape[2:]
    described = [describe_level(level, level_size) for level in levels]
    n_entries = len(levels) * level_size
    if n_entries % target_size:  # the groups differ in size and overlap
        return _pool_entries(torch.cat([_interpolate(level, grid) for level in described], dim=1), target_size)
    group = n_entries // target_size
    descriptors = levels[0].new_zeros(len(levels[0]), target_size, *grid)
    for number, level in enumerate(described):
        first, share = _share_of_groups(level, number * level_size, group)
        descriptors[:, first : first + share.shape[1]] += _interpolate(share, grid)
    return descriptors


def describe_level(level: torch.Tensor, size: int) -> torch.Tensor:
    """Pools the 3x3 neighbourhood of every position of a feature map to ``size`` entries.

    A neighbourhood is a vector of 9C entries, channel by channel (``9 * channel + 3 * row + column``), with zeros
    beyond the edge of the map. Adaptive average pooling cuts it into groups without regard to the channels' borders.
    Images are taken one by one, so the ninefold copy exists for one image only.

    Args:
        level: Feature map ``(B, C, h, w)``.
        size: Number of entries, above 0.

    Returns:
        Pooled neighbourhoods ``(B, size, h, w)``, any range.
    """
    neighbourhoods = (functional.unfold(image, _NEIGHBOURHOOD, padding=1) for image in level.split(1))
    pooled = [_pool_entries(entries.unflatten(2, level.shape[2:]), size) for entries in neighbourhoods]
    return torch.cat(pooled)


def _pool_entries(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Adaptive average pooling of the entries: ``(B, D, h, w)`` to ``(B, size, h, w)``."""
    entries, places = maps.flatten(2), maps.shape[2:]
    if entries.shape[1] % size == 0:
        pooled = entries.unflatten(1, (size, -1)).mean(2)
    else:
        pooled = functional.adaptive_avg_pool2d(entries, (size, entries.shape[2]))
    return pooled.unflatten(2, places)


def _share_of_groups(level: torch.Tensor, start: int, group: int) -> tuple[int, torch.Tensor]:
    """What one level adds to the means of the groups it has entries in.

    Args:
        level: Entries of one level ``(B, D, h, w)``.
        start: Number of entries in the levels before.
        group: Number of consecutive entries in each group.

    Returns:
        Index of the first of these groups, and the shares ``(B, n_groups, h, w)``. A group that reaches into another
        level gets the rest of its mean from there.
    """
    before = start % group
    after = -(start + level.shape[1]) % group
    padded = functional.pad(level, (0, 0, 0, 0, before, after))
    return start // group, padded.unflatten(1, (-1, group)).mean(2)


def _interpolate(maps: torch.Tensor, grid: torch.Size) -> torch.Tensor:
    if maps.shape[2:] == grid:
        return maps
    return functional.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
