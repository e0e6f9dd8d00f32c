"""Balanced batches: how many of each label, every image in turn, streams that run on across epochs."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from shopfloor.detectors.balanced_batches import BalancedBatches, EndlessPermutations
from shopfloor.detectors.building import DetectorError

N_GOOD, N_BAD = 50, 3
IS_BAD = np.isin(np.arange(N_GOOD + N_BAD), [0, 20, 52])


def epochs(sampler, n):
    return [list(sampler) for _ in range(n)]


@pytest.mark.parametrize(("good", "bad"), [(32, 16), (24, 24), (4, 0)])
def test_every_batch_has_the_wanted_numbers(good, bad):
    sampler = BalancedBatches(IS_BAD, good, bad, batches=20, seed=0)
    assert len(sampler) == 20
    for epoch in epochs(sampler, 2):
        assert len(epoch) == 20
        for batch in epoch:
            assert len(batch) == good + bad
            assert IS_BAD[batch].sum() == bad


def test_each_stream_is_one_permutation_after_another_across_epochs():
    drawn = np.array([batch for epoch in epochs(BalancedBatches(IS_BAD, 4, 2, 5, seed=0), 15) for batch in epoch])
    for images, numbers in ((drawn[:, :4], np.flatnonzero(~IS_BAD)), (drawn[:, 4:], np.flatnonzero(IS_BAD))):
        stream = images.reshape(-1)
        rounds = stream.reshape(-1, len(numbers))  # 300 draws of 50 good ones, 150 of 3 bad ones
        assert len(rounds) == len(stream) / len(numbers)
        assert (np.sort(rounds) == numbers).all()
        assert len(np.unique(rounds, axis=0)) > 1


def test_without_bad_images_all_slots_are_good():
    batches = list(BalancedBatches(np.zeros(10, bool), 3, 2, batches=4, seed=0))
    assert [len(batch) for batch in batches] == [5] * 4
    assert sorted(number for batch in batches[:2] for number in batch) == list(range(10))


def test_same_seed_same_batches_and_other_seed_others():
    first, again, other = (epochs(BalancedBatches(IS_BAD, 4, 2, 5, seed), 2) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_global_randomness_has_no_part_in_it():
    torch.manual_seed(0)
    first = list(BalancedBatches(IS_BAD, 4, 2, 5, seed=0))
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), expected)
    assert list(BalancedBatches(IS_BAD, 4, 2, 5, seed=0)) == first


def test_good_images_come_in_the_same_order_whatever_the_bad_ones():
    few = BalancedBatches(np.arange(30) >= 29, 4, 2, 5, seed=0)
    many = BalancedBatches(np.arange(40) >= 29, 4, 6, 5, seed=0)
    assert [batch[:4] for batch in few] == [batch[:4] for batch in many]


def test_a_data_loader_takes_them():
    images: Any = torch.arange(len(IS_BAD))
    loader: Any = DataLoader(images, batch_sampler=BalancedBatches(IS_BAD, 6, 2, batches=3, seed=0))
    assert len(loader) == 3
    first, second = (torch.cat(list(loader)).tolist() for _ in range(2))
    expected = epochs(BalancedBatches(IS_BAD, 6, 2, batches=3, seed=0), 2)
    assert [first, second] == [[number for batch in epoch for number in batch] for epoch in expected]


@pytest.mark.parametrize(("good", "bad", "batches"), [(0, 4, 1), (4, -1, 1), (4, 4, 0)])
def test_numbers_too_small_are_refused(good, bad, batches):
    with pytest.raises(DetectorError, match="at least 1 good image"):
        BalancedBatches(IS_BAD, good, bad, batches, seed=0)


def test_good_images_are_needed():
    with pytest.raises(DetectorError, match="all 3 training images are bad"):
        BalancedBatches(np.ones(3, bool), 2, 2, batches=1, seed=0)


def test_endless_permutations_of_one_and_of_none():
    assert list(islice(EndlessPermutations([5]), 3)) == [5, 5, 5]
    with pytest.raises(ValueError, match="nothing"):
        EndlessPermutations([])
