"""The parallel flows of MSFlow: one per scale, each told where in the image it is (specification, 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from anomalib.models.components.flow import AllInOneBlock
from anomalib.models.image.cflow.utils import positional_encoding_2d
from FrEIA.framework import SequenceINN
from timm.layers import LayerNorm2d
from torch import nn

_POSITION_CHANNELS = 64
_CLAMP = 1.9
_EPS = 1e-5


class ParallelFlows(nn.Module):
    """One conditional normalising flow per scale, independent of each other.

    Args:
        channels: Channels C of each scale, 2 at least.
        blocks: Coupling blocks of each scale's flow, 1 at least.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(_conditional_flow(*sizes) for sizes in zip(channels, blocks, strict=True))

    def forward(self, maps: Sequence[torch.Tensor], rev: bool = False) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Passes each map through its flow.

        Args:
            maps: One ``(B, C, h, w)`` per scale, any range and size.
            rev: Whether to go back from the result to the maps.

        Returns:
            Maps of the same shapes, any range, and the log-determinant ``(B,)`` of all flows together.
        """
        results = [flow(m, [position_condition(m)], rev=rev) for flow, m in zip(self.flows, maps, strict=True)]
        return [latent for latent, _ in results], torch.stack([log_det for _, log_det in results]).sum(0)


def position_condition(maps: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of column and row, the same for all images.

    Args:
        maps: Maps ``(B, C, h, w)``, which give the shape.

    Returns:
        Condition ``(B, 64, h, w)`` from -1 to 1; the first half of the channels tells the column, the second the row.
    """
    height, width = maps.shape[2:]
    return positional_encoding_2d(_POSITION_CHANNELS, height, width).to(maps).expand(len(maps), -1, -1, -1)


def coupling_network(in_channels: int, out_channels: int) -> nn.Sequential:
    """Network that tells a coupling block by how much to scale and to shift one half of the channels.

    Args:
        in_channels: Channels of the other half and of the condition.
        out_channels: Twice the channels of the half that is changed.

    Returns:
        Network from ``(B, in_channels, h, w)`` to ``(B, out_channels, h, w)``.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, kernel_size=3, padding=1),
        LayerNorm2d(in_channels, eps=_EPS),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
    )


def _conditional_flow(channels: int, blocks: int) -> SequenceINN:
    # The blocks take maps of any size: height and width of 1 say no more than that there are such axes.
    flow = SequenceINN(channels, 1, 1)
    for _ in range(blocks):
        flow.append(
            AllInOneBlock,
            cond=0,
            cond_shape=(_POSITION_CHANNELS, 1, 1),
            subnet_constructor=coupling_network,
            affine_clamping=_CLAMP,
        )
    for block in flow:
        _keep_permutation_as_buffer(block)
    return flow


def _keep_permutation_as_buffer(block: AllInOneBlock) -> None:
    """The block has its fixed permutation as parameters, which would be counted among the network's."""
    for name in ("w_perm", "w_perm_inv"):
        matrix = getattr(block, name).detach()
        delattr(block, name)
        block.register_buffer(name, matrix)
