"""MSFlow (Zhou et al., TNNLS 2024): parallel normalising flows on three scales, joined by a flow across the scales."""

from shopfloor.detectors.msflow.lightning_model import Msflow

__all__ = ["Msflow"]
