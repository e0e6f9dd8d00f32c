"""The feature classifier as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.feature_classifier.torch_model import FeatureClassifierModel
from shopfloor.detectors.image_score_evaluator import image_score_evaluator
from shopfloor.detectors.one_class_module import OneClassModule


class FeatureClassifier(OneClassModule):
    """Tells bad images from good ones by a logistic regression on pooled features of a frozen network.

    The simplest way to use labelled bad images, as a yardstick for detectors that are trained with them. It gives image
    scores only. Nothing in it is random: seeds differ by the images drawn and, in the last digits, by their order.

    Args:
        backbone: timm name of the network.
        layers: Its layers; global mean and global maximum of each are the features.
        pre_trained: Whether the network is given ImageNet weights.
        regularisation: scikit-learn's C, above 0: the smaller, the stronger the pull of the coefficients to zero.
        **parts: As in anomalib.
    """

    model: FeatureClassifierModel

    def __init__(
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] = ("layer2", "layer3", "layer4"),
        pre_trained: bool = True,
        regularisation: float = 1.0,
        **parts: Unpack[AnomalibParts],
    ) -> None:
        if not regularisation > 0:
            raise ValueError(f"regularisation must be above 0, but is {regularisation}.")
        super().__init__(**parts)
        self.model = FeatureClassifierModel(layers=layers, backbone=backbone, pre_trained=pre_trained)
        self.regularisation = regularisation
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # features and labels of each batch of this epoch

    def on_train_epoch_start(self) -> None:
        """Forgets the features of an earlier epoch, or of a training that was broken off."""
        self._seen.clear()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Keeps features and labels of a batch.

        Returns:
            A loss of zero, which Lightning asks for.

        Raises:
            DetectorError: If the images come without labels.
        """
        if batch.gt_label is None:
            raise DetectorError("FeatureClassifier learns from labels, but the training images come without.")
        self._seen.append((self.model(batch.image).cpu(), batch.gt_label.bool().cpu()))
        return torch.tensor(0.0, requires_grad=True, device=self.device)

    def on_train_epoch_end(self) -> None:
        """Learns the classifier."""
        self.fit()

    def on_validation_start(self) -> None:
        """Learns the classifier from what it has seen so far: Lightning validates before a training epoch ends."""
        if self._seen:
            self.fit()

    def fit(self) -> None:
        """Learns the classifier from the training images of this epoch.

        Raises:
            DetectorError: If these are not both good and bad images.
        """
        features, is_bad = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        n_bad, n_good = int(is_bad.sum()), int((~is_bad).sum())
        if not (n_bad and n_good):
            raise DetectorError(
                f"FeatureClassifier learns from good and from labelled bad images, but was given {n_good} good and "
                f"{n_bad} bad ones to train on. Choose a supervised condition, which moves bad images into the "
                "training part (the experiment 'supervised'), or a detector that learns from good images only."
            )
        self.model.fit(features, is_bad, self.regularisation)

    @staticmethod
    def configure_optimizers() -> None:
        """None: the classifier is not learned by steps."""

    @staticmethod
    def configure_evaluator() -> Evaluator:
        """anomalib's metrics of image scores; there are no maps for the others."""
        return image_score_evaluator()

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """One epoch on one device, and no validation ahead of it."""
        return {"max_epochs": 1, "num_sanity_val_steps": 0, "devices": 1}
