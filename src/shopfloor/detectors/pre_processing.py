"""What an anomalib pre-processor does to an image, step by step."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.transforms.v2 import Compose, Normalize


def steps_of(pre_processor: nn.Module | None) -> list[Any]:
    """The transforms of a pre-processor, in their order; none where it has no transform."""
    transform = getattr(pre_processor, "transform", None)
    if transform is None:
        return []
    return list(transform.transforms) if isinstance(transform, Compose) else [transform]


def normalisation_of(pre_processor: nn.Module | None) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel that a pre-processor normalises with; 0 and 1 if it does not."""
    for step in steps_of(pre_processor):
        if isinstance(step, Normalize):
            return list(step.mean), list(step.std)
    return [0.0] * 3, [1.0] * 3
