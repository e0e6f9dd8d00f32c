"""MMR (Zhang et al., Computers in Industry 2023): a vision transformer gives a frozen network's features back."""

from shopfloor.detectors.mmr.lightning_model import Mmr

__all__ = ["Mmr"]
