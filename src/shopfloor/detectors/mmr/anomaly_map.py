"""Anomaly map of MMR: where the student's features point elsewhere than those of the target network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from shopfloor.detectors.smoothing import smooth

_SIGMA = 4.0


def cosine_distance(target_map: torch.Tensor, student_map: torch.Tensor) -> torch.Tensor:
    """One minus the cosine similarity over the channels.

    Args:
        target_map: Features ``(B, C, h, w)``.
        student_map: Features of the same shape.

    Returns:
        Distances ``(B, h, w)``, float32, from 0 to 2.
    """
    # Mixed precision may give half-precision features, whose distances would keep two digits only.
    return 1 - functional.cosine_similarity(target_map.float(), student_map.float(), dim=1, eps=1e-8)


class AnomalyMapGenerator(nn.Module):
    """Adds the enlarged cosine distances of all levels, then smooths the sum as SciPy does."""

    def forward(
        self,
        target_maps: Sequence[torch.Tensor],
        student_maps: Sequence[torch.Tensor],
        image_size: torch.Size | tuple[int, int],
    ) -> torch.Tensor:
        """Makes anomaly maps (specification of MMR, section 6).

        Args:
            target_maps: Maps of the target network ``(B, C, h, w)``, one per level.
            student_maps: Maps of the student, of the same shapes.
            image_size: Height H and width W of the images, in pixels.

        Returns:
            Maps ``(B, 1, H, W)``, from 0 to 2 per level.
        """
        levels = [
            functional.interpolate(
                cosine_distance(*maps).unsqueeze(1), size=image_size, mode="bilinear", align_corners=True
            )
            for maps in zip(target_maps, student_maps, strict=True)
        ]
        return smooth(torch.stack(levels).sum(0), _SIGMA)
