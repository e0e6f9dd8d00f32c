"""Network of the feature classifier: a frozen backbone, pooled features and one linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from anomalib.data import InferenceBatch
from anomalib.models.components import TimmFeatureExtractor
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn

# scikit-learn's tolerance of 1e-4 leaves the coefficients undecided in the second digit; these bring them to an end.
_TOLERANCE = 1e-8
_MAX_ITERATIONS = 10_000
# A feature that is the same in all images still varies by the rounding of float32, which depends on the batch size.
_ROUNDING = 16 * float(np.finfo(np.float32).eps)


class FeatureClassifierModel(nn.Module):
    """Pooled features of a timm network, standardised, and a logistic regression on them.

    What is learned is kept in float32 buffers of fixed shape: ``mean``, ``scale`` and ``coefficients``, ``(D,)`` each,
    and ``intercept``, ``()``. The number of features D is twice the number of channels of all layers.

    Args:
        layers: Names of the network's layers.
        backbone: timm name of the network.
        pre_trained: Whether the network is given ImageNet weights.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    coefficients: torch.Tensor
    intercept: torch.Tensor

    def __init__(self, layers: Sequence[str], backbone: str, pre_trained: bool = True) -> None:
        super().__init__()
        # It keeps the network in evaluation mode and gives no gradients, so training leaves the network as it is.
        self.feature_extractor = TimmFeatureExtractor(backbone=backbone, layers=layers, pre_trained=pre_trained)
        n_features = 2 * sum(self.feature_extractor.out_dims)
        # Not a number until fitted: an untrained classifier must not pass for one that finds all images equally good.
        for name in ("mean", "scale", "coefficients"):
            self.register_buffer(name, torch.full((n_features,), torch.nan))
        self.register_buffer("intercept", torch.tensor(torch.nan))

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Pools the features of a training batch ``(B, 3, H, W)``, or scores a test batch.

        Returns:
            In training features ``(B, D)``, any range; otherwise scores ``(B,)``: the log-odds of being bad, any range.
        """
        features = self._pooled(images)
        if self.training:
            return features
        return InferenceBatch(pred_score=(features - self.mean) / self.scale @ self.coefficients + self.intercept)

    def fit(self, features: torch.Tensor, is_bad: torch.Tensor, regularisation: float) -> None:
        """Learns the classifier; calculates in float64 on the CPU.

        Args:
            features: Of all training images ``(N, D)``, on any device.
            is_bad: Labels ``(N,)``, True for bad images, of which there must be both kinds.
            regularisation: scikit-learn's C, above 0: the smaller, the stronger the pull of the coefficients to zero.
        """
        values: NDArray[np.float64] = features.double().cpu().numpy()
        mean = values.mean(axis=0)
        scale = _scale_of(values, mean)
        classifier = LogisticRegression(
            C=regularisation, class_weight="balanced", solver="lbfgs", tol=_TOLERANCE, max_iter=_MAX_ITERATIONS
        )
        classifier.fit((values - mean) / scale, is_bad.cpu().numpy())
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(scale))
        self.coefficients.copy_(torch.from_numpy(classifier.coef_[0]))
        self.intercept.copy_(torch.from_numpy(classifier.intercept_)[0])

    def _pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Mean and maximum over the pixels of each channel of each layer ``(B, D)``."""
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)  # faster, as in PatchcoreModel
        maps = self.feature_extractor(images).values()
        return torch.cat([pooled for m in maps for pooled in (m.mean((2, 3)), m.amax((2, 3)))], dim=1)


def _scale_of(values: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each feature ``(D,)``, above 0; 1 for a feature that is constant up to rounding."""
    deviation = values.std(axis=0)
    return np.where(deviation > _ROUNDING * np.abs(mean), deviation, 1.0)
