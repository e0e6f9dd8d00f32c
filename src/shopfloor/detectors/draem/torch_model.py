"""The two networks of DRAEM, initialised and scored as in the original code."""

from __future__ import annotations

import torch
from anomalib.data import InferenceBatch
from anomalib.models.image.draem.torch_model import DraemModel as AnomalibDraemModel
from torch import nn
from torch.nn import functional

_INITIAL_DEVIATION = 0.02
_WINDOW = 21  # side of the square over which the map is averaged for the image score, in pixels


class DraemModel(AnomalibDraemModel):
    """anomalib's two networks, joined, initialised and scored as in the original."""

    def __init__(self) -> None:
        super().__init__(sspcab=False)
        self.apply(_initialise)

    def forward(self, batch: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor] | InferenceBatch:
        """Reconstructs and segments a training batch ``(B, 3, S, S)`` in [0, 1], or scores a test batch.

        Returns:
            In training the reconstruction ``(B, 3, S, S)``, any range, and the logits ``(B, 2, S, S)``. Otherwise maps
            ``(B, 1, S, S)``, the probability of a pixel to be anomalous, and scores ``(B,)``, their largest mean over a
            square of 21 x 21 pixels, both in [0, 1]. Beyond the image's edge a square counts as normal.
        """
        reconstruction = self.reconstructive_subnetwork(batch)
        logits = self.discriminative_subnetwork(torch.cat([reconstruction, batch], dim=1))  # anomalib: the reverse
        if self.training:
            return reconstruction, logits
        anomaly_map = logits.softmax(1)[:, 1:].float()
        means = functional.avg_pool2d(anomaly_map, _WINDOW, stride=1, padding=_WINDOW // 2)
        return InferenceBatch(pred_score=means.amax(dim=(1, 2, 3)), anomaly_map=anomaly_map)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, _INITIAL_DEVIATION)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, _INITIAL_DEVIATION)
        nn.init.zeros_(module.bias)
