"""InReaCh as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from anomalib.data import Batch

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.inreach.positions import asymmetry
from shopfloor.detectors.inreach.torch_model import InReaChModel
from shopfloor.detectors.one_class_module import OneClassModule
from shopfloor.detectors.pre_processing import normalisation_of

# Block 0 of the third stage is left out, as in the public code.
_LAYERS = (
    *("layer1.0", "layer1.1", "layer1.2"),
    *("layer2.0", "layer2.1", "layer2.2", "layer2.3"),
    *("layer3.1", "layer3.2", "layer3.3", "layer3.4", "layer3.5"),
    "layer4.0",
)


class InReaCh(OneClassModule):
    """Keeps the patches that unlabelled training images have in common, and scores others by their distance to these.

    The first ``assoc_depth`` images are seeds. A patch of another image joins the channel of the seed patch that is
    nearest to it, if the two are nearest to each other. What is on many images makes long channels; defects and other
    things seen once do not. Channels that are long and narrow enough are the memory bank. Labels are never read.

    Paper: McIntosh and Albu, "Inter-Realization Channels: Unsupervised Anomaly Detection in Images Beyond One-Class
    Classification", ICCV 2023. Public code: github.com/DeclanMcIntosh/InReaCh. Written from the specification of
    InReaCh, of which sections 3 to 7 are the method.

    Deviations from the public code: images of 256 x 256 pixels without a crop, in RGB with ImageNet's normalisation
    (section 10); fewer seeds if there are fewer images. The seeds are the first images to arrive in the training epoch:
    in Shopfloor those of a seeded shuffle, so nothing ensures that they are good ones (section 9).

    Args:
        backbone: timm name of the network.
        layers: Names of its blocks; the grid of the first is that of the patches.
        pre_trained: Whether the network is given ImageNet weights.
        image_statistics: Whether batch normalisation takes the statistics of the single image, as in the public code;
            otherwise those of ImageNet.
        pretrain_dimension: Entries that the neighbourhoods in each layer are pooled to.
        target_dimension: Entries of a descriptor, position aside.
        assoc_depth: Number of seeds, at least 1.
        min_channel_length: A channel needs more members than this, at least 1.
        max_channel_std: Largest distance of a member from the mean of its channel, in standard deviations of these
            distances, above 0.
        exchange_indices: Whether the two patches of an association change places when channels are built: the
            public code does so, against the method's definition (section 5).
        positional_threshold: Positions become part of the descriptors if the mean training image differs from its
            transpose by this mean square or more, in units of 0 to 255.
        positional_weight: Size of the entries that tell the position.
        filter_sigma: Standard deviation of the Gaussian that smooths the map, in pixels, above 0.
        **parts: As in anomalib.

    Raises:
        ValueError: If a number is outside its range.
    """

    model: InReaChModel

    def __init__(  # noqa: PLR0913, PLR0917 (the method's parameters)
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] = _LAYERS,
        pre_trained: bool = True,
        image_statistics: bool = True,
        pretrain_dimension: int = 1024,
        target_dimension: int = 1024,
        assoc_depth: int = 10,
        min_channel_length: int = 3,
        max_channel_std: float = 5.0,
        exchange_indices: bool = True,
        positional_threshold: float = 1000.0,
        positional_weight: float = 5.0,
        filter_sigma: float = 13.0,
        **parts: Unpack[AnomalibParts],
    ) -> None:
        for name, value in (("assoc_depth", assoc_depth), ("min_channel_length", min_channel_length)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}.")
        for name, width in (("max_channel_std", max_channel_std), ("filter_sigma", filter_sigma)):
            if not width > 0:
                raise ValueError(f"{name} must be above 0, but is {width}.")
        super().__init__(**parts)
        self.model = InReaChModel(
            layers=layers,
            backbone=backbone,
            pre_trained=pre_trained,
            image_statistics=image_statistics,
            pretrain_dimension=pretrain_dimension,
            target_dimension=target_dimension,
            positional_weight=positional_weight,
            filter_sigma=filter_sigma,
        )
        self.assoc_depth = assoc_depth
        self.min_channel_length = min_channel_length
        self.max_channel_std = max_channel_std
        self.exchange_indices = exchange_indices
        self.positional_threshold = positional_threshold
        self._forget()

    def _forget(self) -> None:
        self._seen: list[torch.Tensor] = []  # descriptors of each image of this epoch, in the order of arrival
        self._image_sum = torch.zeros((), dtype=torch.float64)

    def on_train_epoch_start(self) -> None:
        """Forgets the images of an earlier epoch, or of a training that was broken off."""
        self._forget()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Keeps the descriptors of a batch, and what the mean image needs; labels are not read.

        Returns:
            A loss of zero, which Lightning asks for.
        """
        assert batch.image is not None
        self._seen.extend(self.model(batch.image).cpu())
        self._image_sum = self._image_sum + batch.image.sum(0, dtype=torch.float64).cpu()
        return torch.tensor(0.0, requires_grad=True, device=self.device)

    def on_train_epoch_end(self) -> None:
        """Selects the memory bank."""
        if self._seen:
            self.fit()

    def on_validation_start(self) -> None:
        """Selects the memory bank of what it has seen so far: Lightning validates before a training epoch ends.

        Within an epoch it keeps the images for the next selection, which takes memory for the bank besides.
        """
        if self._seen:
            self.fit(keep=not self.trainer.is_last_batch)

    def fit(self, keep: bool = False) -> None:
        """Selects the memory bank out of the training images of this epoch.

        Args:
            keep: Whether more images of the epoch may come. Otherwise the bank takes over the memory of these.

        Raises:
            DetectorError: If these have not enough in common, or are not square.
        """
        positional = asymmetry(self._mean_image()) >= self.positional_threshold
        seen = self._seen
        if keep:
            seen = seen.copy()  # the model empties the list, and leaves the tensors in it as they are
        else:
            self._forget()
        self.model.fit(
            seen,
            positional,
            self.assoc_depth,
            self.min_channel_length,
            self.max_channel_std,
            self.exchange_indices,
        )

    def _mean_image(self) -> torch.Tensor:
        """Mean training image ``(3, S, S)`` in 0 to 255, float64: the mean of the normalised ones, with that undone."""
        mean_image = self._image_sum / len(self._seen)
        if mean_image.shape[1] != mean_image.shape[2]:
            height, width = mean_image.shape[1:]
            raise DetectorError(f"InReaCh needs square images, but these have {width} x {height} pixels.")
        mean, std = (
            torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)
            for values in normalisation_of(self.pre_processor)
        )
        return 255 * (mean_image * std + mean)

    @staticmethod
    def configure_optimizers() -> None:
        """None: nothing is trained."""

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """One epoch on one device, and no validation ahead of it."""
        return {"max_epochs": 1, "num_sanity_val_steps": 0, "devices": 1}
