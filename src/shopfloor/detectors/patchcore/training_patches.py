"""The patches of the training images while they come, in as little memory as the coreset needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from shopfloor.detectors.patchcore.coreset import SparseProjection, k_center_greedy


class TrainingPatches:
    """Projects patches as they come and chooses the coreset from the projections.

    Only where all patches together are small are they kept beside their projections. Otherwise those of the coreset
    are to be computed a second time, image by image: a projection of WideResNet-50 patches has a fifth of their size.

    Args:
        n_images: Number of training images.
        kept_gb: Size up to which all patches are kept, in 10^9 bytes.
    """

    def __init__(self, n_images: int, kept_gb: float) -> None:
        self._n_images = n_images
        self._kept_gb = kept_gb
        self._first_row: dict[str, int] = {}
        self._kept: list[torch.Tensor] | None = []
        self._projection: SparseProjection | None = None
        self._projected = torch.empty(0)
        self._count = 0
        self.per_image = 0

    def __len__(self) -> int:
        return self._count

    @property
    def are_kept(self) -> bool:
        """Whether all patches are kept, so that none has to be computed again."""
        return self._kept is not None

    def add(self, patches: torch.Tensor, names: Sequence[str]) -> None:
        """Takes the patches of a batch.

        Args:
            patches: Patch features ``(B * P, D)``, image by image.
            names: Name of each of the B images.
        """
        patches = patches.float()
        if self._projection is None:
            self.per_image = len(patches) // len(names)
            expected = max(self._n_images, len(names)) * self.per_image
            self._projection = SparseProjection(expected, patches[:1])
            self._projected = patches.new_empty(expected, self._projection.n_columns)
            if expected * patches.shape[1] * patches.element_size() > self._kept_gb * 1e9:
                self._kept = None
        rows = slice(self._count, self._count + len(patches))
        if rows.stop > len(self._projected):  # more images than the loader said
            self._projected = torch.cat([self._projected, torch.empty_like(self._projected)])
        self._projected[rows] = self._projection(patches)
        self._first_row |= {name: rows.start + place * self.per_image for place, name in enumerate(names)}
        if self._kept is not None:
            self._kept.append(patches)
        self._count = rows.stop

    def choose(self, ratio: float) -> torch.Tensor:
        """Chooses the coreset. The projections are gone afterwards.

        Args:
            ratio: Share of the patches to choose, in (0, 1].

        Returns:
            Mask over all patches ``(N,)``, bool, True for the chosen.

        Raises:
            ValueError: If there is no patch, or the share is less than one patch.
        """
        features = self._projected[: self._count]
        self._projected = torch.empty(0)
        if not len(features):
            raise ValueError("PatchCore has seen no training image: nothing to make a memory bank of.")
        first = int(torch.randint(high=len(features), size=(1,), device=features.device))
        chosen = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        chosen[k_center_greedy(features, int(len(features) * ratio), first)] = True
        return chosen

    def bank(self, chosen: torch.Tensor) -> torch.Tensor:
        """The chosen patches ``(M, D)`` in their order, where all are kept; they are let go of block by block."""
        blocks: list[torch.Tensor] = self._kept or []
        parts = chosen.split([len(block) for block in blocks])
        found = []
        for part in parts:
            found.append(blocks.pop(0)[part])
        return torch.cat(found)

    def rows_of(self, name: str) -> slice:
        """Rows of an image's patches."""
        first = self._first_row[name]
        return slice(first, first + self.per_image)
