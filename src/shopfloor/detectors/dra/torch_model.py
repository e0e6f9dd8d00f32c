"""DRA's network: a trained backbone, four heads, and the reference images it predicts with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from anomalib.data import InferenceBatch
from anomalib.models.components.base.dynamic_buffer import DynamicBufferMixin
from torch import nn
from torchvision.transforms.v2.functional import to_dtype

from shopfloor.detectors.balanced_batches import EndlessPermutations
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.deviation import PositionScore, TwoScaleFeatures
from shopfloor.detectors.dra.pseudo_anomalies import draw_references

#: Kinds of training images.
NORMAL, LABELLED, PSEUDO = 0, 1, 2
#: Reference images per batch.
N_REFERENCES = 5

_HIDDEN = 256
_PREDICTION_SEED = 0


class HeadScores(NamedTuple):
    """Scores of the heads, 0 or above, each a mean over the two scales.

    Attributes:
        holistic: How normal the whole image is ``(B,)``.
        seen: How much it resembles the labelled anomalies ``(B,)``; in training without the pseudo anomalies.
        pseudo: How much it resembles the pseudo anomalies ``(B,)``; in training without the labelled ones.
        composite: How much it differs from the references ``(B,)``.
    """

    holistic: torch.Tensor
    seen: torch.Tensor
    pseudo: torch.Tensor
    composite: torch.Tensor


class HolisticHead(nn.Module):
    """Normality of the whole image, from the mean of its features.

    Args:
        channels: Channels C of the feature map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scores ``(B,)``, 0 or above, of feature maps ``(B, C, h, w)``."""
        return self.layers(features.mean(dim=(2, 3))).abs().squeeze(1)


class CompositeHead(nn.Module):
    """Abnormality of what is left of an image when the mean of the references is taken away.

    Args:
        channels: Channels C of the feature map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.position_score = PositionScore(channels)

    def forward(self, features: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Scores ``(B,)``, 0 or above, of feature maps ``(B, C, h, w)``, given ``(R, C, h, w)`` of references."""
        return self.position_score(self.layers(references.mean(dim=0) - features))


class DraModel(DynamicBufferMixin, nn.Module):
    """Four heads on a trained network at two scales (specification of DRA, sections 5 and 8).

    References for prediction are part of the state: ``reference_pool`` ``(P, 3, S, S)``, uint8, with the ``mean`` and
    ``std`` ``(3,)`` they are normalised with. Each test batch draws five of the pool, half of them altered like pseudo
    anomalies, from a random stream of the model's own. The stream starts again at each call of :meth:`eval`, which is
    how Lightning begins any prediction, so a prediction can be repeated. With ``normal_references`` the pool is the
    five references, and nothing is drawn.

    Args:
        backbone: timm name of the network.
        layer: Name of the stage the heads are put on.
        pre_trained: Whether the network is given ImageNet weights to start from.
        normal_references: Whether references are unaltered normal images, always the same in prediction.

    Raises:
        DetectorError: If the network has no such stage.
    """

    reference_pool: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: str, layer: str, pre_trained: bool = True, normal_references: bool = False) -> None:
        super().__init__()
        self.features = TwoScaleFeatures(backbone, layer, pre_trained)
        channels = self.features.channels
        self.holistic = HolisticHead(channels)
        self.seen = PositionScore(channels)
        self.pseudo = PositionScore(channels)
        self.composite = CompositeHead(channels)
        self.normal_references = normal_references
        self.register_buffer("reference_pool", torch.empty(0, 3, 1, 1, dtype=torch.uint8))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))
        self._restart_references()

    def forward(
        self, images: torch.Tensor, references: torch.Tensor | None = None, kinds: torch.Tensor | None = None
    ) -> HeadScores | InferenceBatch:
        """Scores images ``(B, 3, H, W)``.

        Args:
            images: Normalised images.
            references: Normalised references ``(R, 3, H, W)``; None draws those of the next test batch.
            kinds: Kind of each image ``(B,)``: 0 normal, 1 labelled anomaly, 2 pseudo anomaly. Training only.

        Returns:
            In training the scores of the heads, otherwise the score ``(B,)`` of each image, any range.

        Raises:
            DetectorError: If references are needed and the model has none.
        """
        references = self.next_references() if references is None else references
        scores = self.head_scores(images, references, kinds if self.training else None)
        if self.training:
            return scores
        return InferenceBatch(pred_score=scores.seen + scores.pseudo + scores.composite - scores.holistic)

    def head_scores(
        self, images: torch.Tensor, references: torch.Tensor, kinds: torch.Tensor | None = None
    ) -> HeadScores:
        """Scores of the four heads; with ``kinds`` each head leaves out the images it does not learn from."""
        both = torch.cat([references, images])  # in training they share their batch statistics
        scales = [self._scores_of_scale(maps, len(references), kinds) for maps in self.features(both)]
        return HeadScores(*(torch.stack(head).mean(dim=0) for head in zip(*scales, strict=True)))

    def _scores_of_scale(self, maps: torch.Tensor, n_references: int, kinds: torch.Tensor | None) -> HeadScores:
        references, features = maps[:n_references], maps[n_references:]
        without_pseudo, without_labelled = (
            features if kinds is None else features[kinds != kind] for kind in (PSEUDO, LABELLED)
        )
        return HeadScores(
            holistic=self.holistic(features),
            seen=self.seen(without_pseudo),
            pseudo=self.pseudo(without_labelled),
            composite=self.composite(features, references),
        )

    def set_references(self, pool: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Takes the images that references for prediction are drawn from.

        Args:
            pool: Normal images ``(P, 3, S, S)``, uint8.
            mean: Mean per channel ``(3,)`` of the normalisation of images in [0, 1].
            std: Standard deviation per channel ``(3,)``.
        """
        device = self.mean.device
        self.reference_pool, self.mean, self.std = pool.to(device), mean.to(device), std.to(device)
        self._restart_references()

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``(B, 3, H, W)``, uint8, as the network wants them, on its device."""
        scaled = to_dtype(images.to(self.mean.device), torch.float32, scale=True)
        return (scaled - self.mean[:, None, None]) / self.std[:, None, None]

    def next_references(self) -> torch.Tensor:
        """Normalised references of the next test batch ``(5, 3, S, S)``.

        Raises:
            DetectorError: If the model has none.
        """
        if not len(self.reference_pool):
            raise DetectorError("Dra has no reference images yet: train it or load a checkpoint before it predicts.")
        if self.normal_references:
            return self.normalised(self.reference_pool)
        with self._own_randomness():
            drawn = draw_references(self.reference_pool, self._reference_rows, N_REFERENCES, normal_only=False)
        return self.normalised(drawn)

    def train(self, mode: bool = True) -> DraModel:
        """Changes between training and evaluation, and starts the stream of references again."""
        super().train(mode)
        self._restart_references()
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._restart_references()

    def _restart_references(self) -> None:
        self._random_state = torch.Generator().manual_seed(_PREDICTION_SEED).get_state()
        self._reference_rows = EndlessPermutations(range(max(len(self.reference_pool), 1)))

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """While open, torch's global generator on the CPU is the model's own; others find theirs as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random_state)
            yield
            self._random_state = torch.get_rng_state()
