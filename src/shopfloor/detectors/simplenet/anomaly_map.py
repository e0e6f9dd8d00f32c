"""Anomaly map of SimpleNet."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from shopfloor.detectors.smoothing import smooth

_SIGMA = 4.0


class AnomalyMapGenerator(nn.Module):
    """Enlarges the grid of patch scores to the size of the images, then smooths it as SciPy does."""

    def forward(self, patch_scores: torch.Tensor, image_size: torch.Size | tuple[int, int]) -> torch.Tensor:
        """Makes anomaly maps (specification of SimpleNet, section 6).

        Args:
            patch_scores: Scores on the grid of the patches ``(B, 1, h, w)``, any range.
            image_size: Height H and width W of the images, in pixels.

        Returns:
            Maps ``(B, 1, H, W)``, in the range of the scores.
        """
        maps = functional.interpolate(patch_scores, size=image_size, mode="bilinear", align_corners=False)
        return smooth(maps, _SIGMA)
