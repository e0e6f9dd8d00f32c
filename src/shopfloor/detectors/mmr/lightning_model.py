"""MMR as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from anomalib.data import ImageBatch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.optim import param_groups_weight_decay
from torch import nn

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.mmr.augmentation import Augmentation
from shopfloor.detectors.mmr.loss import MmrLoss
from shopfloor.detectors.mmr.schedule import learning_rate_factor
from shopfloor.detectors.mmr.torch_model import MmrModel
from shopfloor.detectors.one_class_module import OneClassModule

# Specification of MMR, section 5.
_LEARNING_RATE = 1e-3
_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.05


class Mmr(OneClassModule):
    """Masked multi-scale reconstruction: from a part of an image, a student guesses the features of all of it.

    A frozen network describes the image at three scales. The student, the encoder of a masked auto-encoder with a
    simple feature pyramid on top, is shown good images with four of ten patches left out and learns to give these
    descriptions, also where it saw nothing; so it learns how the parts of a good image go together. In a test it sees
    the whole image. Where a defect is, its guess points elsewhere than the frozen network's description: one minus
    their cosine, added over the scales and smoothed, is the anomaly map, and its maximum the score.

    Paper: Zhang et al., "Industrial anomaly detection with domain shift: A real-world dataset and masked multi-scale
    reconstruction", Computers in Industry 2023. Repository: zhangzilongc/MMR. Written from the specification of MMR.

    Deviations from the original: images of S x S pixels are cropped and enlarged to S x S again in training, after the
    normalisation, and are not cropped in a test (section 7); the student sees the patches in their order in a test
    (section 4.2); warm-up and drops of the learning rate scale with a length other than 200 epochs. Weights of the
    encoder are up to the settings: the original's are not those of the default's tag (section 4.5).

    Args:
        backbone: timm name of the frozen target network.
        layers: Its layers, in their order in the network; their strides must be the encoder's patch size, a half or a
            quarter of it.
        pre_trained: Whether the target network is given ImageNet weights.
        encoder: timm name of the vision transformer that the student begins with.
        encoder_pre_trained: Whether the vision transformer is given its pretrained weights.
        mask_ratio: Part of the patches that is masked in training, from 0 up to, but not, 1.
        augmentation: Whether training images are cropped and flipped at random.
        **parts: As in anomalib.

    Raises:
        DetectorError: If these do not fit together, or the pre-processor does not resize the images.
    """

    model: MmrModel

    def __init__(
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] = ("layer1", "layer2", "layer3"),
        pre_trained: bool = True,
        encoder: str = "vit_base_patch16_224.mae",
        encoder_pre_trained: bool = True,
        mask_ratio: float = 0.4,
        augmentation: bool = True,
        **parts: Unpack[AnomalibParts],
    ) -> None:
        super().__init__(**parts)
        if self.input_size is None:
            raise DetectorError("Mmr needs a pre-processor that resizes the images to a fixed size.")
        self.model = MmrModel(
            backbone=backbone,
            layers=layers,
            encoder=encoder,
            input_size=self.input_size,
            pre_trained=pre_trained,
            encoder_pre_trained=encoder_pre_trained,
            mask_ratio=mask_ratio,
        )
        self.augmentation = Augmentation() if augmentation else nn.Identity()
        self.loss = MmrLoss()

    def training_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Augments a batch, shows it to both networks and compares what they make of it.

        Returns:
            Loss ``()``.
        """
        loss = self.loss(*self.model(self.augmentation(batch.image)))
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=batch.batch_size)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW for the student, without decay of biases and norms, its rate set once per epoch.

        Raises:
            DetectorError: If the training has no length in epochs.
        """
        max_epochs = self.trainer.max_epochs
        if max_epochs is None or max_epochs < 1:
            raise DetectorError(
                "The learning rate of MMR follows the length of the training in epochs. Give the trainer max_epochs."
            )
        groups = param_groups_weight_decay(self.model.student, _WEIGHT_DECAY)
        optimizer = torch.optim.AdamW(groups, lr=_LEARNING_RATE, betas=_BETAS)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: learning_rate_factor(epoch, max_epochs=max_epochs)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No validation ahead of the training."""
        return {"num_sanity_val_steps": 0}
