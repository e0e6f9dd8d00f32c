"""GLASS as a Lightning module."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import torch
from anomalib.data import Batch
from anomalib.models.image.glass.lightning_model import Glass as AnomalibGlass
from torch import nn
from torch.nn import functional

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.batch_norm import show_ones
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.glass.spectrum import HYPERSPHERE, MANIFOLD, measure_points, strong_frequencies
from shopfloor.detectors.glass.torch_model import GlassModel
from shopfloor.detectors.textures import stack_textures

_SPECTRUM = "spectrum"
_logger = logging.getLogger(__name__)


class Glass(AnomalibGlass):
    """anomalib's ``Glass``, brought close to the original code, with foreground masks and without downloads.

    A discriminator learns to tell patch features of good images, adapted by a linear layer, from two kinds of synthetic
    anomalies. Global ones are good features with noise, moved by gradient ascent to where the discriminator takes them
    for normal, but not nearer to the normal ones than a given distance. Local ones are features of images into which
    textures were pasted. The largest output of a patch is the score.

    Paper: Chen et al., "A Unified Anomaly Synthesis Strategy with Gradient Ascent for Industrial Anomaly Detection and
    Localization", ECCV 2024. Repository: cqylunlun/GLASS. Specification of the models taken from anomalib, section 5.

    Unlike anomalib, as in the original: the weights of the backbone and the statistics of its batch norms, the first
    weights of the discriminator, the radius without gradient, the centre of normalised images (anomalib's are not),
    mask combinations, blending weights, crop and alterations of the textures, the choice of distribution, epochs of a
    bounded number of images. The backbone is always frozen. Deviations from the original:

    - the distribution is chosen by the spectrum test for every product, not read from a file for known ones;
    - the model of the last epoch is kept, not the one that is best on the test images;
    - a mask is redrawn a hundred times at most; then the foreground of this image is disregarded;
    - textures are cropped before they are altered, not after it;
    - the training images pass through the frozen backbone once, when the training starts, to give the centre of every
      epoch; where a data module alters them at random, it is the centre of that one pass.

    Lightning counts the step of each optimiser: ``max_steps`` is twice the number of batches.

    Args:
        backbone: timm name of the network.
        layers: Its layers; the first of them in the network gives the grid of the patches.
        pre_trained: Whether the network is given ImageNet weights. It is frozen in any case.
        texture_folder: Folder of texture images, of which synthetic defects are made, read when the training starts;
            None where :meth:`use_textures` gives them. Prediction needs none.
        distribution: Where normal features are thought to lie: ``manifold``, ``hypersphere``, or ``spectrum``, which
            decides between the two by the training images.
        pretrain_embed_dim: Entries that the neighbourhood of a patch is reduced to, per layer.
        target_embed_dim: Entries of a patch's feature vector, before and after the adaptor.
        discriminator_hidden: Width of the discriminator's hidden layer.
        learning_rate: Of the adaptor; the discriminator's is twice as large.
        step: Steps of gradient ascent, 0 or above.
        gaussian_noise_std: Standard deviation of the noise that the ascent starts from.
        radius_quantile: Quantile of the normal distances to the centre that is the hypersphere's radius.
        focal_loss_quantile_threshold: Share of the patches that the focal loss leaves out as too easy.
        mining: Whether there is gradient ascent at all.
        images_per_epoch: The first batch with which an epoch has seen more images than this is its last one; None for
            no such end. Only with a data module, and where the trainer's ``limit_train_batches`` says nothing else.
        batch_norm_sees_ones: Whether one image of ones passes through the backbone in training mode before all else, as
            in the original (:func:`shopfloor.detectors.batch_norm.show_ones`).
        **parts: As in anomalib.

    Attributes:
        chosen_distribution: ``manifold`` or ``hypersphere``, from the start of the training on; None before.

    Raises:
        DetectorError: If there is no such distribution or no layer, or the size of the image of ones is not known.
    """

    model: GlassModel

    def __init__(  # noqa: PLR0913, PLR0917 (anomalib's arguments)
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] = ("layer2", "layer3"),
        pre_trained: bool = True,
        texture_folder: str | None = None,
        distribution: str = _SPECTRUM,
        pretrain_embed_dim: int = 1536,
        target_embed_dim: int = 1536,
        discriminator_hidden: int = 1024,
        learning_rate: float = 0.0001,
        step: int = 20,
        gaussian_noise_std: float = 0.015,
        radius_quantile: float = 0.75,
        focal_loss_quantile_threshold: float = 0.5,
        mining: bool = True,
        images_per_epoch: int | None = 392,
        batch_norm_sees_ones: bool = True,
        **parts: Unpack[AnomalibParts],
    ) -> None:
        _check_arguments(distribution, layers)
        # Not anomalib's own constructor: it would build its own network, and download textures.
        super(AnomalibGlass, self).__init__(**parts)
        mean, std = self._extract_normalize_params()
        self.model = GlassModel(
            layers=layers,
            backbone=backbone,
            pre_trained=pre_trained,
            pretrain_embed_dim=pretrain_embed_dim,
            target_embed_dim=target_embed_dim,
            discriminator_hidden=discriminator_hidden,
            step=step,
            gaussian_noise_std=gaussian_noise_std,
            radius_quantile=radius_quantile,
            focal_loss_quantile_threshold=focal_loss_quantile_threshold,
            mining=mining,
            normalize_mean=mean or [0.0] * 3,
            normalize_std=std or [1.0] * 3,
        )
        if batch_norm_sees_ones:
            self._show_ones()
        self.texture_folder = texture_folder
        self.images_per_epoch = images_per_epoch
        self.distribution = distribution
        self.chosen_distribution: str | None = None
        self.learning_rate = learning_rate
        # By these anomalib chooses the optimisers; it would train the backbone if it took it for untrained.
        self.pre_trained = True
        self.pre_projection = self.model.pre_projection
        self.automatic_optimization = False  # Lightning's own goes with one optimiser only

    def use_textures(self, textures: np.ndarray) -> None:
        """Takes textures for the training, in place of those of ``texture_folder``.

        Args:
            textures: Textures ``(N, H, W, 3)``, uint8, of the size of the prepared images; maybe a read-only memory
                map, which is read one texture at a time.

        Raises:
            DetectorError: If they are of another form.
        """
        if textures.ndim != 4 or textures.shape[3] != 3 or not len(textures) or textures.dtype != np.uint8:
            raise DetectorError(
                f"Glass was given textures of shape {textures.shape} and type {textures.dtype}. Give an array "
                "(N, H, W, 3) of uint8 with one texture at least."
            )
        self.model.augmentor.textures = textures

    def on_fit_start(self) -> None:
        """Tells the trainer after how many batches an epoch ends."""
        batch_size = getattr(self._training_loader(), "batch_size", None)
        limit = self.trainer.limit_train_batches
        if self.images_per_epoch and batch_size and isinstance(limit, float) and limit == 1:
            self.trainer.limit_train_batches = self.images_per_epoch // batch_size + 1

    def on_train_start(self) -> None:
        """Looks at all training images, reads the textures and chooses the distribution.

        Raises:
            DetectorError: If there are no textures, or they have another size than the images.
        """
        if self.model.augmentor.textures is None and self.texture_folder is None:
            raise DetectorError(
                "TEXTURES_MISSING: Glass makes its synthetic defects of textures and was given none. Name them in its "
                "entry of the detectors' parameter file (textures: <name>, whose folder stands under 'textures'), or "
                "give the class itself a texture_folder: any folder of texture images, such as the Describable "
                "Textures Dataset."
            )
        mean_image = self.model.survey(map(self._normalise, self._training_loader()))
        self._prepare_textures(mean_image.shape[1:])
        self.chosen_distribution = self._choose_distribution(mean_image)
        self.model.is_hypersphere = self.chosen_distribution == HYPERSPHERE

    def on_train_epoch_start(self) -> None:
        """Brings the centre of the normal features up to the adaptor as it now is.

        Where batches do not divide the training images, those that share the smaller one are drawn anew.
        """
        n = self.model.n_in_smaller_batch
        self.model.update_center(self._draw_training_images(n) if n else None)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Makes synthetic anomalies, and moves adaptor and discriminator by one step each.

        Returns:
            The loss of the batch ``()``, before the steps.
        """
        optimizers: Any = self.optimizers()
        images: Any = batch.image
        true_loss, gaussian_loss, _, focal_loss, loss = self.model(images, _foreground_of(batch, images.shape[2:]))
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        parts = {"true_loss": true_loss, "gaussian_loss": gaussian_loss, "focal_loss": focal_loss}
        self.log_dict(parts, on_step=False, on_epoch=True, batch_size=len(images))
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss.detach()

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """One device, for statistics over the whole batch."""
        return {**super().trainer_arguments, "devices": 1}

    def _training_loader(self) -> Any:
        datamodule = getattr(self.trainer, "datamodule", None)
        return self.trainer.train_dataloader if datamodule is None else datamodule.train_dataloader()

    def _normalise(self, batch: Any) -> torch.Tensor:
        """Images ``(B, 3, H, W)`` of a loader's batch as they are in training: the loader's are not normalised."""
        transform: Any = self.pre_processor.transform if self.pre_processor else nn.Identity()
        images: torch.Tensor = transform(batch.image.to(self.device))
        return images

    def _draw_training_images(self, n: int) -> torch.Tensor:
        loader = self._training_loader()
        numbers = torch.randperm(len(loader.dataset))[:n].tolist()
        return self._normalise(loader.collate_fn([loader.dataset[number] for number in numbers]))

    def _show_ones(self) -> None:
        if self.input_size is None:
            raise DetectorError(
                "Glass cannot tell of which size the image of ones must be: its pre-processor resizes no image. Give "
                "it one that does, or set batch_norm_sees_ones to false."
            )
        extractor: Any = self.model.forward_modules["feature_aggregator"]
        show_ones(extractor.feature_extractor, self.input_size)

    def _prepare_textures(self, image_size: torch.Size) -> None:
        given = self.model.augmentor.textures
        textures = stack_textures(self.texture_folder or "", image_size[0], crop=True) if given is None else given
        self.use_textures(textures)
        if textures.shape[1:3] != tuple(image_size):
            raise DetectorError(
                f"Glass was given textures of {textures.shape[1]} x {textures.shape[2]} pixels for images of "
                f"{image_size[0]} x {image_size[1]}. Both must have the same size."
            )

    def _choose_distribution(self, mean_image: torch.Tensor) -> str:
        if self.distribution != _SPECTRUM:
            return self.distribution
        pixels = (255 * mean_image).clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        points = measure_points(strong_frequencies(pixels))
        _logger.info("Glass: the spectrum test chooses '%s': %s", points.distribution, points)
        return points.distribution


def _foreground_of(batch: Batch, image_size: torch.Size) -> torch.Tensor | None:
    """Foreground ``(B, H, W)``, bool, of the size of the images, if the batch has one."""
    foreground: torch.Tensor | None = getattr(batch, "foreground", None)
    if foreground is None:
        return None
    return functional.interpolate(foreground[:, None].float(), image_size)[:, 0] > 0


def _check_arguments(distribution: str, layers: Sequence[str]) -> None:
    possible = (MANIFOLD, HYPERSPHERE, _SPECTRUM)
    if distribution not in possible:
        raise DetectorError(f"distribution is {distribution!r}. Give one of: {', '.join(possible)}.")
    if not layers:
        raise DetectorError("layers is empty. Name at least one layer of the backbone.")
