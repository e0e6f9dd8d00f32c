"""Prepared images as Lightning batches: 8-bit values as long as they wait or travel, floats on the device."""

from __future__ import annotations

from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import torch
from anomalib.data import ImageBatch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import to_dtype

from shopfloor.catalog.image_stack import ImagePart


@dataclass
class PartBatch(ImageBatch):
    """anomalib's batch, with what only some detectors look at.

    Attributes:
        foreground: Where the part is and not the background, ``(B, H, W)``, bool; None where that is not known.
    """

    foreground: torch.Tensor | None = None


@dataclass
class StoredBatch:
    """A batch as it is stored.

    It has the attributes of anomalib's ``ImageBatch`` that detectors read when they go through the training images by
    themselves (``for batch in self.trainer.datamodule.train_dataloader()``). Such images are not yet normalised.

    Attributes:
        pixels: Images ``(B, H, W, 3)``, uint8.
        gt_label: Labels ``(B,)``, True for bad images; None where the detector must not know them.
        image_path: Name of each image.
    """

    pixels: torch.Tensor
    gt_label: torch.Tensor | None
    image_path: list[str]

    @property
    def image(self) -> torch.Tensor:
        """Images ``(B, 3, H, W)``, float32 in [0, 1]."""
        return to_dtype(self.pixels.permute(0, 3, 1, 2).contiguous(), torch.float32, scale=True)

    def to(self, device: torch.device) -> StoredBatch:
        """The same batch on another device."""
        gt_label = None if self.gt_label is None else self.gt_label.to(device)
        return StoredBatch(self.pixels.to(device), gt_label, self.image_path)


class PartDataModule(pl.LightningDataModule):
    """One part of a split, for training in random order or for prediction in its own.

    It has no loader under the name that Lightning would validate with: the tested state may depend on other images only
    where a rule of stopping says so (protocol 1 and 4.7), and then it is `shopfloor.detectors.stopping` that looks.

    Args:
        part: Images ``(H, W, 3)``, uint8.
        batch_size: Images per batch; the last batch may be smaller.
        seed: Seed of the order in training.
        num_workers: Processes that read images ahead.
    """

    def __init__(self, part: ImagePart, batch_size: int, seed: int = 0, num_workers: int = 0) -> None:
        super().__init__()
        self.part = part
        # Under these names some of anomalib's models ask for them.
        self.train_batch_size = self.eval_batch_size = batch_size
        self.num_workers = num_workers
        self._order = torch.Generator().manual_seed(seed)

    def train_dataloader(self) -> DataLoader:
        """Batches with labels, newly shuffled in each epoch."""
        images = _Images(self.part, self.part.is_bad)
        return DataLoader(
            images,
            batch_size=self.train_batch_size,
            shuffle=True,
            generator=self._order,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_collate,
        )

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
        return ImageBatch(image=batch.image, gt_label=batch.gt_label, image_path=batch.image_path)


class _Images(Dataset):
    def __init__(self, part: ImagePart, is_bad: np.ndarray | None) -> None:
        self.part = part
        self.is_bad = is_bad
        self.names = part.table["image"].tolist()

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[np.ndarray, bool | None, str]:
        is_bad = None if self.is_bad is None else bool(self.is_bad[index])
        return self.part[index], is_bad, self.names[index]


def _collate(items: list[tuple[np.ndarray, bool | None, str]]) -> StoredBatch:
    pixels, labels, names = zip(*items, strict=True)
    gt_label = None if labels[0] is None else torch.tensor(labels)
    return StoredBatch(torch.from_numpy(np.stack(pixels)), gt_label, list(names))
