"""DRA (Ding et al., CVPR 2022): seen, pseudo and latent-residual abnormalities, learned by separate heads."""

from shopfloor.detectors.dra.lightning_model import Dra

__all__ = ["Dra"]
