"""Loss of CS-Flow with each image's own log-determinant."""

from __future__ import annotations

import torch
from anomalib.models.image.csflow.loss import CsFlowLoss


class PerImageLoss(CsFlowLoss):
    """Negative log-likelihood per latent value, averaged over the images, as in the original.

    anomalib's flow gives every image the sum of the log-determinants of the whole batch. The loss averages over the
    images, so dividing this sum by their number is the same as giving each image its own.
    """

    @staticmethod
    def forward(z_dist: list[torch.Tensor], jacobians: torch.Tensor) -> torch.Tensor:
        """Computes the loss.

        Args:
            z_dist: Latent maps ``(B, C, h, w)`` of the scales.
            jacobians: For each image the sum of the log-determinants of the batch ``(B,)``.

        Returns:
            Loss ``()``, any range.
        """
        return CsFlowLoss.forward(z_dist, jacobians / len(jacobians))
