"""PatchCore as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from anomalib.data import ImageBatch
from anomalib.models.image.patchcore.lightning_model import Patchcore as AnomalibPatchcore
from torch import nn
from tqdm import tqdm

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.patchcore.torch_model import PatchcoreModel
from shopfloor.detectors.patchcore.training_patches import TrainingPatches


class Patchcore(AnomalibPatchcore):
    """anomalib's ``Patchcore`` on our :class:`PatchcoreModel`: the same scores and maps, faster and in less memory.

    PatchCore (Roth et al., *Towards Total Recall in Industrial Anomaly Detection*, CVPR 2022; repository
    amazon-science/patchcore-inspection) scores a patch by its distance to the nearest of a coreset of good patches.
    anomalib's deviations from it are kept, because the benchmark ran anomalib (specification of the anomalib models,
    section 1).

    Args:
        backbone: timm name of the network.
        layers: Its layers, first the one whose grid the patches have.
        pre_trained: Whether the network is given ImageNet weights.
        coreset_sampling_ratio: Share of the training patches kept in the memory bank.
        num_neighbors: Neighbours that re-weight the image score (equation 7); 1 switches the re-weighting off.
        kept_gb: Up to this size, in 10^9 bytes, the patches of all training images are kept while the coreset is
            chosen; above it those of the coreset are computed a second time. The results are the same up to rounding.
        **parts: As in anomalib.
    """

    model: PatchcoreModel

    def __init__(
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] = ("layer2", "layer3"),
        pre_trained: bool = True,
        coreset_sampling_ratio: float = 0.1,
        num_neighbors: int = 9,
        kept_gb: float = 1.0,
        **parts: Unpack[AnomalibParts],
    ) -> None:
        # Not anomalib's own constructor: it would build the backbone a second time.
        super(AnomalibPatchcore, self).__init__(**parts)
        self.model = PatchcoreModel(
            layers=layers, backbone=backbone, pre_trained=pre_trained, num_neighbors=num_neighbors
        )
        self.coreset_sampling_ratio = coreset_sampling_ratio
        self.kept_gb = kept_gb
        self._patches = TrainingPatches(0, kept_gb)

    def on_train_epoch_start(self) -> None:
        """Begins with no patch, also after a training that was broken off."""
        loader = self.trainer.train_dataloader
        self._patches = TrainingPatches(len(loader.dataset) if loader is not None else 0, self.kept_gb)

    def training_step(  # type: ignore[override]  # anomalib says None and gives a loss
        self, batch: ImageBatch, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Takes the patches of a batch.

        Returns:
            A loss of zero, which Lightning asks for.
        """
        self._patches.add(self.model(batch.image), batch.image_path or [])
        return torch.tensor(0.0, requires_grad=True, device=self.device)

    def fit(self) -> None:
        """Makes the memory bank: a coreset of all patches seen in training, in the order of the patches.

        Raises:
            ValueError: If nothing was embedded or the coreset would have less than one patch.
        """
        chosen = self._patches.choose(self.coreset_sampling_ratio)
        if self._patches.are_kept:
            self.model.memory_bank = self._patches.bank(chosen)
        else:
            self.model.memory_bank = self._embedded_again(chosen)
        self._patches = TrainingPatches(0, self.kept_gb)

    @torch.no_grad()
    def _embedded_again(self, chosen: torch.Tensor) -> torch.Tensor:
        """Computes the chosen patches once more, in a second pass over the training images."""
        place = chosen.cumsum(0) - 1  # of each chosen patch in the bank
        transform: Any = self.pre_processor.transform if self.pre_processor else nn.Identity()
        bank, found = torch.empty(0, device=chosen.device), 0
        loader: Any = self.trainer.train_dataloader
        for batch in tqdm(loader, desc="Memory bank", unit="batch"):
            # Not normalised yet: the pre-processor reaches only the batches of Lightning's own loop.
            images = transform(batch.image.to(self.device))
            with self.trainer.precision_plugin.forward_context():
                # anomalib's data modules validate within the epoch: the model is in evaluation mode by then.
                patches = self.model.embed(images).float().unflatten(0, (len(images), -1))
            if not len(bank):
                bank = torch.full((int(chosen.sum()), patches.shape[2]), torch.nan, device=chosen.device)
            for name, of_image in zip(batch.image_path, patches, strict=True):
                rows = self._patches.rows_of(name)
                bank[place[rows][chosen[rows]]] = of_image[chosen[rows]]
                found += 1
        if found * self._patches.per_image != len(chosen) or bank.isnan().any():
            raise DetectorError(
                "PatchCore went through its training images twice and did not find the same ones. Their names must "
                "differ and their loader must not drop or alter any; or raise kept_gb to keep all patches in memory."
            )
        return bank
