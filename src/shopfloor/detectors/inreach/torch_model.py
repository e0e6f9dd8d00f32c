"""InReaCh's network: patch descriptors of a frozen backbone and a memory bank of those that images have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from anomalib.data import InferenceBatch
from anomalib.models.components import DynamicBufferMixin
from torch import nn

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.inreach.anomaly_map import AnomalyMapGenerator
from shopfloor.detectors.inreach.association import associate
from shopfloor.detectors.inreach.block_outputs import BlockOutputs
from shopfloor.detectors.inreach.channels import build_bank, collect_members
from shopfloor.detectors.inreach.positions import with_positions
from shopfloor.detectors.patch_descriptors import describe_patches

# The search goes block by block. On a CPU a block of distances, 2 MB, stays in the cache; a GPU wants larger ones.
_BANK_BLOCK = 1024
_CPU_QUERIES = 512
_GPU_QUERIES = 65_536


class InReaChModel(DynamicBufferMixin, nn.Module):
    """Describes patches, selects the bank out of those of all training images, and scores patches by their distance.

    What is learned is kept in two buffers: ``bank``, ``(K, D)``, float32, empty until fitted, and ``positional``,
    ``()``, bool: whether the last two entries of a descriptor are its position.

    Args:
        layers: Names of blocks of the backbone; the grid of the first is that of the patches.
        backbone: timm name of the backbone.
        pre_trained: Whether the backbone is given ImageNet weights.
        image_statistics: Whether batch normalisation takes the statistics of the single image.
        pretrain_dimension: Entries that the neighbourhoods in each layer are pooled to.
        target_dimension: Entries of a descriptor, position aside.
        positional_weight: Size of the entries that tell the position.
        filter_sigma: Standard deviation of the Gaussian that smooths the map, in pixels.
    """

    bank: torch.Tensor
    positional: torch.Tensor

    def __init__(
        self,
        layers: Sequence[str],
        backbone: str,
        pre_trained: bool = True,
        image_statistics: bool = True,
        pretrain_dimension: int = 1024,
        target_dimension: int = 1024,
        positional_weight: float = 5.0,
        filter_sigma: float = 13.0,
    ) -> None:
        super().__init__()
        self.pretrain_dimension = pretrain_dimension
        self.target_dimension = target_dimension
        self.positional_weight = positional_weight
        self.feature_extractor = BlockOutputs(backbone, layers, pre_trained, image_statistics)
        self.anomaly_map_generator = AnomalyMapGenerator(filter_sigma)
        self.register_buffer("bank", torch.empty(0, target_dimension))
        self.register_buffer("positional", torch.tensor(False))

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Describes a training batch ``(B, 3, H, W)``, or scores a test batch.

        Returns:
            In training descriptors ``(B, h, w, target_dimension)`` without position. Otherwise scores ``(B,)``, the
            maxima of the maps, and maps ``(B, 1, H, W)`` of smoothed squared distances, 0 or more.

        Raises:
            DetectorError: If the model is to score but was not fitted.
        """
        descriptors = self.describe(images)
        if self.training:
            return descriptors
        if not len(self.bank):
            raise DetectorError("The memory bank of InReaCh is empty: train it, or load a trained checkpoint.")
        if self.positional:
            descriptors = with_positions(descriptors, self.positional_weight)
        squared = nearest_squared_distances(descriptors.flatten(0, 2), self.bank)
        patch_scores = squared.reshape(descriptors.shape[:3]).unsqueeze(1)
        anomaly_map = self.anomaly_map_generator(patch_scores, (images.shape[2], images.shape[3]))
        return InferenceBatch(pred_score=anomaly_map.amax((1, 2, 3)), anomaly_map=anomaly_map)

    @torch.no_grad()
    def describe(self, images: torch.Tensor) -> torch.Tensor:
        """Describes the patches of images ``(B, 3, H, W)``, without their position.

        Returns:
            Descriptors ``(B, h, w, target_dimension)``, float32, any range.
        """
        levels = self.feature_extractor(images)
        maps = describe_patches(levels, level_size=self.pretrain_dimension, target_size=self.target_dimension)
        return maps.permute(0, 2, 3, 1).float().contiguous()

    def fit(
        self,
        descriptors: list[torch.Tensor],
        positional: bool,
        assoc_depth: int,
        min_channel_length: int,
        max_channel_std: float,
        exchange_indices: bool,
    ) -> None:
        """Selects the memory bank.

        Args:
            descriptors: Of each training image ``(h, w, target_dimension)``, float32 on the CPU, the seeds first; the
                list is emptied.
            positional: Whether positions become part of the descriptors.
            assoc_depth: Number of seeds, if there are as many images.
            min_channel_length: Number of members that is just not enough for a channel.
            max_channel_std: Largest distance of a member, in standard deviations of the distances in its channel.
            exchange_indices: Whether patches and seed patches change places, as in the public code.

        Raises:
            DetectorError: If no patch is left for the bank.
        """
        for number, image in enumerate(descriptors):  # in place: there may be no memory for all of them twice
            described = with_positions(image, self.positional_weight) if positional else image
            descriptors[number] = described.flatten(0, 1)
        device = self.bank.device
        n_seeds = min(assoc_depth, len(descriptors))
        associations = associate(descriptors, n_seeds, device)
        members = collect_members(associations, n_seeds, len(descriptors[0]), exchange_indices)
        self.bank = build_bank(descriptors, members, min_channel_length, max_channel_std, device).to(device)
        self.positional.fill_(positional)


def nearest_squared_distances(queries: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distance of each query to the nearest vector of the bank, exact, block by block.

    Args:
        queries: Vectors ``(n, D)``.
        bank: Vectors ``(K, D)``, at least one.

    Returns:
        Squared distances ``(n,)``, 0 or more.
    """
    queries_at_once = _CPU_QUERIES if queries.device.type == "cpu" else _GPU_QUERIES
    centre = bank[:_BANK_BLOCK].mean(0)  # keeps distances; smaller norms lose fewer digits in |x|^2 - 2xy + |y|^2
    queries = queries - centre
    # Without the square of the query, which does not change what is nearest.
    nearest = queries.new_full((len(queries),), torch.inf)
    for block in bank.split(_BANK_BLOCK):
        block = block - centre  # noqa: PLW2901
        squares = block.square().sum(1)
        for start in range(0, len(queries), queries_at_once):
            rows = slice(start, start + queries_at_once)
            distances = torch.addmm(squares, queries[rows], block.T, alpha=-2).amin(1)
            nearest[rows] = torch.minimum(nearest[rows], distances)
    return (nearest + queries.square().sum(1)).clamp_(min=0)
