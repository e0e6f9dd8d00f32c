"""The normal training images, as pseudo anomalies and references are made of them: resized, but not normalised."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Normalize

from shopfloor.detectors.balanced_batches import EndlessPermutations
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.pre_processing import steps_of

_READ_AT_ONCE = 16  # images


@dataclass
class NormalImages:
    """Normal images in main memory.

    Attributes:
        images: One tensor ``(3, S, S)`` each, uint8.
        row_of: Number of each image by its path; empty if there are no paths.
        reference_rows: Endless stream of numbers, for the references of a training.
    """

    images: list[torch.Tensor]
    row_of: dict[str, int]
    reference_rows: EndlessPermutations


def read_normal_images(loader: DataLoader, pre_processor: nn.Module | None) -> NormalImages:
    """Reads each good image of a training loader once, whatever the loader's own order and balance.

    Args:
        loader: The loader of the training.
        pre_processor: anomalib's pre-processor; all its steps are applied but the normalisation.

    Raises:
        DetectorError: If the images come without labels, or if none is good.
    """
    steps = steps_of(pre_processor)
    resize = Compose(geometric) if (geometric := [step for step in steps if not isinstance(step, Normalize)]) else None
    in_order: DataLoader = DataLoader(
        loader.dataset, _READ_AT_ONCE, collate_fn=loader.collate_fn, num_workers=loader.num_workers
    )
    images: list[torch.Tensor] = []
    paths: list[str] = []
    for batch in in_order:
        if batch.gt_label is None:
            raise DetectorError("Dra learns from labels, but the training images come without.")
        good = (~batch.gt_label.bool()).nonzero().flatten().tolist()
        resized = batch.image if resize is None else resize(batch.image)
        images += [resized[number].mul(255).round().clamp(0, 255).byte() for number in good]
        paths += [str(batch.image_path[number]) for number in good if batch.image_path is not None]
    if not images:
        raise DetectorError(
            "Dra needs good images to train on, as references and for pseudo anomalies; there are none."
        )
    row_of = {path: row for row, path in enumerate(paths)}
    return NormalImages(images, row_of, EndlessPermutations(range(len(images))))
