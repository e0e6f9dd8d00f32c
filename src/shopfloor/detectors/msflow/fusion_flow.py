"""The fusion flow of MSFlow: a coupling layer in which every scale sees all others (specification, 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import LayerNorm2d
from torch import nn
from torch.nn import functional

_CLAMP = 1.9
_ATAN_FACTOR = 0.636  # about 2 / pi, so that the clamp is the bound of the log-scales
_LARGEST = 1e6
_EPS = 1e-5
_SQUEEZE = 4  # by this the hidden channels are fewer than those of all scales

Maps = list[torch.Tensor]


class FusionFlow(nn.Module):
    """A random permutation of the channels of each scale, and one coupling layer over all scales.

    The permutations, ``permutation_<scale>`` ``(C,)``, are part of the state. The result is limited to +-1e6; only
    below that can it be inverted.

    Args:
        channels: Channels C of each scale, 2 at least. Of an odd number the first half has one more.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        for scale, count in enumerate(channels):
            self.register_buffer(f"permutation_{scale}", torch.randperm(count))
        second = [count // 2 for count in channels]
        first = [count - half for count, half in zip(channels, second, strict=True)]
        self._halves = list(zip(first, second, strict=True))
        self.network_of_second = CrossScaleNetwork(second, first)
        self.network_of_first = CrossScaleNetwork(first, second)

    def forward(self, maps: Sequence[torch.Tensor], rev: bool = False) -> tuple[Maps, torch.Tensor]:
        """Passes maps through the layer.

        Args:
            maps: One ``(B, C, h, w)`` per scale, any range and size, from fine to coarse.
            rev: Whether to go back from the result to the maps.

        Returns:
            Maps of the same shapes, from -1e6 to 1e6 unless ``rev``, and the log-determinant ``(B,)``.
        """
        return self._invert(maps) if rev else self._transform(maps)

    def _transform(self, maps: Sequence[torch.Tensor]) -> tuple[Maps, torch.Tensor]:
        first, second = self._split([m[:, order] for m, order in zip(maps, self._permutations(), strict=True)])
        log_scales, shifts = self.network_of_second(second)
        first = [m * s.exp() + t for m, s, t in zip(first, log_scales, shifts, strict=True)]
        more_log_scales, shifts = self.network_of_first(first)
        second = [m * s.exp() + t for m, s, t in zip(second, more_log_scales, shifts, strict=True)]
        joined = [m.clamp(-_LARGEST, _LARGEST) for m in _join(first, second)]
        return joined, _sum_per_image([*log_scales, *more_log_scales])

    def _invert(self, maps: Sequence[torch.Tensor]) -> tuple[Maps, torch.Tensor]:
        first, second = self._split(maps)
        log_scales, shifts = self.network_of_first(first)
        second = [(m - t) / s.exp() for m, s, t in zip(second, log_scales, shifts, strict=True)]
        more_log_scales, shifts = self.network_of_second(second)
        first = [(m - t) / s.exp() for m, s, t in zip(first, more_log_scales, shifts, strict=True)]
        joined = _join(first, second)
        inverted = [m[:, order.argsort()] for m, order in zip(joined, self._permutations(), strict=True)]
        return inverted, -_sum_per_image([*log_scales, *more_log_scales])

    def _permutations(self) -> Maps:
        return [self.get_buffer(f"permutation_{scale}") for scale in range(len(self._halves))]

    def _split(self, maps: Sequence[torch.Tensor]) -> tuple[Maps, Maps]:
        pairs = [m.split(halves, dim=1) for m, halves in zip(maps, self._halves, strict=True)]
        return [first for first, _ in pairs], [second for _, second in pairs]


class CrossScaleNetwork(nn.Module):
    """Tells from one half of the channels of all scales by how much to scale and to shift the other half.

    All maps are brought to the size of the coarsest, convolved together and brought back to their sizes, where they are
    added to what they came from.

    Args:
        in_channels: Channels of each scale of the half that is seen.
        out_channels: Channels of each scale of the half that is changed.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        total = sum(in_channels)
        hidden = max(1, total // _SQUEEZE)
        self._in_channels = list(in_channels)
        self.exchange = nn.Sequential(
            _convolution(total, hidden),
            LayerNorm2d(hidden, eps=_EPS),
            nn.ReLU(),
            _convolution(hidden, total),
            nn.ReLU(),
        )
        sizes = list(zip(in_channels, out_channels, strict=True))
        self.scales = nn.ModuleList(_convolution(*size) for size in sizes)
        self.shifts = nn.ModuleList(_convolution(*size) for size in sizes)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[Maps, Maps]:
        """Looks at maps ``(B, in_channels, h, w)``, from fine to coarse.

        Returns:
            Log-scales, within +-1.9, and shifts, any range, both one ``(B, out_channels, h, w)`` per scale.
        """
        height, width = maps[-1].shape[2:]
        pooled = [functional.adaptive_avg_pool2d(m, (height, width)) for m in maps]
        exchanged = self.exchange(torch.cat(pooled, dim=1)).split(self._in_channels, dim=1)
        seen = [m + _enlarge(other, m) for m, other in zip(maps, exchanged, strict=True)]
        log_scales = [_soft_clamp(scale(m)) for scale, m in zip(self.scales, seen, strict=True)]
        return log_scales, [shift(m) for shift, m in zip(self.shifts, seen, strict=True)]


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def _enlarge(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(maps, like.shape[2:], mode="bilinear", align_corners=True)


def _soft_clamp(values: torch.Tensor) -> torch.Tensor:
    return _CLAMP * _ATAN_FACTOR * torch.atan(values / _CLAMP)


def _join(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> Maps:
    return [torch.cat(pair, dim=1) for pair in zip(first, second, strict=True)]


def _sum_per_image(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([m.sum((1, 2, 3)) for m in maps]).sum(0)
