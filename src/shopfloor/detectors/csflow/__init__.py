"""CS-Flow (Rudolph et al., WACV 2022): anomalib's, with a choice of the network that gives the features."""

from shopfloor.detectors.csflow.lightning_model import Csflow

__all__ = ["Csflow"]
