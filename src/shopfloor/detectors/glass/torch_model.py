"""Networks of GLASS and its training step; the backbone is frozen at all times, and images have any size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from anomalib.data import InferenceBatch
from anomalib.models.components import TimmFeatureExtractor
from anomalib.models.image.glass.components import Discriminator, Projection
from anomalib.models.image.glass.loss import FocalLoss
from torch import nn

from shopfloor.detectors.glass.synthetic_anomalies import SyntheticAnomalies
from shopfloor.detectors.patch_descriptors import describe_patches
from shopfloor.detectors.simplenet.anomaly_map import AnomalyMapGenerator

#: The three losses of a training step and their sums: true, Gaussian, true + Gaussian, focal, all together.
Losses = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]

_ASCENT = 0.001  # length of a step
_STEPS_PER_PROJECTION = 5
_TINY = 1e-10
_MANIFOLD_LENGTHS = (0.5, 1.0)  # that an offset from a good feature may have


class GlassModel(nn.Module):
    """Patch features, adapted, and a discriminator of them: the larger its output, the more anomalous the patch.

    Adaptor, discriminator, focal loss and the names of all tensors are anomalib's. What differs from its
    ``GlassModel``, and why:

    - no gradient flows through the radius of the hypersphere, as in the original;
    - biases and batch norm begin as PyTorch makes them, as in the original (:func:`_initialise`);
    - the backbone is frozen whatever its weights; anomalib trains one without ImageNet weights;
    - synthetic defects are those of the original and can be kept to the foreground (:class:`SyntheticAnomalies`);
    - masks are max-pooled to the grid of the patches; anomalib loses pixels where the grid does not divide the image;
    - patches are described by :func:`describe_patches`: the same descriptors in a fraction of the memory;
    - the centre is the mean of the batches' means, as in the original; as the adaptor is linear, it is its answer to a
      mean of features, and the training images pass through the backbone once and not in every epoch;
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
        super().__init__()
        self.pretrain_embed_dim = pretrain_embed_dim
        self.target_embed_dimension = target_embed_dim
        self.step = step
        self.gaussian_noise_std = gaussian_noise_std
        self.radius_quantile = radius_quantile
        self.focal_loss_quantile_threshold = focal_loss_quantile_threshold
        self.mining = mining
        self.is_hypersphere = False
        self.pre_projection = 1  # number of linear layers of the adaptor, which anomalib's module asks for
        self.register_buffer("_img_mean", torch.tensor(normalize_mean).reshape(1, 3, 1, 1))
        self.register_buffer("_img_std", torch.tensor(normalize_std).reshape(1, 3, 1, 1))
        extractor = TimmFeatureExtractor(backbone=backbone, layers=layers, pre_trained=pre_trained)
        self.forward_modules = nn.ModuleDict({"feature_aggregator": extractor})
        self.forward_modules.eval().requires_grad_(False)
        self.projection = Projection(target_embed_dim)
        self.discriminator = Discriminator(target_embed_dim, hidden=discriminator_hidden)
        _initialise(self.projection)
        _initialise(self.discriminator)
        self.focal_loss = FocalLoss()
        self.bce_loss = nn.BCELoss()
        self.augmentor = SyntheticAnomalies()
        self.anomaly_map_generator = AnomalyMapGenerator()
        self._sum_embedding = torch.zeros(())
        self._n_images = self._n_batches = self._batch_size = 0

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
            scores, maps = self.calculate_anomaly_scores(images)
            return InferenceBatch(pred_score=scores, anomaly_map=maps)
        self.augmentor.foreground = foreground
        with torch.autocast(images.device.type, enabled=False):
            return self._losses(images.float())

    def _losses(self, images: torch.Tensor) -> Losses:
        """Makes anomalies of both kinds of normalised images ``(B, 3, H, W)`` and judges them."""
        defective, masks = self.augmentor(images * self._img_std + self._img_mean)
        is_defect = masks.flatten() > 0
        good = self.projection(self.describe(images)[0])
        local = self.projection(self.describe((defective - self._img_mean) / self._img_std)[0])
        centre = self.center.repeat(len(images), 1)
        with torch.no_grad():
            distances = torch.cat([(local - centre)[~is_defect], good - centre]).norm(dim=1)
            radius = distances.quantile(self.radius_quantile)

        true_loss, gaussian_loss = self._cross_entropies(good, self._move_noisy(good, centre, radius))
        if self.is_hypersphere:
            local[is_defect] = _with_lengths(local[is_defect], centre[is_defect], 2 * radius, 4 * radius)
        focal_loss = self._focal_loss_of_hard(self.discriminator(local), is_defect)
        both = true_loss + gaussian_loss
        return true_loss, gaussian_loss, both, focal_loss, both + focal_loss

    def _move_noisy(self, good: torch.Tensor, centre: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        """Moves noisy copies of good features ``(N, D)`` to where the discriminator takes them for normal."""
        moved = good + self.gaussian_noise_std * torch.randn_like(good)
        origin, lengths = (centre, (radius, 2 * radius)) if self.is_hypersphere else (good, _MANIFOLD_LENGTHS)
        for number in range(1, self.step + 1 if self.mining else 1):
            _, loss = self._cross_entropies(good, moved)
            (gradient,) = torch.autograd.grad(loss, moved)
            moved = moved + _ASCENT * gradient / (gradient.norm(dim=1, keepdim=True) + _TINY)
            if number % _STEPS_PER_PROJECTION == 0:
                moved = _with_lengths(moved, origin, *lengths)
        return moved

    def _cross_entropies(self, good: torch.Tensor, noisy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean cross-entropies of good and of noisy features, which pass together: batch norm sees both."""
        normal, anomalous = self.discriminator(torch.cat([good, noisy])).chunk(2)
        return self.bce_loss(normal, torch.zeros_like(normal)), self.bce_loss(anomalous, torch.ones_like(anomalous))

    def _focal_loss_of_hard(self, scores: torch.Tensor, is_defect: torch.Tensor) -> torch.Tensor:
        """Focal loss of the patches ``(N, 1)`` that are not among the easiest."""
        target = is_defect[:, None].to(scores)
        errors = (scores - target) ** 2
        hard = (errors >= errors.quantile(self.focal_loss_quantile_threshold))[:, 0]
        return self.focal_loss(torch.cat([1 - scores, scores], dim=1)[hard], target[hard])

    def describe(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """Describes the patches of normalised images ``(B, 3, H, W)``.

        Returns:
            Features ``(B * h * w, D)`` without gradient, image by image and row by row; and the grid, ``(h, w)``.
        """
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)  # faster, as in PatchcoreModel
        with torch.no_grad():
            levels = list(self.forward_modules["feature_aggregator"](images).values())
            descriptors = describe_patches(levels, self.pretrain_embed_dim, self.target_embed_dimension)
        rows, columns = descriptors.shape[2:]
        return descriptors.permute(0, 2, 3, 1).flatten(0, 2), (rows, columns)

    @torch.no_grad()
    def survey(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """Looks at all training images once, for the centre and for the grid of the patches.

        Args:
            batches: Normalised images ``(B, 3, H, W)``, all of one size; the last batch may be smaller.

        Returns:
            The mean of the batches' mean images ``(3, H, W)``, not normalised: in [0, 1].
        """
        sum_of_features, sum_of_images = torch.zeros(()), torch.zeros(())
        self._n_images = self._n_batches = self._batch_size = 0
        for images in batches:
            sum_of_features = sum_of_features.to(images.device) + self._sum_of_features(images)
            sum_of_images = sum_of_images.to(images.device) + images.mean(0, dtype=torch.float64)
            self._batch_size = self._batch_size or len(images)
            self._n_images += len(images)
            self._n_batches += 1
        self._sum_embedding = sum_of_features
        return sum_of_images / self._n_batches * self._img_std[0] + self._img_mean[0]

    @property
    def n_in_smaller_batch(self) -> int:
        """Training images in the last batch if it is smaller than the others, else 0; known after :meth:`survey`."""
        return self._n_images % self._batch_size

    @torch.no_grad()
    def update_center(self, last_batch: torch.Tensor | None = None) -> None:
        """Takes the mean of the batches' mean adapted features at each position ``(h * w, D)`` as the centre.

        Args:
            last_batch: Normalised images of the batch that is smaller than the others, whose images therefore weigh
                more; None where all batches have one size.
        """
        mean = self._sum_embedding / self._n_images
        if last_batch is not None:
            of_last = self._sum_of_features(last_batch)
            of_others = (self._sum_embedding - of_last) / self._batch_size
            mean = (of_others + of_last / len(last_batch)) / self._n_batches
        self.center = self.projection(mean.float())

    def _sum_of_features(self, images: torch.Tensor) -> torch.Tensor:
        """Sum of the features of images ``(B, 3, H, W)`` at each position, before the adaptor ``(h * w, D)``."""
        features, self.augmentor.grid = self.describe(images)
        return features.unflatten(0, (len(images), -1)).sum(0, dtype=torch.float64)

    @torch.no_grad()
    def calculate_anomaly_scores(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores ``(B,)`` and maps ``(B, 1, H, W)`` of normalised images ``(B, 3, H, W)``, in [0, 1]."""
        features, grid = self.describe(images)
        patch_scores = self.discriminator(self.projection(features)).reshape(len(images), 1, *grid)
        return patch_scores.amax((1, 2, 3)), self.anomaly_map_generator(patch_scores, images.shape[2:])


def _initialise(part: nn.Module) -> None:
    """Draws the first weights as the original does: Xavier's of linear layers, all else as PyTorch makes it.

    The original names batch norm too, but only that of images, of which there is none here.
    """
    for layer in part.modules():
        if isinstance(layer, (nn.Linear, nn.BatchNorm1d)):
            layer.reset_parameters()
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)


def _with_lengths(
    points: torch.Tensor, origin: torch.Tensor, least: float | torch.Tensor, most: float | torch.Tensor
) -> torch.Tensor:
    """Shortens or lengthens the offsets of points ``(N, D)`` from their origins to lengths of this range."""
    offsets = points - origin
    lengths = offsets.norm(dim=1, keepdim=True)
    return origin + lengths.clamp(least, most) / (lengths + _TINY) * offsets
