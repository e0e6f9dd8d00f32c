"""Reverse Distillation as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from anomalib.data import Batch
from anomalib.models.image.reverse_distillation.lightning_model import (
    ReverseDistillation as AnomalibReverseDistillation,
)
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.reverse_distillation.torch_model import ReverseDistillationModel


class ReverseDistillation(AnomalibReverseDistillation):
    """anomalib's ``ReverseDistillation`` with the encoder's weights named by their timm tag.

    A frozen encoder describes the image at three scales. A bottleneck presses this into one small map, and a decoder,
    the encoder's mirror image, learns to give the encoder's features back from it. It learns that on good images only,
    so where a defect is, the two disagree: one minus their cosine is the anomaly map, its maximum the score.

    Paper: Deng & Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022. Repository:
    hq-deng/RD4AD. Specification of the models taken from anomalib, sections 0 and 2.

    Deviations from the original, all anomalib's and the benchmark's: bottleneck of width 64 instead of 128
    (``bottleneck_width``), Adam with betas (0.5, 0.99) instead of (0.5, 0.999), maps smoothed with their edges mirrored
    without the edge pixel.

    Args:
        backbone: timm name of a ResNet. Without a tag timm chooses the weights, for ``wide_resnet50_2`` not those of
            the paper.
        layers: Its first three stages; the method takes no others.
        pre_trained: Whether the encoder is given ImageNet weights.
        bottleneck_width: Width of the bottleneck's blocks: 64, anomalib's, or 128, the original's (not for
            ``resnet18`` and ``resnet34``).
        **parts: As in anomalib.

    Raises:
        DetectorError: If these do not fit together, or the pre-processor does not resize the images.
    """

    model: ReverseDistillationModel

    def __init__(
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] = ("layer1", "layer2", "layer3"),
        pre_trained: bool = True,
        bottleneck_width: int = 64,
        **parts: Unpack[AnomalibParts],
    ) -> None:
        # Not anomalib's own constructor: it would build its own network first.
        super(AnomalibReverseDistillation, self).__init__(**parts)
        if self.input_size is None:
            raise DetectorError("ReverseDistillation needs a pre-processor that resizes the images to a fixed size.")
        self.model = ReverseDistillationModel(
            backbone=backbone,
            layers=layers,
            input_size=self.input_size,
            pre_trained=pre_trained,
            bottleneck_width=bottleneck_width,
        )
        self.loss = ReverseDistillationLoss()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Takes the loss of a batch, as in anomalib, and logs its mean over the images of the epoch.

        Returns:
            Loss ``()``.
        """
        encoder_features, decoder_features = self.model(batch.image)
        loss = self.loss(encoder_features, decoder_features)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(encoder_features[0]))
        return loss
