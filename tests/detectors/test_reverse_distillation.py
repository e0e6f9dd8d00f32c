"""Reverse Distillation: anomalib's results, the specified sizes, the weights asked for, repeatable training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.engine import Engine
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
from anomalib.models.image.reverse_distillation.torch_model import (
    ReverseDistillationModel as AnomalibReverseDistillationModel,
)

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.predict import predict
from shopfloor.detectors.reverse_distillation import ReverseDistillation
from shopfloor.detectors.reverse_distillation.torch_model import ReverseDistillationModel
from tests.detectors.image_folders import white_ones_are_found
from tests.detectors.plain_entries import fit, read_weights

S = 64
LAYERS = ["layer1", "layer2", "layer3"]
NETWORK = "resnet18"
WIDE = "wide_resnet50_2.tv_in1k"
DETECTOR: dict[str, Any] = {
    "class_path": "shopfloor.detectors.reverse_distillation.ReverseDistillation",
    "init_args": {"layers": LAYERS},
    "backbone": NETWORK,
    "learning_type": "one_class",
    "batch_size": 4,
    "trainer": {"max_epochs": 2},
}


def part_of(n, seed=0):
    stack = np.random.default_rng(seed).integers(0, 256, (n, S, S, 3), dtype=np.uint8)
    names = [f"{row}.png" for row in range(n)]
    columns = {"row": range(n), "image": names, "label": "good", "defect_type": "good", "domain": "d"}
    return ImagePart(stack, pd.DataFrame(columns))


@pytest.fixture(scope="module")
def weights():
    return read_weights(NETWORK, {"weights": "random"})


@pytest.fixture(scope="module")
def fit_on(weights):
    def run(part, seed=3, **settings):
        return fit(part, {**DETECTOR, **settings}, {}, weights, S, seed)

    return run


@pytest.fixture(scope="module")
def fitted(fit_on):
    return fit_on(part_of(6))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return ReverseDistillationModel(NETWORK, LAYERS, (S, S), pre_trained=False)


def images(n, seed=0, size=S):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def build_on_meta(backbone=WIDE, width=64, size=256):
    with torch.device("meta"):
        return ReverseDistillationModel(backbone, LAYERS, (size, size), pre_trained=False, bottleneck_width=width)


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("width", "expected"), [(64, 39_222_272), (128, 67_277_824)])
def test_numbers_of_parameters_are_the_specified(width, expected):
    model = build_on_meta(width=width)
    assert n_parameters(model.bottleneck) == expected
    assert n_parameters(model.decoder) == 24_917_504


def test_shapes_at_256_are_the_specified():
    model = build_on_meta().train()
    expected = [(1, 256, 64, 64), (1, 512, 32, 32), (1, 1024, 16, 16)]
    encoder_features, decoder_features = model(torch.empty(1, 3, 256, 256, device="meta"))
    assert [tuple(features.shape) for features in encoder_features] == expected
    assert [tuple(features.shape) for features in decoder_features] == expected
    assert model.bottleneck(encoder_features).shape == (1, 2048, 8, 8)


@pytest.mark.parametrize(("backbone", "expansion"), [("resnet18.a1_in1k", 1), ("resnet50", 4)])
@pytest.mark.parametrize("size", [64, 128, 512])
def test_other_networks_and_sizes(backbone, expansion, size):
    model = build_on_meta(backbone, size=size).train()
    encoder_features, decoder_features = model(torch.empty(2, 3, size, size, device="meta"))
    expected = [(2, 64 * 2**n * expansion, size // 2 ** (n + 2), size // 2 ** (n + 2)) for n in range(3)]
    assert [tuple(features.shape) for features in encoder_features] == expected
    assert [tuple(features.shape) for features in decoder_features] == expected
    assert model.eval()(torch.empty(2, 3, size, size, device="meta")).anomaly_map.shape == (2, 1, size, size)


def test_part_of_the_bottleneck_is_never_used():
    bottleneck = ReverseDistillationModel("resnet50", LAYERS, (S, S), pre_trained=False).bottleneck
    features = [torch.rand(2, 256 * 2**n, 16 // 2**n, 16 // 2**n) for n in range(3)]
    bottleneck(features).sum().backward()
    assert sum(p.numel() for p in bottleneck.parameters() if p.grad is None) == 8_392_704


@pytest.mark.parametrize(
    ("backbone", "tag"),
    [
        (WIDE, "tv_in1k"),
        ("wide_resnet50_2.tv2_in1k", "tv2_in1k"),
        ("wide_resnet50_2", "racm_in1k"),
        ("resnet18.tv_in1k", "tv_in1k"),
    ],
)
def test_encoder_has_the_tag_that_was_asked_for(backbone, tag):
    with torch.device("meta"):
        encoder = ReverseDistillationModel(backbone, LAYERS, (S, S), pre_trained=False).encoder
    resolved = encoder.feature_extractor.pretrained_cfg
    assert (resolved["architecture"], resolved["tag"]) == (backbone.partition(".")[0], tag)


def test_default_is_the_benchmarks(monkeypatch):
    asked: dict[str, Any] = {}

    def note(self, backbone, layers, pre_trained):
        torch.nn.Module.__init__(self)
        asked.update(backbone=backbone, layers=list(layers), pre_trained=pre_trained)

    monkeypatch.setattr("anomalib.models.components.TimmFeatureExtractor.__init__", note)
    detector = ReverseDistillation(post_processor=False, evaluator=False, visualizer=False)
    assert asked == {"backbone": WIDE, "layers": LAYERS, "pre_trained": True}
    assert n_parameters(detector.model.bottleneck) == 39_222_272


def test_given_weights_are_in_the_encoder(fitted, weights):
    prefix = "model.encoder.feature_extractor."
    state = fitted[0]["state_dict"]
    encoder = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    assert len(encoder) > 80
    assert all(torch.equal(tensor, weights[key]) for key, tensor in encoder.items())  # also after training


def test_same_results_as_anomalibs():
    torch.manual_seed(5)
    theirs = AnomalibReverseDistillationModel(
        NETWORK, (S, S), LAYERS, AnomalyMapGenerationMode.ADD, pre_trained=False
    ).eval()
    torch.manual_seed(5)
    ours = ReverseDistillationModel(NETWORK, LAYERS, (S, S), pre_trained=False).eval()
    theirs_state, ours_state = theirs.state_dict(), ours.state_dict()
    assert theirs_state.keys() == ours_state.keys()
    assert all(torch.equal(ours_state[key], tensor) for key, tensor in theirs_state.items())
    with torch.inference_mode():
        expected, result = theirs(images(2)), ours(images(2))
        assert torch.equal(result.anomaly_map, expected.anomaly_map)
        assert torch.equal(result.pred_score, expected.pred_score[:, 0])
        for expected_features, features in zip(theirs.train()(images(2)), ours.train()(images(2)), strict=True):
            assert all(map(torch.equal, features, expected_features))


def cosine(a, b):
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_loss_is_the_cosine_of_whole_maps():
    rng = np.random.default_rng(0)
    encoder_features, decoder_features = (
        [rng.normal(1, 1, (2, channels, side, side)) for channels, side in ((3, 4), (5, 2))] for _ in range(2)
    )
    expected = per_pixel = 0.0
    for a, b in zip(encoder_features, decoder_features, strict=True):
        expected += np.mean([1 - cosine(a[image], b[image]) for image in range(2)])
        rows, columns = range(a.shape[2]), range(a.shape[3])
        per_pixel += np.mean(
            [1 - cosine(a[n, :, y, x], b[n, :, y, x]) for n in range(2) for y in rows for x in columns]
        )
    detector = ReverseDistillation("resnet18", pre_trained=False, evaluator=False, visualizer=False)
    tensors = ([torch.from_numpy(a) for a in features] for features in (encoder_features, decoder_features))
    loss = float(detector.loss(*tensors))
    assert loss == pytest.approx(expected, abs=1e-9)
    assert abs(loss - per_pixel) > 0.01


def enlarge(small_map, size):
    """Bilinear interpolation that keeps the corners in place."""
    positions = np.linspace(0, len(small_map) - 1, size)
    low = np.minimum(positions.astype(int), len(small_map) - 2)
    part = positions - low
    matrix = np.zeros((size, len(small_map)))
    matrix[np.arange(size), low] = 1 - part
    matrix[np.arange(size), low + 1] += part
    return matrix @ small_map @ matrix.T


def blur(image, sigma=4, radius=16):
    """Gaussian smoothing; the image is mirrored at its edges without the edge pixel."""
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(image, radius, mode="reflect")
    rows = sum(k * padded[radius + o : radius + o + len(image)] for k, o in zip(kernel, offsets, strict=True))
    return sum(k * rows[:, radius + o : radius + o + len(image)] for k, o in zip(kernel, offsets, strict=True))


def test_map_and_score_by_hand(small):
    small.train()
    small.bottleneck.eval(), small.decoder.eval()  # training's features, but with the statistics of a test
    with torch.inference_mode():
        encoder_features, decoder_features = small(images(2, seed=1))
        result = small.eval()(images(2, seed=1))
    expected = np.zeros((2, S, S))
    for a, b in zip(encoder_features, decoder_features, strict=True):
        first, second = a.double().numpy(), b.double().numpy()
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        distances = 1 - (first * second).sum(1) / lengths
        expected += [enlarge(distance, S) for distance in distances]
    expected = np.stack([blur(image) for image in expected])
    np.testing.assert_allclose(result.anomaly_map[:, 0], expected, atol=2e-5)
    assert expected.std() > 1e-3
    assert result.pred_score.shape == (2,)
    np.testing.assert_allclose(result.pred_score, expected.max((1, 2)), atol=2e-5)


def test_optimiser_is_anomalibs_and_leaves_the_encoder_alone():
    detector = ReverseDistillation("resnet18", pre_trained=False, evaluator=False, visualizer=False)
    optimiser = detector.configure_optimizers()
    assert type(optimiser) is torch.optim.Adam
    (group,) = optimiser.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.005, (0.5, 0.99), 0)
    trained = {id(parameter) for parameter in group["params"]}
    assert trained == {id(p) for part in (detector.model.bottleneck, detector.model.decoder) for p in part.parameters()}
    assert not detector.trainer_arguments["gradient_clip_val"]
    assert "max_epochs" not in detector.trainer_arguments


def test_encoder_stays_frozen(small):
    small.train()
    assert small.bottleneck.training
    assert small.decoder.training
    assert not any(module.training for module in small.encoder.modules())
    assert not any(parameter.requires_grad for parameter in small.encoder.parameters())
    before = {key: tensor.clone() for key, tensor in small.encoder.state_dict().items()}
    encoder_features, decoder_features = small(images(2))
    assert not any(features.requires_grad for features in encoder_features)
    assert all(features.requires_grad for features in decoder_features)
    assert all(torch.equal(before[key], tensor) for key, tensor in small.encoder.state_dict().items())


def test_training_lowers_the_loss_and_predictions_are_finite(fit_on):
    checkpoint, record = fit_on(part_of(6), trainer={"max_epochs": 8})
    assert len(record["losses"]["train_loss"]) == 8
    assert record["losses"]["train_loss"][-1] < 0.7 * record["losses"]["train_loss"][0]
    scores, maps, _ = predict(checkpoint, part_of(5, seed=1), batch_size=4)
    assert maps is not None
    assert maps.shape == (5, S, S)
    assert np.isfinite(maps).all()
    np.testing.assert_array_equal(scores["pred_score"], maps.max((1, 2)))
    assert scores["pred_score"].nunique() == 5


def test_same_seed_same_bits_other_seed_other_bits(fitted, fit_on):
    state = fitted[0]["state_dict"]
    again = fit_on(part_of(6))[0]["state_dict"]
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in state.items())
    key = "model.decoder.layer3.0.conv1.weight"
    assert not torch.equal(fit_on(part_of(6), seed=4, trainer={"max_epochs": 1})[0]["state_dict"][key], state[key])


def test_checkpoint_file_gives_the_same_bits(fitted, tmp_path):
    checkpoint, _ = fitted
    torch.save(checkpoint, tmp_path / "detector.pt")
    loaded = torch.load(tmp_path / "detector.pt", weights_only=True)
    test = part_of(3, seed=1)
    scores, maps, _ = predict(checkpoint, test, batch_size=2)
    scores_again, maps_again, _ = predict(loaded, test, batch_size=2)
    pd.testing.assert_frame_equal(scores, scores_again)
    np.testing.assert_array_equal(maps, maps_again)


def test_results_do_not_depend_on_the_batch_and_one_image_is_enough(fit_on):
    checkpoint, _ = fit_on(part_of(1), batch_size=1, trainer={"max_epochs": 1})
    test = part_of(3, seed=1)
    alone, together = (predict(checkpoint, test, size) for size in (1, 3))
    np.testing.assert_allclose(alone[0]["pred_score"], together[0]["pred_score"], atol=1e-5)
    assert alone[1] is not None
    assert together[1] is not None
    np.testing.assert_allclose(alone[1], together[1], atol=1e-5)


def test_original_width_is_trained_and_read_again(fit_on):
    name = "resnet50"
    detector = {**DETECTOR, "backbone": name, "init_args": {"bottleneck_width": 128}, "trainer": {"max_steps": 1}}
    checkpoint, _ = fit(part_of(2), detector, {}, read_weights(name, {"weights": "random"}), S, 0)
    assert checkpoint["state_dict"]["model.bottleneck.bn_layer.0.conv1.weight"].shape[0] == 2 * 512
    assert np.isfinite(predict(checkpoint, part_of(1), 1)[0]["pred_score"]).all()


def test_anomalibs_engine_trains_it(tmp_path):
    pre_processor = ReverseDistillation.configure_pre_processor((S, S))
    detector = ReverseDistillation(
        "resnet18", pre_trained=False, pre_processor=pre_processor, evaluator=False, visualizer=False
    )
    before = [parameter.detach().clone() for parameter in detector.model.decoder.parameters()]
    data: Any = PartDataModule(part_of(4), batch_size=2)
    data.name = data.category = "parts"
    engine = Engine(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False, max_epochs=1)
    engine.fit(detector, datamodule=data)
    assert not any(map(torch.equal, detector.model.decoder.parameters(), before))


def test_anomalibs_folder_of_image_files(tmp_path):
    torch.manual_seed(0)
    pre_processor = ReverseDistillation.configure_pre_processor((S, S))
    detector = ReverseDistillation(NETWORK, pre_trained=False, pre_processor=pre_processor, visualizer=False)
    assert white_ones_are_found(detector, part_of(14).stack, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "tf_efficientnet_lite0"}, "mirrors a ResNet.*resnet18"),
        ({"layers": ["layer2", "layer3"]}, "first three stages only"),
        ({"layers": ["layer1", "layer2", "layer4"]}, "first three stages only"),
        ({"bottleneck_width": 96}, "Give 64 .* or 128"),
        ({"bottleneck_width": 128}, "'resnet18' has basic blocks. Give 64"),
        ({"pre_processor": False}, "resizes the images"),
        ({"pre_processor": ReverseDistillation.configure_pre_processor((100, 100))}, "multiples of 32"),
        ({"pre_processor": ReverseDistillation.configure_pre_processor((32, 32))}, "64 at least"),
    ],
)
def test_wrong_settings_say_what_to_do(arguments, message):
    with pytest.raises(DetectorError, match=message):
        ReverseDistillation(**{"backbone": "resnet18", "pre_trained": False, **arguments})
