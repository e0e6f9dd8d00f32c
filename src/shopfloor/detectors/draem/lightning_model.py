"""DRAEM as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import torch
from anomalib.data import Batch
from anomalib.models import Draem as AnomalibDraem
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.draem.loss import DraemLoss
from shopfloor.detectors.draem.synthetic_anomalies import SyntheticAnomalies, rotate_some
from shopfloor.detectors.draem.torch_model import DraemModel
from shopfloor.detectors.textures import stack_textures

_LEARNING_RATE = 1e-4
_DECAY = 0.2
_DECAY_AT = (0.8, 0.9)  # shares of the epochs
_REDUCTION = 32  # five poolings by 2


class Draem(AnomalibDraem):
    """anomalib's ``Draem``, trained and scored as in the original code.

    One network learns to paint good images from images with synthetic defects, another to find the defects by comparing
    image and painting. Zavrtanik, Kristan, Skocaj: DRAEM - A discriminatively trained reconstruction embedding for
    surface anomaly detection, ICCV 2021; https://github.com/VitjanZ/DRAEM; specification of anomalib's models,
    section 4.

    As in the original, unlike anomalib: loss, initialisation, learning rate x 0.2 at 80 % and 90 % of the epochs, image
    score from the averaged map, order of the two images given to the second network, rotated good images, masks and
    augmenters of the synthetic defects. As in anomalib, unlike the original: every image once per epoch.

    Args:
        texture_folder: Folder of texture images for the synthetic defects, e.g. the Describable Textures Dataset.
            Needed for training only, and not if :meth:`use_textures` is called. Nothing is downloaded.
        beta: Range ``(low, high]`` of the weight of the texture within a synthetic defect, within [0, 1].
        **parts: As in anomalib; the pre-processor gives square images of 64, 96, 128, ... pixels, not normalised.

    Raises:
        DetectorError: If the images are not square, smaller than 64 pixels, or no multiple of 32.
        ValueError: If ``beta`` is no such range.
    """

    def __init__(
        self,
        texture_folder: str | None = None,
        beta: Sequence[float] = (0.2, 1.0),
        **parts: Unpack[AnomalibParts],
    ) -> None:
        if len(beta) != 2 or not 0 <= beta[0] <= beta[1] <= 1:
            raise ValueError(f"beta must be two numbers, 0 <= low <= high <= 1, but is {beta}.")
        # Not anomalib's own constructor: it downloads textures.
        super(AnomalibDraem, self).__init__(**parts)
        if self.input_size is not None:
            _check_size(*self.input_size)
        self.texture_folder = texture_folder
        self.beta = beta
        self.synthetic_anomalies: SyntheticAnomalies | None = None
        self.model = DraemModel()
        self.loss = DraemLoss()
        self.sspcab = False  # anomalib's switch, which the original lacks

    def use_textures(self, textures: NDArray[np.uint8]) -> None:
        """Takes the textures for the synthetic defects, instead of those of ``texture_folder``.

        Args:
            textures: Textures ``(N, S, S, 3)``, RGB, uint8, for images S x S; may be a read-only memory map. They are
                no part of the state.

        Raises:
            DetectorError: If they have another form.
        """
        self.synthetic_anomalies = SyntheticAnomalies(textures, self.beta)

    def on_train_start(self) -> None:
        """Reads the textures, if they have not been given.

        Raises:
            DetectorError: If there are none.
            ValueError: If the pre-processor normalises (anomalib's check).
        """
        super().on_train_start()
        if self.synthetic_anomalies is not None:
            return
        if self.texture_folder is None:
            raise DetectorError(
                "TEXTURES_MISSING: Draem makes its synthetic defects from texture images and was given none. Name a "
                "folder of them: 'textures' in the detector's entry, or texture_folder of the class. The Describable "
                "Textures Dataset (https://www.robots.ox.ac.uk/~vgg/data/dtd/, research use) serves, or photographs of "
                "your own surfaces."
            )
        if self.input_size is None:
            raise DetectorError(
                "Draem cannot tell to which size the textures must be brought: its pre-processor resizes no image. "
                "Give it one that does, or the textures with use_textures."
            )
        self.use_textures(stack_textures(self.texture_folder, self.input_size[0]))

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Rotates some images, puts synthetic defects into some, and learns to repair and to find these.

        Returns:
            The loss ``()``.

        Raises:
            DetectorError: If the textures are of another size than the images.
        """
        assert self.synthetic_anomalies is not None  # set by on_train_start
        assert batch.image is not None
        images = rotate_some(batch.image)
        altered, masks = self.synthetic_anomalies(images)
        reconstruction, prediction = self.model(altered)
        loss = self.loss(images, reconstruction, masks, prediction)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:  # type: ignore[override]  # anomalib names the optimizer only
        """Adam, and a learning rate x 0.2 after 80 % and again after 90 % of the epochs.

        Raises:
            DetectorError: If the number of epochs is not set.
        """
        n_epochs = self.trainer.max_epochs
        if n_epochs is None or n_epochs < 1:
            raise DetectorError(
                "Draem lowers its learning rate after 80 % and 90 % of the epochs. Set their number: trainer: "
                "{max_epochs: 700}."
            )
        optimizer = torch.optim.Adam(self.model.parameters(), lr=_LEARNING_RATE)
        milestones = [round(share * n_epochs) for share in _DECAY_AT]
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=_DECAY)
        return [optimizer], [scheduler]


def _check_size(height: int, width: int) -> None:
    # At 32 pixels the smallest map is a single pixel, of which a batch of one image has no batch statistics.
    if height != width or height % _REDUCTION or height < 2 * _REDUCTION:
        raise DetectorError(
            f"Draem takes square images of 64, 96, 128, ... pixels (multiples of 32), but is set to {height} x {width}."
        )
