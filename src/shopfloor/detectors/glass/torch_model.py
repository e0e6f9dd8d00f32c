"""Network of GLASS: anomalib's, with the backbone frozen at all times, for images of any size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from anomalib.data import InferenceBatch
from anomalib.models.components import TimmFeatureExtractor
from anomalib.models.image.glass.components import Discriminator, Projection
from anomalib.models.image.glass.loss import FocalLoss
from anomalib.models.image.glass.torch_model import GlassModel as AnomalibGlassModel
from torch import nn

from shopfloor.detectors.glass.synthetic_anomalies import SyntheticAnomalies
from shopfloor.detectors.patch_descriptors import describe_patches
from shopfloor.detectors.simplenet.anomaly_map import AnomalyMapGenerator

#: The three losses of a training step and their sums: true, Gaussian, true + Gaussian, focal, all together.
Losses = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class GlassModel(AnomalibGlassModel):
    """anomalib's ``GlassModel``; its gradient ascent, its losses and the names of its tensors are used as they are.

    What differs, and why:

    - the backbone is frozen whatever its weights; anomalib trains one without ImageNet weights;
    - synthetic defects are those of the original and can be kept to the foreground (:class:`SyntheticAnomalies`);
    - masks are max-pooled to the grid of the patches; anomalib loses pixels where the grid does not divide the image;
    - patches are described by :func:`describe_patches`: the same descriptors in a fraction of the memory;
    - the mean of the adapted features is the adaptor's answer to the mean feature, because the adaptor is linear: the
      training images pass through the backbone once and not in every epoch;
    - losses are computed in full precision: PyTorch refuses their binary cross-entropy in half;
    - maps are ``(B, 1, H, W)``, have the size of the images, and are smoothed as SciPy does it.

    Args:
        layers: Names of the backbone's layers; the first of them in the network gives the grid of the patches.
        backbone: timm name of the backbone.
        pre_trained: Whether the backbone is given ImageNet weights.
        pretrain_embed_dim: Entries that the neighbourhood of a patch is reduced to, per layer.
        target_embed_dim: Entries of a patch's feature vector, before and after the adaptor.
        discriminator_hidden: Width of the discriminator's hidden layer.
        step: Steps of gradient ascent, 0 or above.
        gaussian_noise_std: Standard deviation of the noise that the ascent starts from.
        radius_quantile: Quantile of the normal distances to the centre that is the hypersphere's radius.
        focal_loss_quantile_threshold: Share of the patches that the focal loss leaves out as too easy.
        mining: Whether there is gradient ascent at all.
        normalize_mean: Mean per channel by which images come normalised.
        normalize_std: Standard deviation per channel, likewise.
    """

    augmentor: SyntheticAnomalies  # type: ignore[assignment]  # anomalib names its own class
    _img_mean: torch.Tensor
    _img_std: torch.Tensor

    def __init__(  # noqa: PLR0913, PLR0917 (anomalib's arguments)
        self,
        layers: Sequence[str],
        backbone: str,
        pre_trained: bool = True,
        pretrain_embed_dim: int = 1536,
        target_embed_dim: int = 1536,
        discriminator_hidden: int = 1024,
        step: int = 20,
        gaussian_noise_std: float = 0.015,
        radius_quantile: float = 0.75,
        focal_loss_quantile_threshold: float = 0.5,
        mining: bool = True,
        normalize_mean: Sequence[float] = (0.0, 0.0, 0.0),
        normalize_std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        # Not anomalib's own constructor: it would list textures, and run a backbone that is not frozen.
        super(AnomalibGlassModel, self).__init__()
        self.pretrain_embed_dim = pretrain_embed_dim
        self.target_embed_dimension = target_embed_dim
        self.step = step
        self.gaussian_noise_std = gaussian_noise_std
        self.radius_quantile = radius_quantile
        self.focal_loss_quantile_threshold = focal_loss_quantile_threshold
        self.mining = mining
        self.svd = 0  # anomalib's name of the choice: 0 manifold, 1 hypersphere
        self.pre_projection = 1  # number of linear layers of the adaptor
        self.register_buffer("_img_mean", torch.tensor(normalize_mean).reshape(1, 3, 1, 1))
        self.register_buffer("_img_std", torch.tensor(normalize_std).reshape(1, 3, 1, 1))
        extractor = TimmFeatureExtractor(backbone=backbone, layers=layers, pre_trained=pre_trained)
        self.forward_modules = nn.ModuleDict({"feature_aggregator": extractor})
        self.forward_modules.eval().requires_grad_(False)
        self.projection = Projection(target_embed_dim)
        self.discriminator = Discriminator(target_embed_dim, hidden=discriminator_hidden)
        self.focal_loss = FocalLoss()
        self.bce_loss = nn.BCELoss()
        self.augmentor = SyntheticAnomalies()
        self.anomaly_map_generator = AnomalyMapGenerator()
        self._mean_embedding: torch.Tensor | None = None

    def train(self, mode: bool = True) -> GlassModel:
        """Switches adaptor and discriminator to training or evaluation; the backbone stays in evaluation mode."""
        super().train(mode)
        self.forward_modules.eval()
        return self

    def forward(self, images: torch.Tensor, foreground: torch.Tensor | None = None) -> Losses | InferenceBatch:
        """Gives the losses of a training batch, or scores a test batch.

        Args:
            images: Normalised images ``(B, 3, H, W)``.
            foreground: Where synthetic defects may lie ``(B, H, W)``, bool; None for anywhere. Training only.

        Returns:
            In training the losses ``()`` each. Otherwise scores ``(B,)``, the maximum over the patches, and maps
            ``(B, 1, H, W)``, both in [0, 1], higher is worse.
        """
        if not self.training:
            return super().forward(images)
        self.augmentor.foreground = foreground
        with torch.autocast(images.device.type, enabled=False):
            return super().forward(images.float())

    def generate_embeddings(
        self, images: torch.Tensor, evaluation: bool = False
    ) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        """Describes the patches of images ``(B, 3, H, W)``.

        Args:
            images: Normalised images.
            evaluation: Without effect, as the backbone is frozen.

        Returns:
            Features ``(B * h * w, D)`` without gradient, image by image and row by row; and the grid, ``[(h, w)]``.
        """
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)  # faster, as in PatchcoreModel
        with torch.no_grad():
            levels = list(self.forward_modules["feature_aggregator"](images).values())
            descriptors = describe_patches(levels, self.pretrain_embed_dim, self.target_embed_dimension)
        rows, columns = descriptors.shape[2:]
        return descriptors.permute(0, 2, 3, 1).flatten(0, 2), [(rows, columns)]

    @torch.no_grad()
    def survey(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """Looks at all training images once, for the centre and for the grid of the patches.

        Args:
            batches: Normalised images ``(B, 3, H, W)``, all of one size.

        Returns:
            The mean image ``(3, H, W)``, not normalised: in [0, 1].
        """
        sum_of_features, sum_of_images, n = torch.zeros(()), torch.zeros(()), 0
        for images in batches:
            features, (grid,) = self.generate_embeddings(images)
            features = features.unflatten(0, (len(images), -1)).sum(0, dtype=torch.float64)
            sum_of_features = sum_of_features.to(features) + features
            sum_of_images = sum_of_images.to(features) + images.sum(0, dtype=torch.float64)
            n += len(images)
            self.augmentor.grid = grid
        self._mean_embedding = (sum_of_features / n).float()
        return (sum_of_images / n).float() * self._img_std[0] + self._img_mean[0]

    @torch.no_grad()
    def update_center(self) -> None:
        """Takes the mean adapted feature of all training images at each position ``(h * w, D)`` as the centre."""
        self.center = self.projection(self._mean_embedding)

    @torch.no_grad()
    def calculate_anomaly_scores(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores ``(B,)`` and maps ``(B, 1, H, W)`` of normalised images ``(B, 3, H, W)``, in [0, 1]."""
        features, (grid,) = self.generate_embeddings(images)
        patch_scores = self.discriminator(self.projection(features)).reshape(len(images), 1, *grid)
        return patch_scores.amax((1, 2, 3)), self.anomaly_map_generator(patch_scores, images.shape[2:])
