"""Shopfloor tells whether a visual anomaly detector will survive a factory."""

__version__ = "0.1.0"
