"""Loss of MMR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from shopfloor.detectors.mmr.anomaly_map import cosine_distance


class MmrLoss(nn.Module):
    """Sum over the levels of the mean cosine distance of all pixels (specification of MMR, section 5)."""

    def forward(self, target_maps: Sequence[torch.Tensor], student_maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Compares two sets of feature maps.

        Args:
            target_maps: Maps of the target network ``(B, C, h, w)``, one per level.
            student_maps: Maps of the student, of the same shapes.

        Returns:
            Loss ``()``, from 0 to 2 per level.
        """
        distances = [cosine_distance(*maps).mean() for maps in zip(target_maps, student_maps, strict=True)]
        return torch.stack(distances).sum()
