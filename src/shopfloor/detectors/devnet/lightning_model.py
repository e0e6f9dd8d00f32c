"""DevNet as a Lightning module."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.deviation import DeviationLoss, at_least_two
from shopfloor.detectors.devnet.rotation import rotate_each
from shopfloor.detectors.devnet.torch_model import DevNetModel
from shopfloor.detectors.image_score_evaluator import image_score_evaluator
from shopfloor.detectors.one_class_module import OneClassModule

_LEARNING_RATE = 2e-4
_WEIGHT_DECAY = 1e-5
_DECAY = 0.1
_DECAY_EVERY = 10  # epochs


class DevNet(OneClassModule):
    """Learns a score that is ordinary for normal images and deviates for a few labelled anomalies.

    A network is trained end to end. A linear layer scores the positions of its last map, the most deviating tenth of
    them scores the image, and the deviation loss compares that score with a Gaussian prior. It gives image scores only.

    Pang, Ding, Shen, van den Hengel: Explainable Deep Few-shot Anomaly Detection with Deviation Networks, 2021
    (arXiv 2108.00462); https://github.com/Choubo/deviation-network-image; specification of DevNet.

    It is meant for batches of 24 good and 24 bad images, 20 per epoch (the detector setting ``balance``), but takes
    any. Deviations from the public code: everything is seeded; a batch of a single image takes it twice; no maps, which
    the benchmark leaves out; no limit on the share of the anomalies that may be used.

    Args:
        backbone: timm name of the network.
        layer: Name of the stage whose positions are scored, as a rule the last.
        pre_trained: Whether the network is given ImageNet weights to start from.
        rotation: Whether each training image is rotated by a random angle.
        **parts: As in anomalib.

    Raises:
        DetectorError: If the network has no such stage.
    """

    model: DevNetModel

    def __init__(
        self,
        backbone: str = "resnet18.tv_in1k",
        layer: str = "layer4",
        pre_trained: bool = True,
        rotation: bool = True,
        **parts: Unpack[AnomalibParts],
    ) -> None:
        super().__init__(**parts)
        self.model = DevNetModel(backbone, layer, pre_trained)
        self.loss = DeviationLoss()
        self.rotation = rotation
        self._seen = {"good": 0, "bad": 0}

    def on_train_start(self) -> None:
        """Forgets which images an earlier training has seen."""
        self._seen = {"good": 0, "bad": 0}

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compares the scores of a batch with the prior.

        Returns:
            The loss ``()``.

        Raises:
            DetectorError: If the images come without labels.
        """
        if batch.gt_label is None:
            raise DetectorError("DevNet learns from labels, but the training images come without.")
        assert batch.image is not None
        is_bad = batch.gt_label.bool()
        n_bad = int(is_bad.sum())
        self._seen["bad"] += n_bad
        self._seen["good"] += len(is_bad) - n_bad
        images = rotate_each(batch.image, self._black()) if self.rotation else batch.image
        images, is_bad = at_least_two(images, is_bad)
        loss: torch.Tensor = self.loss(self.model(images), is_bad)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch.image))
        return loss

    def on_train_epoch_end(self) -> None:
        """Refuses to go on without both kinds of images.

        Raises:
            DetectorError: If there were only good or only bad images so far.
        """
        if all(self._seen.values()):
            return
        raise DetectorError(
            f"DevNet learns from good and from labelled bad images, but was given {self._seen['good']} good and "
            f"{self._seen['bad']} bad ones to train on. Choose a supervised condition, which moves bad images into the "
            "training part (the experiment 'supervised'), or a detector that learns from good images only."
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, and a tenth of the learning rate after every 10 epochs."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, _DECAY_EVERY, _DECAY)]

    @staticmethod
    def configure_evaluator() -> Evaluator:
        """anomalib's metrics of image scores; there are no maps for the others."""
        return image_score_evaluator()

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Gradients clipped to norm 1, and no validation ahead of the training."""
        return {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm", "num_sanity_val_steps": 0}

    def _black(self) -> list[float]:
        """What the pre-processor makes of a black pixel, one value per channel."""
        transform = getattr(self.pre_processor, "transform", None)
        black = torch.zeros(3, 1, 1)
        return (black if transform is None else transform(black))[:, 0, 0].tolist()
