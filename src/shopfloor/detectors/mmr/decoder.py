"""Decoder of the student: from the encoder's tokens to feature maps at the scales of the target network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.layers import LayerNorm2d
from torch import nn

from shopfloor.detectors.mmr.positions import position_table

_TOKEN_STD = 0.02

#: Times by which a branch can enlarge the grid of patches.
SCALES = (1, 2, 4)


@dataclass(frozen=True)
class Level:
    """What one branch has to give.

    Attributes:
        channels: Channels of its map.
        scale: Cells of its map per patch, along a side; one of :data:`SCALES`.
    """

    channels: int
    scale: int


class Decoder(nn.Module):
    """Fills the gaps of the grid with one learned token, then enlarges it in one branch per level.

    A simple feature pyramid: all branches read the same map. Specification of MMR, section 4.4.

    Args:
        dim: Length D of a token, a multiple of 4.
        side: Rows, and columns, of the grid of patches.
        levels: What the branches give, one each.
    """

    positions: torch.Tensor

    def __init__(self, dim: int, side: int, levels: Sequence[Level]) -> None:
        super().__init__()
        self.side = side
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.normal_(self.mask_token, std=_TOKEN_STD)
        self.register_buffer("positions", position_table(side, dim), persistent=False)
        self.branches = nn.ModuleList(_branch(dim, level) for level in levels)

    def forward(self, tokens: torch.Tensor, kept: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Gives one feature map per level.

        Args:
            tokens: Tokens of the encoder ``(B, 1 + K, D)``.
            kept: To which patches they belong ``(B, K)``; None if to all, in the order of the grid.

        Returns:
            Maps ``(B, C, scale * side, scale * side)``, any range, in the order of the levels.
        """
        grid = self._complete(tokens[:, 1:], kept) + self.positions[1:]
        maps = grid.transpose(1, 2).unflatten(2, (self.side, self.side))
        return [branch(maps) for branch in self.branches]

    def _complete(self, tokens: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """Puts tokens ``(B, K, D)`` into their places in the grid ``(B, side**2, D)``, the mask token elsewhere."""
        if kept is None:
            return tokens
        masked = self.mask_token.to(tokens.dtype).expand(len(tokens), self.side**2, -1)
        return masked.scatter(1, kept[..., None].expand_as(tokens), tokens)


def _branch(dim: int, level: Level) -> nn.Sequential:
    channels = level.channels
    return nn.Sequential(
        *_enlargement(dim, level.scale),
        nn.Conv2d(dim // level.scale, channels, kernel_size=1, bias=False),
        LayerNorm2d(channels),
        nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(channels),
    )


def _enlargement(dim: int, scale: int) -> list[nn.Module]:
    """Layers that double the grid's sides and halve its channels, as often as the scale asks for."""
    if scale == 1:
        return []
    layers: list[nn.Module] = [nn.ConvTranspose2d(dim, dim // 2, kernel_size=2, stride=2)]
    if scale == max(SCALES):
        layers += [
            LayerNorm2d(dim // 2),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 2, dim // 4, kernel_size=2, stride=2),
        ]
    return layers
