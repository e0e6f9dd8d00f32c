"""Loss of MSFlow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class MsflowLoss(nn.Module):
    """Negative log-likelihood of an image without its constant, averaged over the images of a batch.

    It is a sum over all latent values, not divided by their number; losses around -1e6 are normal.
    """

    @staticmethod
    def forward(latents: Sequence[torch.Tensor], log_determinant: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            latents: Latent maps ``(B, C, h, w)`` of the scales, any range.
            log_determinant: Of the whole flow, for each image ``(B,)``, any range.

        Returns:
            Loss ``()``, any range.
        """
        energy = sum(latent.square().sum((1, 2, 3)) / 2 for latent in latents)
        return (energy - log_determinant).mean()
