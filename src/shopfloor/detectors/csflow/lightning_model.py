"""CS-Flow as a Lightning module."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from anomalib.data import Batch
from anomalib.models.image.csflow.lightning_model import Csflow as AnomalibCsflow
from anomalib.models.image.csflow.loss import CsFlowLoss

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.csflow.loss import PerImageLoss
from shopfloor.detectors.csflow.torch_model import CsflowModel

_LOSSES = {"batch": CsFlowLoss, "image": PerImageLoss}


class Csflow(AnomalibCsflow):
    """anomalib's ``Csflow`` with a choice of the network that gives the features.

    A frozen network describes the image at three sizes. A normalising flow, whose coupling blocks look across the three
    scales, learns to turn the features of good images into independent normal values. Features that were not seen on
    good images become large: half the mean square of all values is the score, and the mean squares over the channels
    of the three scales, multiplied, are the map.

    Paper: Rudolph et al., "Fully Convolutional Cross-Scale-Flows for Image-based Defect Detection", WACV 2022.
    Repository: marco-rudolph/cs-flow. Specification of the models taken from anomalib, sections 0 and 3.

    Deviations from the original, all anomalib's and the benchmark's: every image is given the log-determinant of its
    whole batch (``log_determinant``), so this term weighs as many times more as there are images in a batch; Adam with
    betas (0.5, 0.9) instead of (0.9, 0.999); each block has one order of the channels for all scales instead of one for
    each; the map is a product over all scales, where the original draws the finest one only; torchvision's
    EfficientNet-B5 and images of 256 pixels instead of 768.

    Args:
        backbone: ``torchvision/<model>.<weights>``, or a timm name without that prefix.
        layer: Layer of this network: a node of torchvision's graph, or a stage of timm's network.
        pre_trained: Whether the network is given ImageNet weights.
        cross_conv_hidden_channels: Hidden channels of the convolutions across the scales.
        n_coupling_blocks: Number of coupling blocks, at least 1.
        clamp: Bound of the coupling blocks' log-scales, up to a constant factor.
        log_determinant: ``batch``, anomalib's and the benchmark's, or ``image``, the original's (a deviation from the
            benchmark): what the loss takes for an image's log-determinant.
        **parts: As in anomalib.

    Raises:
        DetectorError: If these do not fit together, or the pre-processor does not resize the images.
    """

    model: CsflowModel

    def __init__(
        self,
        backbone: str = "torchvision/efficientnet_b5.IMAGENET1K_V1",
        layer: str = "features.6.8",
        pre_trained: bool = True,
        cross_conv_hidden_channels: int = 1024,
        n_coupling_blocks: int = 4,
        clamp: int = 3,
        log_determinant: str = "batch",
        **parts: Unpack[AnomalibParts],
    ) -> None:
        if log_determinant not in _LOSSES:
            raise DetectorError(f"log_determinant is {log_determinant!r}. Give one of: {', '.join(_LOSSES)}.")
        if n_coupling_blocks < 1:
            raise DetectorError(f"n_coupling_blocks is {n_coupling_blocks}, but must be 1 at least.")
        # Not anomalib's own constructor: it always asks torchvision for EfficientNet-B5 and its weights.
        super(AnomalibCsflow, self).__init__(**parts)
        if self.input_size is None:
            raise DetectorError("Csflow needs a pre-processor that resizes the images to a fixed size.")
        self.model = CsflowModel(
            backbone=backbone,
            layer=layer,
            input_size=self.input_size,
            pre_trained=pre_trained,
            cross_conv_hidden_channels=cross_conv_hidden_channels,
            n_coupling_blocks=n_coupling_blocks,
            clamp=clamp,
        )
        self.loss = _LOSSES[log_determinant]()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Takes the loss of a batch, as in anomalib, and logs its mean over the images of the epoch.

        Returns:
            Loss ``()``.
        """
        latent, log_determinant = self.model(batch.image)
        loss = self.loss(latent, log_determinant)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(log_determinant))
        return loss
