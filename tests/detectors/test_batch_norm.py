"""One image of ones in training mode: what it does to batch norms, by hand and against a network that really trains."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from shopfloor.detectors.batch_norm import show_ones
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.fit import TrainingExtras
from shopfloor.detectors.glass import Glass
from shopfloor.detectors.predict import predict
from tests.detectors import drawn_parts
from tests.detectors.drawn_parts import scratches_stack
from tests.detectors.plain_entries import fit

S = 64
SMALL: dict[str, Any] = {
    "pretrain_embed_dim": 48,
    "target_embed_dim": 48,
    "discriminator_hidden": 16,
    "layers": ["layer1", "layer2"],
}


def test_running_statistics_move_by_a_tenth_worked_by_hand():
    """Of 3 x 3 pixels behind a sum over 3 x 3 neighbours: 4, 6 or 9 ones for corner, edge and middle."""
    layers = nn.Conv2d(3, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1), nn.ReLU(), nn.BatchNorm2d(1)
    network: Any = nn.Sequential(*layers)
    nn.init.constant_(network[0].weight, 1 / 3)
    network[1].running_mean.fill_(2.0)
    network[1].running_var.fill_(5.0)
    show_ones(network, (3, 3))
    counts = np.array([4, 6, 4, 6, 9, 6, 4, 6, 4])
    assert network[1].running_mean.item() == pytest.approx(0.9 * 2 + 0.1 * counts.mean())
    assert network[1].running_var.item() == pytest.approx(0.9 * 5 + 0.1 * counts.var(ddof=1))
    # The next layers get what is normalised by the image's own statistics.
    rectified = np.maximum((counts - counts.mean()) / np.sqrt(counts.var() + 1e-5), 0)
    assert network[3].running_mean.item() == pytest.approx(0.1 * rectified.mean(), rel=1e-5)
    assert network[3].running_var.item() == pytest.approx(0.9 + 0.1 * rectified.var(ddof=1), rel=1e-5)
    assert not any(layer.training for layer in network.modules())


@pytest.mark.parametrize("name", ["test_resnet", "resnet18", "tf_efficientnet_lite0"])
def test_it_is_one_pass_in_training_mode(name):
    torch.manual_seed(0)
    network = timm.create_model(name, features_only=True)
    trained = copy.deepcopy(network).train()
    before = copy.deepcopy(network.state_dict())
    show_ones(network, (64, 64))
    with torch.no_grad():
        trained(torch.ones(1, 3, 64, 64))
    state = network.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in trained.state_dict().items())
    changed = {key.rpartition(".")[2] for key in state if not torch.equal(state[key], before[key])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}


def test_no_other_layer_trains_meanwhile():
    network: Any = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3, momentum=0.25), nn.BatchNorm2d(3, affine=False))
    show_ones(network, (8, 8))
    assert network[1].running_mean.tolist() == [0.25] * 3
    assert network[1].running_var.tolist() == [0.75] * 3


# In GLASS


def glass(sees_ones, seed=0, size=S):
    torch.manual_seed(seed)
    return Glass(
        backbone="test_resnet",
        pre_trained=False,
        **SMALL,
        batch_norm_sees_ones=sees_ones,
        pre_processor=Glass.configure_pre_processor((size, size)) if size else False,
        visualizer=False,
    )


def backbone_of(module):
    extractor = module.model.forward_modules["feature_aggregator"]
    return extractor.feature_extractor


def test_glass_shows_ones_of_the_size_of_its_input_once():
    untouched, moved = backbone_of(glass(False)), backbone_of(glass(True))
    assert untouched.bn1.num_batches_tracked == 0
    assert moved.bn1.num_batches_tracked == 1
    show_ones(untouched, (S, S))
    state = moved.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in untouched.state_dict().items())
    other = backbone_of(glass(True, size=2 * S)).state_dict()  # fewer of its pixels are near the edge
    assert not torch.equal(other["bn1.running_mean"], state["bn1.running_mean"])


def test_size_of_the_input_must_be_known():
    with pytest.raises(DetectorError, match="of which size the image of ones"):
        glass(True, size=None)
    assert backbone_of(glass(False, size=None)).bn1.num_batches_tracked == 0


@pytest.fixture(scope="module")
def parts():
    stack = scratches_stack(4, 4, S)
    return [drawn_parts.part_of(stack, rows, 4) for rows in (range(4), range(2, 8))]


@pytest.fixture(scope="module")
def fitted(parts):
    """Checkpoints without and with ones, of the same weights of the backbone."""
    weights = timm.create_model("test_resnet").state_dict()
    entry = {
        "class_path": "shopfloor.detectors.glass.Glass",
        "backbone": "test_resnet",
        "learning_type": "one_class",
        "batch_size": 2,
        "trainer": {"max_epochs": 1, "enable_progress_bar": False},
    }
    extras = TrainingExtras(textures=np.random.default_rng(0).integers(0, 256, (2, S, S, 3), np.uint8))
    backbone = {"weights": "random"}
    return weights, [
        fit(parts[0], {**entry, "init_args": {**SMALL, "step": 1, "batch_norm_sees_ones": sees_ones}},
            backbone, weights, S, 3, extras=extras)[0]
        for sees_ones in (False, True)
    ]  # fmt: skip


def test_checkpoint_holds_the_statistics_that_ones_have_moved(fitted):
    weights, (without, with_ones) = fitted
    name = "model.forward_modules.feature_aggregator.feature_extractor."
    expected: Any = timm.create_model("test_resnet")
    expected.load_state_dict(weights)
    assert torch.equal(without["state_dict"][f"{name}bn1.running_mean"], expected.bn1.running_mean)
    show_ones(expected, (S, S))
    state = {key.removeprefix(name): value for key, value in with_ones["state_dict"].items() if key.startswith(name)}
    assert len(state) > 20
    assert all(torch.equal(tensor, expected.state_dict()[key]) for key, tensor in state.items())


def test_prediction_from_a_file_sees_the_moved_statistics(fitted, parts, tmp_path):
    """As a later process makes it: ones pass through another untrained network first, and the file says what holds."""
    weights, (without, with_ones) = fitted
    torch.save(with_ones, tmp_path / "checkpoint.pt")
    torch.manual_seed(99)
    scores, maps, _ = predict(torch.load(tmp_path / "checkpoint.pt", weights_only=True), parts[1], 2)
    other_maps = predict(without, parts[1], 2)[1]
    assert maps is not None and other_maps is not None

    module = glass(False).eval()
    heads = {key: value for key, value in with_ones["state_dict"].items() if "forward_modules" not in key}
    module.load_state_dict(heads, strict=False)
    backbone_of(module).load_state_dict({key: weights[key] for key in backbone_of(module).state_dict()})
    show_ones(backbone_of(module), (S, S))
    images = torch.from_numpy(parts[1].stack[2:8]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = module.model(module.pre_processor.transform(images))
    np.testing.assert_allclose(scores["pred_score"], expected.pred_score, rtol=1e-5)
    np.testing.assert_allclose(maps, expected.anomaly_map[:, 0], rtol=1e-5)
    assert np.abs(other_maps - maps).max() > 1e-3
