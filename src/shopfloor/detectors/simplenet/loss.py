"""Loss of SimpleNet."""

from __future__ import annotations

import torch
from torch import nn


class TruncatedL1Loss(nn.Module):
    """Asks for outputs above the margin on normal features and below minus the margin on noisy ones.

    What is beyond the margin on its own side costs nothing (specification of SimpleNet, section 5, step 4).

    Args:
        margin: Margin on both sides of zero, 0 or above.
    """

    def __init__(self, margin: float = 0.5) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, normal: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        """Mean cost of the normal plus mean cost of the noisy features.

        Args:
            normal: The discriminator's output for normal features, any shape and range.
            noisy: Its output for noisy features, likewise.

        Returns:
            Loss ``()``, 0 or above.
        """
        return (self.margin - normal).clamp(min=0).mean() + (self.margin + noisy).clamp(min=0).mean()
