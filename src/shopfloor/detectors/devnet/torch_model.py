"""DevNet's network: a trained backbone and one linear layer that scores its positions."""

from __future__ import annotations

import torch
from anomalib.data import InferenceBatch
from torch import nn

from shopfloor.detectors.deviation import PositionScore, TwoScaleFeatures


class DevNetModel(nn.Module):
    """Scores an image by the positions that deviate most, at two scales (specification of DevNet, section 4).

    Args:
        backbone: timm name of the network.
        layer: Name of the stage whose positions are scored.
        pre_trained: Whether the network is given ImageNet weights to start from.

    Raises:
        DetectorError: If the network has no such stage.
    """

    def __init__(self, backbone: str, layer: str, pre_trained: bool = True) -> None:
        super().__init__()
        self.features = TwoScaleFeatures(backbone, layer, pre_trained)
        self.position_score = PositionScore(self.features.channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Scores images ``(B, 3, H, W)``.

        Returns:
            Scores ``(B,)``, 0 or above: means over the two scales. In evaluation mode as an ``InferenceBatch``.
        """
        scores = torch.stack([self.position_score(scale) for scale in self.features(images)]).mean(dim=0)
        return scores if self.training else InferenceBatch(pred_score=scores)
