"""MSFlow as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from anomalib.data import Batch
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.msflow.loss import MsflowLoss
from shopfloor.detectors.msflow.schedule import learning_rate_factor
from shopfloor.detectors.msflow.torch_model import MsflowModel
from shopfloor.detectors.one_class_module import OneClassModule

_LEARNING_RATE = 1e-4
_GRADIENT_NORM = 2.0


class Msflow(OneClassModule):
    """Finds defects as features that are unlikely under normalising flows, one per scale and one across the scales.

    A frozen network describes good images at three scales. One flow per scale, told where in the image it is, and a
    last flow that lets the scales see each other, learn to turn these features into independent normal values. How far
    the likelihood of a place falls short of the image's best, summed over the scales, is the map.

    Paper: Zhou et al., "MSFlow: Multiscale Flow-Based Framework for Unsupervised Anomaly Detection", TNNLS 2024.
    Repository: cool-xuan/msflow. Specification of MSFlow, section 2 ff. Maps are relative to the best place of the same
    image, as specified, so pixel scores of different images are not on a common scale.

    Deviations from the public code: one additive map gives pixel scores and, unless ``score_map`` says otherwise, the
    image score, and the last epoch is taken, both as in the benchmark; the pre-processor resizes with antialiased
    bilinear interpolation instead of Lanczos; the schedule is scaled to the length of the training (the same at 100
    epochs).

    Args:
        backbone: timm name of the network.
        layers: Its layers, from fine to coarse.
        pre_trained: Whether the network is given ImageNet weights.
        blocks: Coupling blocks of each layer's parallel flow, 1 at least.
        padding: How the network's convolutions continue a map at the edges: ``reflect`` (public code) or ``zeros``.
        score_map: Map that the image score is taken from: ``additive`` (benchmark) or ``multiplicative`` (public code).
        **parts: As in anomalib.

    Raises:
        DetectorError: If these do not fit together, or the network lacks a layer.
    """

    model: MsflowModel

    def __init__(
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] = ("layer1", "layer2", "layer3"),
        pre_trained: bool = True,
        blocks: Sequence[int] = (2, 5, 8),
        padding: str = "reflect",
        score_map: str = "additive",
        **parts: Unpack[AnomalibParts],
    ) -> None:
        super().__init__(**parts)
        self.model = MsflowModel(
            backbone=backbone,
            layers=layers,
            pre_trained=pre_trained,
            blocks=blocks,
            padding=padding,
            score_map=score_map,
        )
        self.loss = MsflowLoss()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Takes the loss of a batch and logs its mean over the images of the epoch.

        Returns:
            Loss ``()``.
        """
        latents, log_determinant = self.model(batch.image)
        loss = self.loss(latents, log_determinant)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(log_determinant))
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam for all flows, its rate set once per epoch.

        Raises:
            DetectorError: If the training has no length in epochs.
        """
        max_epochs = self.trainer.max_epochs
        if max_epochs is None or max_epochs < 1:
            raise DetectorError(
                "The learning rate of MSFlow follows the length of the training in epochs. Give the trainer max_epochs."
            )
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: learning_rate_factor(epoch, max_epochs=max_epochs)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Gradients clipped by their norm, and no validation ahead of the training."""
        return {
            "gradient_clip_val": _GRADIENT_NORM,
            "gradient_clip_algorithm": "norm",
            "num_sanity_val_steps": 0,
        }
