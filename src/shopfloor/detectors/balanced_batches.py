"""Training batches with a fixed number of good and of bad images, however rare the bad ones are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from shopfloor.detectors.building import DetectorError


class EndlessPermutations(Iterator[int]):
    """Items in random order, over and over: one random permutation of all of them after another.

    Args:
        items: What is drawn from, at least one.
        generator: Source of the randomness; torch's global one if None.

    Raises:
        ValueError: If there is nothing to draw from.
    """

    def __init__(self, items: Sequence[int], generator: torch.Generator | None = None) -> None:
        if not items:
            raise ValueError("There is nothing to permute.")
        self._items = items
        self._generator = generator
        self._ahead: list[int] = []

    def __next__(self) -> int:
        """Draws one item."""
        if not self._ahead:
            self._ahead = torch.randperm(len(self._items), generator=self._generator).tolist()
        return self._items[self._ahead.pop()]


class BalancedBatches(Sampler[list[int]]):
    """Batches of image numbers for a ``DataLoader`` (``batch_sampler``): good images first, then bad ones.

    Good and bad images come from one endless stream each, which run on from epoch to epoch. So a small number of bad
    images is repeated often, and a large number of good ones takes several epochs to pass. Without any bad image all
    slots of a batch are given to good ones (specification of DRA, section 4; specification of DevNet, section 3).

    Args:
        is_bad: Label of each image ``(N,)``, True for bad.
        n_good: Good images per batch, at least 1.
        n_bad: Bad images per batch, at least 0.
        batches: Batches per epoch, at least 1.
        seed: Seed of both streams, at least 0; the order of the good images does not depend on the bad ones.

    Raises:
        DetectorError: If a number is too small, or if no image is good.
    """

    def __init__(self, is_bad: NDArray[np.bool_], n_good: int, n_bad: int, batches: int, seed: int) -> None:
        if n_good < 1 or n_bad < 0 or batches < 1:
            raise DetectorError(
                f"Balanced batches of {n_good} good and {n_bad} bad images, {batches} per epoch, cannot be made. Ask "
                "for at least 1 good image, 0 bad images and 1 batch."
            )
        good, bad = np.flatnonzero(~is_bad).tolist(), np.flatnonzero(is_bad).tolist()
        if not good:
            raise DetectorError(f"Balanced batches need good images, but all {len(is_bad)} training images are bad.")
        if not bad:
            n_good, n_bad = n_good + n_bad, 0
        seeds = np.random.SeedSequence(seed).generate_state(2).tolist()
        of_good, of_bad = (torch.Generator().manual_seed(each) for each in seeds)
        self._streams = [(EndlessPermutations(good, of_good), n_good)]
        if n_bad:
            self._streams.append((EndlessPermutations(bad, of_bad), n_bad))
        self._batches = batches

    def __len__(self) -> int:
        """Batches per epoch."""
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the next epoch."""
        for _ in range(self._batches):
            yield [next(stream) for stream, count in self._streams for _ in range(count)]
