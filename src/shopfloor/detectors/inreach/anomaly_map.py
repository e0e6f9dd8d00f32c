"""Anomaly map of InReaCh: patch scores, repeated over their cells and smoothed."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from shopfloor.detectors.smoothing import smooth


class AnomalyMapGenerator(nn.Module):
    """Makes anomaly maps of patch scores (specification of InReaCh, section 7).

    Args:
        sigma: Standard deviation of the Gaussian that smooths the map, in pixels.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, patch_scores: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
        """Brings patch scores to the size of the image.

        Args:
            patch_scores: Scores ``(B, 1, h, w)``.
            image_size: Height and width of the image, in pixels.

        Returns:
            Anomaly maps ``(B, 1, H, W)``.
        """
        return smooth(functional.interpolate(patch_scores, size=image_size, mode="nearest"), self.sigma)
