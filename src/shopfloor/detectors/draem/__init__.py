"""DRAEM (Zavrtanik et al., ICCV 2021): anomalib's networks, trained and scored as in the original code."""

from shopfloor.detectors.draem.lightning_model import Draem

__all__ = ["Draem"]
