"""Reverse Distillation (Deng & Li, CVPR 2022): anomalib's, with a choice of weights and bottleneck."""

from shopfloor.detectors.reverse_distillation.lightning_model import ReverseDistillation

__all__ = ["ReverseDistillation"]
