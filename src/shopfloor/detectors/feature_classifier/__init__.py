"""A supervised baseline: logistic regression on pooled features of a frozen network."""

from shopfloor.detectors.feature_classifier.lightning_model import FeatureClassifier

__all__ = ["FeatureClassifier"]
