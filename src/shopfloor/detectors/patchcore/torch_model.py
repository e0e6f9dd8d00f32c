"""PatchCore's network: anomalib's, with its two costly steps done faster."""

from __future__ import annotations

import torch
from anomalib.data import InferenceBatch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel as AnomalibPatchcoreModel

from shopfloor.detectors.patchcore.coreset import k_center_greedy, project

# Distances held at once in the search: 16 MB, near a CPU's cache, and 256 MB, enough to fill a GPU.
_CPU_DISTANCES = 2**22
_GPU_DISTANCES = 2**26


class PatchcoreModel(AnomalibPatchcoreModel):
    """anomalib's ``PatchcoreModel``; scores and maps are equal up to float32 rounding.

    What differs, and why:

    - the coreset is chosen in batches (:mod:`shopfloor.detectors.patchcore.coreset`), 100 times faster on a CPU and
      without a second copy of all patches;
    - the search for the nearest patch makes one fused matrix product per block of bounded size, anomalib's five passes
      over a block that grows with the bank;
    - on a CPU the backbone runs in channels-last order, up to 4 times faster.
    """

    def forward(self, input_tensor: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Embeds a training batch ``(B, 3, H, W)``, or scores a test batch.

        Returns:
            In training patch features ``(B * h * w, D)``, otherwise scores ``(B,)`` and maps ``(B, 1, H, W)``.
        """
        if input_tensor.device.type == "cpu":
            input_tensor = input_tensor.contiguous(memory_format=torch.channels_last)
        return super().forward(input_tensor)

    def subsample_embedding(self, sampling_ratio: float, embeddings: torch.Tensor | None = None) -> None:
        """Makes the memory bank: a coreset of all patches seen in training, in the order of the patches.

        Args:
            sampling_ratio: Share of the patches to keep, in (0, 1].
            embeddings: Not used; anomalib deprecates it.

        Raises:
            ValueError: If nothing was embedded or the share is less than one patch.
        """
        if not self.embedding_store:
            raise ValueError("PatchCore has seen no training image: nothing to make a memory bank of.")
        store: list[torch.Tensor] = self.embedding_store
        features = project(store)
        first = int(torch.randint(high=len(features), size=(1,), device=features.device))
        keep = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        keep[k_center_greedy(features, int(len(features) * sampling_ratio), first)] = True
        del features
        blocks = keep.split([len(block) for block in store])
        self.memory_bank = torch.vstack([block[kept] for block, kept in zip(store, blocks, strict=True)])
        store.clear()

    def nearest_neighbors(self, embedding: torch.Tensor, n_neighbors: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Nearest patches of the memory bank.

        Args:
            embedding: Queries ``(n, D)``.
            n_neighbors: Number of neighbours of each.

        Returns:
            Euclidean distances and indices in the bank, ``(n,)`` each for one neighbour, ``(n, n_neighbors)`` for more,
            nearest first.
        """
        bank = self.memory_bank
        bank_squares = bank.square().sum(1)
        held = _CPU_DISTANCES if bank.device.type == "cpu" else _GPU_DISTANCES
        distances, locations = [], []
        for queries in embedding.split(max(1, held // len(bank))):
            # |y|^2 - 2xy orders the bank like the distance; |x|^2 and the root are needed for the nearest only.
            partial = torch.addmm(bank_squares, queries, bank.T, alpha=-2)
            nearest, location = partial.min(1) if n_neighbors == 1 else partial.topk(n_neighbors, largest=False)
            query_squares = queries.square().sum(1).view(-1, *[1] * (nearest.ndim - 1))
            distances.append(nearest.add_(query_squares).clamp_(min=0).sqrt_())
            locations.append(location)
        return torch.cat(distances), torch.cat(locations)
