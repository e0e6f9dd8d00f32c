"""Networks of SimpleNet: a frozen backbone, an adaptor of its patch features, and a discriminator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from anomalib.data import InferenceBatch
from anomalib.models.components import TimmFeatureExtractor
from torch import nn

from shopfloor.detectors.patch_descriptors import describe_patches
from shopfloor.detectors.simplenet.anomaly_map import AnomalyMapGenerator

_HIDDEN_SIZE = 1024
_NEGATIVE_SLOPE = 0.2


class SimpleNetModel(nn.Module):
    """Patch features, adapted, and a discriminator of them: the larger its output, the more normal the patch.

    Args:
        layers: Names of the backbone's layers; the first of them in the network gives the grid of the patches.
        backbone: timm name of the backbone.
        pre_trained: Whether the backbone is given ImageNet weights.
        embedding_size: Entries of a patch's feature vector, before and after the adaptor.
        noise_std: Standard deviation of the noise added to adapted features.
    """

    def __init__(
        self,
        layers: Sequence[str],
        backbone: str,
        pre_trained: bool = True,
        embedding_size: int = 1536,
        noise_std: float = 0.015,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.noise_std = noise_std
        self.feature_extractor = TimmFeatureExtractor(backbone=backbone, layers=layers, pre_trained=pre_trained)
        self.feature_extractor.eval().requires_grad_(False)
        self.adaptor = nn.Linear(embedding_size, embedding_size)
        self.discriminator = nn.Sequential(
            nn.Linear(embedding_size, _HIDDEN_SIZE),
            nn.BatchNorm1d(_HIDDEN_SIZE),
            nn.LeakyReLU(_NEGATIVE_SLOPE),
            nn.Linear(_HIDDEN_SIZE, 1, bias=False),
        )
        for part in (self.adaptor, *self.discriminator):
            if isinstance(part, nn.Linear):
                nn.init.xavier_normal_(part.weight)
        self.anomaly_map_generator = AnomalyMapGenerator()

    def train(self, mode: bool = True) -> SimpleNetModel:
        """Switches adaptor and discriminator between training and evaluation; the backbone stays in evaluation.

        Args:
            mode: True for training.

        Returns:
            The model itself.
        """
        super().train(mode)
        self.feature_extractor.eval()
        return self

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | InferenceBatch:
        """Judges a training batch ``(B, 3, H, W)`` without and with noise, or scores a test batch.

        Returns:
            In training the discriminator's output for all normal patches ``(N,)`` and for the same patches with noise
            ``(N,)``, any range. Otherwise scores ``(B,)``, the maximum over the patches, and maps ``(B, 1, H, W)``, any
            range, higher is worse.
        """
        descriptors = self.describe(images)
        adapted = self.adaptor(_as_rows(descriptors))
        if self.training:
            return self._discriminate(adapted)
        grid = (len(descriptors), 1, *descriptors.shape[2:])
        patch_scores = -self.discriminator(adapted).reshape(grid)
        anomaly_map = self.anomaly_map_generator(patch_scores, images.shape[2:])
        return InferenceBatch(pred_score=patch_scores.amax((1, 2, 3)), anomaly_map=anomaly_map)

    @torch.no_grad()
    def describe(self, images: torch.Tensor) -> torch.Tensor:
        """Patch features of images ``(B, 3, H, W)``, before the adaptor.

        Returns:
            Features ``(B, embedding_size, h, w)`` without gradient, any range.
        """
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)  # faster, as in PatchcoreModel
        levels = list(self.feature_extractor(images).values())
        return describe_patches(levels, level_size=self.embedding_size, target_size=self.embedding_size)

    def _discriminate(self, adapted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        noisy = adapted + self.noise_std * torch.randn_like(adapted)
        # In one pass, so that the batch normalisation takes its statistics over both.
        normal_output, noisy_output = self.discriminator(torch.cat([adapted, noisy])).squeeze(1).chunk(2)
        return normal_output, noisy_output


def _as_rows(maps: torch.Tensor) -> torch.Tensor:
    """One row per patch ``(B * h * w, D)``, image by image, each row by row."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)
