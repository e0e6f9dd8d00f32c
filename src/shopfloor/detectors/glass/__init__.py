"""GLASS (Chen et al., ECCV 2024): anomalib's, brought close to the original, with foreground masks."""

from shopfloor.detectors.glass.lightning_model import Glass

__all__ = ["Glass"]
