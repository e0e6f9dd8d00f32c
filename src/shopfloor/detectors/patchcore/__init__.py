"""PatchCore (Roth et al., CVPR 2022): anomalib's, with a faster coreset and a faster search and the same results."""

from shopfloor.detectors.patchcore.lightning_model import Patchcore

__all__ = ["Patchcore"]
