"""DevNet for images (Pang et al., 2021): a network that learns from few labelled anomalies to deviate on them."""

from shopfloor.detectors.devnet.lightning_model import DevNet

__all__ = ["DevNet"]
