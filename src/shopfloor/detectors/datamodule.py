"""Prepared images as Lightning batches: 8-bit values as long as they wait or travel, floats on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from anomalib.data import ImageBatch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import to_dtype

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.balanced_batches import BalancedBatches
from shopfloor.planning.settings import BalanceSettings


class PartBatch(ImageBatch):
    """anomalib's batch, with what only some detectors look at.

    It is no field of the dataclass, because anomalib hands all fields on to classes that know its own only.

    Attributes:
        foreground: Where the part is and not the background, ``(B, H, W)``, bool; None where that is not known.
    """

    def __init__(self, *, foreground: torch.Tensor | None = None, **fields: Any) -> None:
        super().__init__(**fields)
        self.foreground = foreground


@dataclass
class StoredBatch:
    """A batch as it is stored.

    It has the attributes of anomalib's ``ImageBatch`` that detectors read when they go through the training images by
    themselves (``for batch in self.trainer.datamodule.train_dataloader()``). Such images are not yet normalised.

    Attributes:
        pixels: Images ``(B, H, W, 3)``, uint8.
        gt_label: Labels ``(B,)``, True for bad images; None where the detector must not know them.
        image_path: Name of each image.
        foreground: Where the part is ``(B, H, W)``, uint8, 0 or 1; None where that is not known.
    """

    pixels: torch.Tensor
    gt_label: torch.Tensor | None
    image_path: list[str]
    foreground: torch.Tensor | None = None

    @property
    def image(self) -> torch.Tensor:
        """Images ``(B, 3, H, W)``, float32 in [0, 1]."""
        return to_dtype(self.pixels.permute(0, 3, 1, 2).contiguous(), torch.float32, scale=True)

    def to(self, device: torch.device) -> StoredBatch:
        """The same batch on another device."""
        gt_label = None if self.gt_label is None else self.gt_label.to(device)
        foreground = None if self.foreground is None else self.foreground.to(device)
        return StoredBatch(self.pixels.to(device), gt_label, self.image_path, foreground)


class PartDataModule(pl.LightningDataModule):
    """One part of a split, for training in random order or for prediction in its own.

    It has no loader under the name that Lightning would validate with: the tested state may depend on other images only
    where a rule of stopping says so (protocol 1 and 4.7), and then it is `shopfloor.detectors.stopping` that looks.

    Args:
        part: Images ``(H, W, 3)``, uint8.
        batch_size: Images per batch; the last batch may be smaller.
        seed: Seed of the order in training.
        num_workers: Processes that read images ahead.
        balance: Good and bad images per training batch and batches per epoch, drawn over and over; None takes every
            training image once per epoch.
        foreground: Where the part is in each image, ``(N, H, W)``, 0 or 1; None where that is not known.
    """

    def __init__(
        self,
        part: ImagePart,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        balance: BalanceSettings | None = None,
        foreground: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.part = part
        # Under these names some of anomalib's models ask for them.
        self.train_batch_size = self.eval_batch_size = batch_size
        self.num_workers = num_workers
        self._seed = seed
        self._balance = balance
        self._foreground = foreground
        self._order = torch.Generator().manual_seed(seed)

    def train_dataloader(self) -> DataLoader:
        """Batches with labels, newly shuffled in each epoch, or balanced if that was asked for."""
        images = _Images(self.part, self.part.is_bad, self._foreground)
        return DataLoader(
            images,
            **self._order_of_training(),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_collate,
        )

    def _order_of_training(self) -> dict[str, Any]:
        if (balance := self._balance) is None:
            return {"batch_size": self.train_batch_size, "shuffle": True, "generator": self._order}
        numbers = balance.good, balance.bad, balance.batches
        return {"batch_sampler": BalancedBatches(self.part.is_bad, *numbers, self._seed)}

    def predict_dataloader(self) -> DataLoader:
        """Batches without labels, in the part's order."""
        return self._in_order(_Images(self.part, None))

    def labelled_dataloader(self) -> DataLoader:
        """Batches with labels, in the part's order."""
        return self._in_order(_Images(self.part, self.part.is_bad))

    def _in_order(self, images: _Images) -> DataLoader:
        return DataLoader(images, batch_size=self.eval_batch_size, num_workers=self.num_workers, collate_fn=_collate)

    def on_after_batch_transfer(self, batch: StoredBatch, dataloader_idx: int) -> ImageBatch:
        """Makes anomalib's batch, float32 images in [0, 1], on the device the stored batch has arrived on."""
        foreground = None if batch.foreground is None else batch.foreground.bool()
        return PartBatch(image=batch.image, gt_label=batch.gt_label, image_path=batch.image_path, foreground=foreground)


#: Pixels, label (True for bad) if it may be known, name, foreground if there is one.
_Item = tuple[np.ndarray, bool | None, str, np.ndarray | None]


class _Images(Dataset):
    def __init__(self, part: ImagePart, is_bad: np.ndarray | None, foreground: np.ndarray | None = None) -> None:
        self.part = part
        self.is_bad = is_bad
        self.foreground = foreground
        self.names = part.table["image"].tolist()

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> _Item:
        is_bad = None if self.is_bad is None else bool(self.is_bad[index])
        foreground = None if self.foreground is None else self.foreground[index]
        return self.part[index], is_bad, self.names[index], foreground


def _collate(items: list[_Item]) -> StoredBatch:
    pixels, labels, names, masks = zip(*items, strict=True)
    gt_label = None if labels[0] is None else torch.tensor(labels)
    foreground = None if masks[0] is None else torch.from_numpy(np.stack(masks))
    return StoredBatch(torch.from_numpy(np.stack(pixels)), gt_label, list(names), foreground)
