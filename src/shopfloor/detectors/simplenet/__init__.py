"""SimpleNet (Liu et al., CVPR 2023): noise in feature space as the only defects it learns from."""

from shopfloor.detectors.simplenet.lightning_model import SimpleNet

__all__ = ["SimpleNet"]
