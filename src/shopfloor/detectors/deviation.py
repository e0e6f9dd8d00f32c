"""What DevNet and DRA share: a network trained at two scales, top-k scores of positions, and the deviation loss.

Deviation networks learn an image score directly: scores of normal images are drawn to the mean of a Gaussian prior,
those of anomalies are pushed at least some standard deviations above it.
"""

from __future__ import annotations

import torch
from anomalib.models.components import TimmFeatureExtractor
from torch import nn

from shopfloor.detectors.building import DetectorError

_MARGIN = 5.0  # standard deviations of the prior
_PRIOR_DRAWS = 5000
_TOP_SHARE = 0.1


class TwoScaleFeatures(nn.Module):
    """One layer of a network that is trained end to end, of the image and of the image at half its size.

    Both sizes pass through the same layers, so the running statistics of the batch norm are updated twice per step.

    Args:
        backbone: timm name of the network.
        layer: Name of one of its stages.
        pre_trained: Whether the network is given ImageNet weights to start from.

    Attributes:
        channels: Channels of the layer.

    Raises:
        DetectorError: If the network has no such stage.
    """

    def __init__(self, backbone: str, layer: str, pre_trained: bool) -> None:
        super().__init__()
        self.extractor = TimmFeatureExtractor(backbone, [layer], pre_trained=pre_trained, requires_grad=True)
        if not self.extractor.layers:  # anomalib drops an unknown layer and goes on
            raise DetectorError(
                f"'{backbone}' has no layer '{layer}'. Name one of its stages, e.g. layer4 of a ResNet."
            )
        self.channels = self.extractor.out_dims[0]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Feature maps ``(B, C, h, w)`` of images ``(B, 3, H, W)`` and of every second of their pixels."""
        height, width = images.shape[-2:]
        halved = nn.functional.interpolate(images, (height // 2, width // 2), mode="nearest")
        full, half = (next(iter(self.extractor(scale).values())) for scale in (images, halved))
        return full, half


class PositionScore(nn.Module):
    """Scores each position of a feature map by a linear layer, and the map by its most deviating positions.

    Args:
        channels: Channels C of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scores ``(B,)``, 0 or above, of maps ``(B, C, h, w)``."""
        return top_k_score(self.score(features))


def top_k_score(scores: torch.Tensor) -> torch.Tensor:
    """Mean of the largest tenth of the absolute values of each map, of one value at least.

    Args:
        scores: Scores of the positions ``(B, 1, h, w)``, any range.

    Returns:
        Scores ``(B,)``, 0 or above.
    """
    positions = scores.abs().flatten(1)
    k = max(int(_TOP_SHARE * positions.shape[1]), 1)
    return positions.topk(k, dim=1).values.mean(dim=1)


class DeviationLoss(nn.Module):
    """Distance of normal scores from the mean of a Gaussian prior, and what anomalous ones lack to a margin above it.

    With d the number of the prior's standard deviations that a score is above its mean, a normal sample costs ``|d|``
    and an anomalous one ``max(0, 5 - d)``. Mean and standard deviation are estimated anew at each call, from 5000 draws
    of N(0, 1).

    Pang, Shen, van den Hengel: Deep Anomaly Detection with Deviation Networks, KDD 2019; specification of DevNet,
    section 5; specification of DRA, section 6.
    """

    def forward(
        self, scores: torch.Tensor, is_anomalous: torch.Tensor, prior: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean cost of the samples.

        Args:
            scores: Scores ``(B,)``, any range.
            is_anomalous: Labels ``(B,)``, bool.
            prior: Draws ``(n,)`` of the prior, at least 2; None draws 5000 new ones.

        Returns:
            The loss ``()``, 0 or above.

        Raises:
            ValueError: If labels and scores are of different shapes.
        """
        if scores.shape != is_anomalous.shape:  # they would be broadcast to all pairs
            raise ValueError(f"There are scores {tuple(scores.shape)} for labels {tuple(is_anomalous.shape)}.")
        scores = scores.float()
        prior = draw_prior(scores.device) if prior is None else prior
        deviation = (scores - prior.mean()) / prior.std()
        return torch.where(is_anomalous, (_MARGIN - deviation).clamp(min=0), deviation.abs()).mean()


def draw_prior(device: torch.device, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draws ``(5000,)`` of N(0, 1).

    Args:
        device: Where they are drawn.
        generator: Source of the randomness, on that device; torch's global one if None.
    """
    return torch.randn(_PRIOR_DRAWS, device=device, generator=generator)


def at_least_two(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Takes a single image twice, which leaves its loss as it is.

    Batch norm cannot be trained on a single value per channel, which is what one small image comes down to.

    Args:
        images: Images ``(B, 3, H, W)``.
        labels: Their labels ``(B,)``.

    Returns:
        Images and labels of the same shapes; with B = 2 where it was 1.
    """
    if len(images) > 1:
        return images, labels
    return images.repeat(2, 1, 1, 1), labels.repeat(2)
