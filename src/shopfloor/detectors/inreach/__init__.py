"""InReaCh (McIntosh and Albu, ICCV 2023): a bank of patches that unlabelled images have in common."""

from shopfloor.detectors.inreach.lightning_model import InReaCh

__all__ = ["InReaCh"]
