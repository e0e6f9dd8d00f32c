"""Network of MSFlow: frozen features, parallel flows, fusion flow, map and score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from anomalib.data import InferenceBatch
from torch import nn

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.msflow.anomaly_map import additive_map, mean_of_largest, multiplicative_map
from shopfloor.detectors.msflow.features import FeaturePyramid
from shopfloor.detectors.msflow.fusion_flow import FusionFlow
from shopfloor.detectors.msflow.parallel_flows import ParallelFlows

_PADDINGS = ("reflect", "zeros")
_SCORE_MAPS = {"additive": additive_map, "multiplicative": multiplicative_map}


class MsflowModel(nn.Module):
    """Features of a frozen network, and the flows that turn them into latent values.

    Args:
        backbone: timm name of the network.
        layers: Its layers, from fine to coarse.
        pre_trained: Whether the network is given ImageNet weights.
        blocks: Coupling blocks of each layer's parallel flow, 1 at least.
        padding: How the network's convolutions continue a map at the edges: ``reflect`` or ``zeros``.
        score_map: Map that the image score is taken from: ``additive`` or ``multiplicative``.

    Raises:
        DetectorError: If these do not fit together.
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[str],
        pre_trained: bool = True,
        blocks: Sequence[int] = (2, 5, 8),
        padding: str = "reflect",
        score_map: str = "additive",
    ) -> None:
        super().__init__()
        _check_choice("padding", padding, _PADDINGS)
        _check_choice("score_map", score_map, tuple(_SCORE_MAPS))
        _check_blocks(blocks, layers)
        self.feature_pyramid = FeaturePyramid(backbone, layers, pre_trained, padding)
        self.parallel_flows = ParallelFlows(self.feature_pyramid.channels, blocks)
        self.fusion_flow = FusionFlow(self.feature_pyramid.channels)
        self._map_of_score = _SCORE_MAPS[score_map]

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor] | InferenceBatch:
        """Gives the latent values of a training batch ``(B, 3, H, W)``, or scores a test batch.

        Returns:
            In training the latent maps ``(B, C, h, w)`` of the layers and the log-determinant ``(B,)``, any range;
            otherwise scores ``(B,)`` and maps ``(B, 1, H, W)``, both from 0 to below the number of layers.
        """
        latents, log_determinant = self._latents(images)
        if self.training:
            return latents, log_determinant
        log_likelihoods = [-latent.square().mean(1, keepdim=True) / 2 for latent in latents]
        height, width = images.shape[2:]
        scored = self._map_of_score(log_likelihoods, (height, width))
        maps = additive_map(log_likelihoods, (height, width))
        return InferenceBatch(pred_score=mean_of_largest(scored), anomaly_map=maps)

    def _latents(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        maps, of_parallel = self.parallel_flows(self.feature_pyramid(images))
        latents, of_fusion = self.fusion_flow(maps)
        return latents, of_parallel + of_fusion


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise DetectorError(f"MSFlow: {name} is {value!r}. Give one of: {', '.join(choices)}.")


def _check_blocks(blocks: Sequence[int], layers: Sequence[str]) -> None:
    if len(blocks) != len(layers) or not all(count >= 1 for count in blocks):
        raise DetectorError(
            f"MSFlow: blocks are {list(blocks)} for the layers {list(layers)}. Give one number, 1 at least, per layer."
        )
