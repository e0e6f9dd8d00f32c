"""The batched greedy k-centre against anomalib's one-by-one sweep and against the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel as AnomalibPatchcoreModel

from shopfloor.detectors.patchcore.coreset import SparseProjection, k_center_greedy
from shopfloor.detectors.patchcore.torch_model import PatchcoreModel
from shopfloor.detectors.patchcore.training_patches import TrainingPatches


def clustered(n_points: int, n_channels: int, seed: int) -> torch.Tensor:
    """Points around 20 centres, as patches are: many alike, some far away."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=5, size=(20, n_channels))
    points = centres[rng.integers(20, size=n_points)] + rng.normal(size=(n_points, n_channels))
    return torch.from_numpy(points.astype(np.float32))


def covering_radius(points: torch.Tensor, chosen: torch.Tensor) -> float:
    return float(torch.cdist(points.double(), points[chosen].double()).amin(1).max())


def seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # from whose global generator anomalib draws


def greedy_by_definition(points: torch.Tensor, size: int, first: int) -> list[int]:
    distances = torch.cdist(points.double(), points.double())
    chosen = [first]
    while len(chosen) < size:
        chosen.append(int(distances[:, chosen].amin(1).argmax()))
    return chosen


@pytest.mark.parametrize("n_channels", [64, 512])  # fewer and more than the 294 columns of the projection
def test_same_set_as_anomalib(n_channels):
    points = clustered(4096, n_channels, seed=n_channels)
    seed_everything(1)
    anomalib_choice = torch.tensor(KCenterGreedy(points, sampling_ratio=400 / 4096).select_coreset_idxs())
    seed_everything(1)
    features = SparseProjection(len(points), points[:1])(points)
    first = int(torch.randint(high=len(features), size=(1,)))
    choice = k_center_greedy(features, 400, first)
    assert choice[0] == anomalib_choice[0]
    assert set(choice.tolist()) == set(anomalib_choice.tolist())
    assert covering_radius(features, choice) == covering_radius(features, anomalib_choice)


def test_projection_keeps_the_distances_of_anomalibs():
    points = clustered(500, 64, seed=0)
    seed_everything(3)
    sampler = KCenterGreedy(points, sampling_ratio=0.01)
    sampler.select_coreset_idxs()
    seed_everything(3)
    features = SparseProjection(len(points), points[:1])(points)
    assert features.shape[1] == 64 < sampler.features.shape[1]
    torch.testing.assert_close(torch.pdist(features), torch.pdist(sampler.features), rtol=1e-4, atol=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 2, 40, 299])
def test_order_of_choice_is_that_of_the_definition(size, seed):
    points = clustered(300, 8, seed)
    assert k_center_greedy(points, size, first=seed).tolist() == greedy_by_definition(points, size, first=seed)


def test_more_points_than_candidates_are_still_chosen_in_order():
    points = clustered(5000, 4, seed=9)
    assert k_center_greedy(points, 60, first=17).tolist() == greedy_by_definition(points, 60, first=17)


def test_whole_set():
    points = clustered(3000, 6, seed=2)
    assert sorted(k_center_greedy(points, 3000, first=5).tolist()) == list(range(3000))


def test_duplicates_come_last_and_none_is_chosen_twice():
    distinct = clustered(50, 6, seed=4) * 10
    points = distinct.repeat(40, 1)  # more duplicates than candidates
    choice = k_center_greedy(points, 1500, first=0)
    assert len(set(choice.tolist())) == 1500
    assert set((choice[:50] % 50).tolist()) == set(range(50))


def test_offset_of_all_points_does_not_matter():
    points = clustered(2000, 16, seed=6)
    moved = points + 1000
    assert k_center_greedy(moved, 100, first=3).tolist() == k_center_greedy(points, 100, first=3).tolist()


@pytest.mark.parametrize("size", [0, 11])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ValueError, match="out of 10 points"):
        k_center_greedy(torch.rand(10, 2), size, first=0)


@pytest.mark.parametrize("n_neighbors", [1, 9])
@pytest.mark.parametrize("bank_size", [9, 1024, 5000])  # less than a block, a whole one, several
def test_nearest_neighbours_are_those_of_brute_force(n_neighbors, bank_size):
    model = PatchcoreModel(["layer1"], "resnet10t", pre_trained=False)
    model.memory_bank = torch.randn(bank_size, 3, generator=torch.Generator().manual_seed(0)) * 10
    queries = torch.randn(1500, 3, generator=torch.Generator().manual_seed(1)) * 10
    distances, locations = model.nearest_neighbors(queries, n_neighbors)
    expected = torch.cdist(queries.double(), model.memory_bank.double())
    expected_distances, expected_locations = expected.topk(n_neighbors, largest=False)
    shape = (1500,) if n_neighbors == 1 else (1500, n_neighbors)
    assert distances.shape == locations.shape == shape
    torch.testing.assert_close(distances.double(), expected_distances.reshape(shape), rtol=0, atol=5e-3)
    same = locations == expected_locations.reshape(shape)
    assert same.float().mean() > 0.999  # where two are equally near up to rounding, either may come first


def test_bank_is_anomalibs_bank():
    batches = clustered(2000, 32, seed=8).split(400)
    model = AnomalibPatchcoreModel(["layer1"], "resnet10t", pre_trained=False)
    model.embedding_store = list(batches)
    seed_everything(2)
    model.subsample_embedding(0.1)
    theirs = {tuple(row) for row in model.memory_bank.tolist()}
    seed_everything(2)
    patches = TrainingPatches(n_images=10, kept_gb=1)
    for number, batch in enumerate(batches):
        patches.add(batch, [f"{number}a", f"{number}b"])
    ours = patches.bank(patches.choose(0.1))
    assert len(theirs) == len(ours) == 200
    assert theirs == {tuple(row) for row in ours.tolist()}
