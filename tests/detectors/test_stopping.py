"""Early stopping: by raw scores or by the loss on good images, at the right epoch, and nobody disturbs the training."""

from __future__ import annotations

import json
import logging
import math
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torch import nn
from torchvision.transforms.v2 import Resize

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.predict import predict
from shopfloor.detectors.stopping import Twin
from shopfloor.detectors.stopping_rule import StoppingRule
from shopfloor.metrics import image_auroc
from shopfloor.planning.errors import GridError
from shopfloor.planning.settings import read_settings
from tests.detectors.plain_entries import fit, read_weights

S = 64
N_TRAIN, N_GOOD, N_BAD = 8, 10, 4
RANDOM = {"weights": "random"}
AUROC = {"monitor": "image_auroc", "patience": 2}
LOSS = {"monitor": "good_loss", "patience": 2}
NAN = math.nan


def part_of(stack, rows, bad=()):
    label = ["bad" if row in bad else "good" for row in rows]
    names = [f"{row:03}.png" for row in rows]
    table = pd.DataFrame({"row": rows, "image": names, "label": label, "defect_type": label, "domain": "d"})
    return ImagePart(stack, table.set_index(table["row"] + 100))  # any index: only positions count


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks as small as these only wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stack():
    """Smooth random images, the last ones with a square that is a little darker."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (N_TRAIN + N_GOOD + N_BAD, 3, 8, 8)))
    images = nn.functional.interpolate(coarse, (S, S), mode="bicubic").clamp(0, 255)
    images[-N_BAD:, :, 16:32, 16:32] *= 0.8
    return images.permute(0, 2, 3, 1).byte().numpy()


@pytest.fixture(scope="module")
def train(stack):
    return part_of(stack, range(N_TRAIN))


@pytest.fixture(scope="module")
def validation(stack):
    """Good images between bad ones."""
    *good, a, b, c, d = range(N_TRAIN, len(stack))
    return part_of(stack, [a, b, *good, c, d], bad=(a, b, c, d))


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same_bits(one, other):
    ours, theirs = one["state_dict"], other["state_dict"]
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


class Stub(AnomalibModule):
    """What the small detectors of this file have in common: images in [0, 1] as they are, plain gradient descent."""

    learning_type = LearningType.ONE_CLASS
    trainer_arguments: dict[str, Any] = {}
    model: Any
    lr = 0.25

    @staticmethod
    def configure_pre_processor(image_size=None):
        return PreProcessor(Resize(image_size or (S, S)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def stub(name, epochs, batch_size=3, trainer=None, **init_args):
    return {
        "class_path": f"{__name__}.{name}",
        "init_args": init_args,
        "learning_type": "one_class",
        "batch_size": batch_size,
        "trainer": {"max_epochs": epochs, "enable_progress_bar": False, **(trainer or {})},
    }


def fit_stub(detector, train, validation=None, stopping=None):
    return fit(train, detector, None, None, S, 5, validation=validation, stopping=stopping)


# A detector of which every AUROC is known


class Scripted(Stub):
    """The score is the brightness, but that of the white image is above as many others as the script says.

    Epochs are counted where memory banks are filled: in the detector's own hook at the end of an epoch.
    """

    def __init__(self, aurocs: list[float]) -> None:
        super().__init__()
        self.model = _ScriptedScores(aurocs)

    def training_step(self, batch, batch_idx):
        return self.model.weight.square().sum()

    def on_train_epoch_end(self):
        self.model.epoch += 1


class _ScriptedScores(nn.Module):
    epoch: torch.Tensor

    def __init__(self, aurocs: list[float]) -> None:
        super().__init__()
        self.aurocs = aurocs
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("epoch", torch.tensor(0))

    def forward(self, images):
        assert not self.training
        brightness = 255 * images.mean((1, 2, 3))
        above_share = 100 * self.aurocs[int(self.epoch) - 1] - 5
        return InferenceBatch(pred_score=torch.where(brightness > 254, above_share, brightness))


@pytest.fixture(scope="module")
def scale():
    """Good images of brightness 0, 10 ... 90 and a white bad one, which is above 4 of 10 for an AUROC of 0.4."""
    brightness = np.array([5, *range(0, 100, 10), 255], np.uint8)
    stack = np.tile(brightness[:, None, None, None], (1, S, S, 3))
    return part_of(stack, [0]), part_of(stack, range(1, 12), bad=[11])


def fit_scripted(scale, aurocs, stopping, **trainer):
    train, validation = scale
    return fit_stub(stub("Scripted", len(aurocs), trainer=trainer, aurocs=aurocs), train, validation, stopping)


@pytest.mark.parametrize(
    ("aurocs", "rule", "best", "stopped"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {"patience": 1}, 6, 6),  # better forever
        ([0.1, 0.2, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4], {"patience": 3}, 3, 6),
        ([0.1, 0.2, 0.9, 0.8, 0.7, 1.0, 0.5, 0.4], {"patience": 4}, 6, 8),  # better at the last moment but one
        ([0.1, 0.2, 0.9, 0.8, 0.7, 0.6, 1.0, 0.4], {"patience": 3}, 3, 6),  # better too late
        ([0.3, 0.7, 0.7, 0.7, 0.8, 0.8], {"patience": 3}, 5, 6),  # a tie is not better: the first of equal ones
        ([0.3, 0.7, 0.7, 0.7, 0.8, 0.8], {"patience": 2}, 2, 4),
        ([0.5] * 6, {"patience": 4}, 1, 5),
        ([0.0] * 4, {"patience": 2}, 1, 3),
        ([0.9, 0.1, 0.1], {"patience": 10}, 1, 3),  # patience beyond the full length
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {"patience": 2, "min_delta": 0.15}, 5, 6),  # better: 0.1, 0.3, 0.5
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {"patience": 1, "min_delta": 0.15}, 1, 2),
    ],
)
def test_best_and_last_epoch(scale, aurocs, rule, best, stopped):
    checkpoint, record = fit_scripted(scale, aurocs, {"monitor": "image_auroc", **rule})
    assert record["validation"]["image_auroc"] == pytest.approx(aurocs[:stopped], abs=1e-12)
    assert (record["best_epoch"], record["stopped_epoch"], record["epochs"]) == (best, stopped, stopped)
    assert checkpoint["state_dict"]["model.epoch"] == best
    assert checkpoint["state_dict"]["model.weight"] == 0.5**best
    scores = predict(checkpoint, scale[1], batch_size=4)[0]["pred_score"]
    assert image_auroc(scores, scale[1].is_bad) == record["validation"]["image_auroc"][best - 1]
    assert json.loads(json.dumps(record)) == record


def test_small_differences_count(scale, monkeypatch):
    """A step of the AUROC is 1 / (good images x bad images); 32 bits would take it for a tie."""
    values = iter([0.5, 0.5 + 1e-9, 0.5 + 2e-9, 0.5 + 2e-9])
    monkeypatch.setattr(Twin, "image_auroc", lambda _: next(values))
    record = fit_scripted(scale, [0.5] * 4, {**AUROC, "patience": 1})[1]
    assert (record["best_epoch"], record["stopped_epoch"]) == (3, 4)


def test_patience_counts_checks(scale):
    aurocs = [0.1, 0.9, 0.2, 0.8, 1.0, 0.7, 1.0, 0.8, 1.0, 0.9]
    checkpoint, record = fit_scripted(scale, aurocs, {**AUROC, "every_n_epochs": 2})
    assert record["validation"]["image_auroc"] == [None, 0.9, None, 0.8, None, 0.7]
    assert (record["best_epoch"], record["stopped_epoch"]) == (2, 6)
    assert checkpoint["state_dict"]["model.epoch"] == 2


def test_full_length_records_the_curve_and_keeps_the_last_state(scale):
    checkpoint, record = fit_scripted(scale, [0.2, 0.9, 0.9, 0.1], None)
    assert record["validation"]["image_auroc"] == [0.2, 0.9, 0.9, 0.1]
    assert (record["best_epoch"], record["stopped_epoch"], record["epochs"]) == (2, 4, 4)
    assert (record["n_validation"], record["n_validation_bad"]) == (11, 1)
    assert 0 < record["validation_seconds"] < record["fit_seconds"]
    assert checkpoint["state_dict"]["model.epoch"] == 4


def test_least_number_of_epochs_in_the_settings_is_kept(scale):
    checkpoint, record = fit_scripted(scale, [0.9, 0.1, 0.1, 0.1, 1.0, 0.2], AUROC, min_epochs=5)
    assert (record["best_epoch"], record["stopped_epoch"]) == (5, 5)
    assert checkpoint["state_dict"]["model.epoch"] == 5


def test_training_that_is_counted_in_steps(train, validation):
    detector = stub("Restless", None, trainer={"max_steps": 7})  # 2 epochs of 3 batches, and 1 batch more
    plain = fit_stub(detector, train)
    watched = fit_stub(detector, train, validation)
    assert same_bits(plain[0], watched[0])
    assert watched[1]["stopped_epoch"] == watched[1]["epochs"] == plain[1]["epochs"]
    assert len(watched[1]["validation"]["image_auroc"]) == watched[1]["epochs"]
    with pytest.raises(DetectorError, match="before the first check"):
        fit_stub(detector, train, validation, {**AUROC, "every_n_epochs": 9})


@pytest.mark.parametrize("stopping", [AUROC, LOSS, None])
def test_score_that_is_no_number_is_an_error_and_never_the_best(scale, stopping):
    with pytest.raises(DetectorError, match=r"Scripted, epoch 3: .*no AUROC.*NaN.*diverged"):
        fit_scripted(scale, [0.2, 0.4, NAN, 0.6], stopping)


# A detector of which every loss is known


class Learner(Stub):
    """Learns the mean brightness of images. Its loss: how far each is from what it learnt, squared.

    ``offset`` is added from the third epoch on; it changes no gradient. With ``spared`` images in a batch it is not.
    """

    def __init__(self, offset: float = 0.0, spared: int = 0) -> None:
        super().__init__()
        self.model = _Deviation()
        self.offset = offset
        self.spared = spared

    def training_step(self, batch):  # without the batch's number, as in anomalib's Dsr
        assert self.training
        assert not batch.gt_label.any()
        assert self.trainer.max_epochs
        deviation = self.model.deviation(batch.image)
        deviation.register_hook(lambda gradient: gradient)  # needs gradients switched on, as in anomalib's Dinomaly
        loss = deviation.square().mean()
        if self.current_epoch >= 2 and len(batch.image) != self.spared:
            loss = loss + self.offset
        self.log("train_loss", loss)
        return {"loss": loss}


class _Deviation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.learnt = nn.Parameter(torch.tensor(2.0))

    def deviation(self, images):
        return images.mean((1, 2, 3)) - self.learnt

    def forward(self, images):
        return InferenceBatch(pred_score=self.deviation(images).abs())


def expected_losses(train, validation, epochs):
    """The same by hand, for training batches that hold all images."""
    brightness, held_out = ((np.stack(list(part)) / 255).mean((1, 2, 3)) for part in (train, validation))
    learnt, losses = 2.0, []
    for _ in range(epochs):
        learnt -= 0.25 * 2 * (learnt - brightness.mean())
        losses.append(((held_out[~validation.is_bad] - learnt) ** 2).mean())
    return losses


def test_good_loss_is_the_training_loss_on_the_good_images(train, validation):
    assert N_GOOD % N_TRAIN  # the last validation batch is smaller than the others
    detector = stub("Learner", 6, batch_size=N_TRAIN)
    checkpoint, record = fit_stub(detector, train, validation, LOSS)
    expected = expected_losses(train, validation, 6)
    assert record["validation"]["good_loss"] == pytest.approx(expected, rel=1e-5)
    assert sorted(expected, reverse=True) == expected
    assert (record["best_epoch"], record["stopped_epoch"]) == (6, 6)
    alone = fit_stub(detector, train)
    assert record["losses"] == alone[1]["losses"]  # not mixed with the loss on validation images
    assert same_bits(checkpoint, alone[0])


def test_good_loss_stops_the_training_without_the_bad_images(train, validation):
    detector = stub("Learner", 9, batch_size=N_TRAIN, offset=1.0)
    checkpoint, record = fit_stub(detector, train, validation, LOSS)
    assert (record["best_epoch"], record["stopped_epoch"]) == (2, 4)
    assert same_bits(checkpoint, fit_stub(stub("Learner", 2, batch_size=N_TRAIN), train)[0])
    bad = validation.table["label"] == "bad"
    other_bad = validation.table.assign(row=validation.table["row"].where(~bad, 0))
    again = fit_stub(detector, train, ImagePart(validation.stack, other_bad), LOSS)
    assert same_bits(checkpoint, again[0])
    assert again[1]["validation"]["good_loss"] == record["validation"]["good_loss"]


def test_loss_that_is_no_number_is_an_error_where_it_decides(train, validation):
    detector = stub("Learner", 4, batch_size=N_TRAIN, offset=NAN, spared=N_TRAIN)
    with pytest.raises(
        DetectorError, match=r"Learner, epoch 3: the loss on the good validation images is nan.*diverged"
    ):
        fit_stub(detector, train, validation, LOSS)
    record = fit_stub(detector, train, validation, AUROC)[1]
    assert record["validation"]["good_loss"][2] is None


def test_training_loss_that_is_no_number_ends_the_training_with_the_last_good_values(train):
    detector = stub("Learner", 4, batch_size=N_TRAIN, offset=NAN)
    good = fit_stub(stub("Learner", 2, batch_size=N_TRAIN), train)[1]["losses"]["train_loss"][-1]
    expected = rf"Learner, epoch 3, step 1: the loss is nan\. Last good epoch 2: learning_rate .*train_loss {good:.6g}"
    with pytest.raises(DetectorError, match=expected):
        fit_stub(detector, train)


# Detectors that would notice if somebody looked at them in training


class Restless(Stub):
    """Draws random numbers wherever it can and keeps statistics of its batches.

    Args:
        noise: Weight of the random numbers in loss and scores.
        lr: Learning rate; 0 keeps the statistics too.
    """

    def __init__(self, noise: float = 0.1, lr: float = 0.05) -> None:
        super().__init__()
        self.model = _Noisy(noise, momentum=0.1 if lr else 0.0)
        self.lr = lr
        _draw()

    def training_step(self, batch, batch_idx):
        return (self.model.features(batch.image) + self.model.noise * _draw()).square().mean()

    def on_train_epoch_end(self):
        _draw()


class _Noisy(nn.Module):
    def __init__(self, noise: float, momentum: float) -> None:
        super().__init__()
        self.noise = noise
        self.norm = nn.BatchNorm2d(3, momentum=momentum)
        self.drop = nn.Dropout(0.5)
        self.weight = nn.Parameter(torch.rand(3, 1, 1))

    def features(self, images):
        return self.drop(self.norm(images)) * self.weight

    def forward(self, images):
        return InferenceBatch(pred_score=self.features(images).amax((1, 2, 3)) + self.noise * _draw())


def _draw():
    return float(torch.rand(1)) + np.random.rand() + random.random()


def random_state():
    return torch.rand(4).tolist(), np.random.rand(4).tolist(), [random.random() for _ in range(4)]


@pytest.mark.parametrize("trainer", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_validation_changes_neither_weights_nor_random_numbers(train, validation, trainer):
    detector = stub("Restless", 4, trainer=trainer)
    plain = fit_stub(detector, train)
    after = random_state()
    watched = fit_stub(detector, train, validation)
    assert random_state() == after
    assert same_bits(plain[0], watched[0])
    assert watched[0]["state_dict"]["model.norm.num_batches_tracked"] == 4 * 3
    assert watched[1].keys() - plain[1].keys() == {
        *("stopped_epoch", "best_epoch", "validation", "validation_seconds", "n_validation", "n_validation_bad")
    }


def test_same_state_has_the_same_values(train, validation):
    record = fit_stub(stub("Restless", 4, lr=0.0), train, validation)[1]
    for curve in record["validation"].values():
        assert curve == [curve[0]] * 4


def test_good_loss_is_that_of_the_state_that_would_be_tested(train, validation):
    """No dropout, and the statistics of the training instead of those of the batch, so no image depends on others."""
    checkpoint, record = fit_stub(stub("Restless", 3, noise=0.0), train, validation)
    state = {key.removeprefix("model."): tensor for key, tensor in checkpoint["state_dict"].items()}
    images = np.stack([validation[i] for i in np.flatnonzero(~validation.is_bad)]).transpose(0, 3, 1, 2) / 255
    mean, variance, scale, shift = (
        state[f"norm.{name}"].numpy()[:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    features = ((images - mean) / np.sqrt(variance + 1e-5) * scale + shift) * state["weight"].numpy()
    assert record["validation"]["good_loss"][-1] == pytest.approx(np.square(features).mean(), rel=1e-5)


class Equipped(Restless):
    """Its training step needs something of the training: a ``tool`` from an earlier hook, or its learning ``rates``."""

    def __init__(self, needs: str) -> None:
        super().__init__()
        self.needs = needs

    def on_train_start(self):
        self.tool = 1.0

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if self.needs == "rates":
            schedule: Any = self.lr_schedulers()
            schedule.step()
        return loss * self.tool

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


class Silent(Restless):
    """Its training step gives no loss."""

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)


class ByItself(Restless):
    """Optimises by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


@pytest.mark.parametrize(
    ("detector", "reason"),
    [
        (stub("Equipped", 3, needs="tool"), "tool"),
        (stub("Equipped", 3, needs="rates"), "schedules"),
        (stub("Silent", 3), "gives no loss"),
        (stub("ByItself", 3), "optimises by itself"),
    ],
)
def test_without_a_loss_only_auroc_can_stop(train, validation, detector, reason, caplog):
    plain = fit_stub(detector, train)
    after = random_state()
    with caplog.at_level(logging.WARNING):
        watched = fit_stub(detector, train, validation)
    assert random_state() == after
    assert same_bits(plain[0], watched[0])
    assert list(watched[1]["validation"]) == ["image_auroc"]
    assert [reason in line for line in caplog.messages if "no loss on validation images" in line] == [True]
    with pytest.raises(DetectorError, match=rf"{detector['class_path']} has no loss.*{reason}.*image_auroc"):
        fit_stub(detector, train, validation, LOSS)


class Scoreless(Stub):
    """Makes maps only."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, 1, 1)

    def training_step(self, batch, batch_idx):
        return self.model(batch.image).square().mean()

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return batch.update(anomaly_map=self.model(batch.image))


def test_detector_without_scores_is_an_error(train, validation):
    with pytest.raises(DetectorError, match="Scoreless gives no pred_score"):
        fit_stub(stub("Scoreless", 2), train, validation)


# Anomalib's detectors

REAL: dict[str, dict[str, Any]] = {
    "stfpm": {"class_path": "anomalib.models.Stfpm", "init_args": {"layers": ["layer1", "layer2"]}},
    "padim": {"class_path": "anomalib.models.Padim", "init_args": {"layers": ["layer1"], "n_features": 20}},
    "patchcore": {
        "class_path": "shopfloor.detectors.patchcore.Patchcore",
        "init_args": {"layers": ["layer1", "layer2"]},
    },
}


def fit_real(name, epochs, train, validation=None, stopping=None):
    trainer = {"max_epochs": epochs, "enable_progress_bar": False}
    common = {"backbone": "resnet10t", "learning_type": "one_class", "batch_size": 4, "trainer": trainer}
    weights = read_weights("resnet10t", RANDOM)
    return fit(train, {**REAL[name], **common}, RANDOM, weights, S, 3, validation=validation, stopping=stopping)


def auroc_of(checkpoint, part):
    return image_auroc(predict(checkpoint, part, batch_size=4)[0]["pred_score"], part.is_bad)


@pytest.fixture(scope="module")
def stfpm(train):
    """Checkpoint and record of trainings of 1, 2 and 3 epochs that nobody watched."""
    return [fit_real("stfpm", epochs, train) for epochs in (1, 2, 3)]


def test_stfpm_watched_to_its_full_length_is_stfpm(stfpm, train, validation, working_directory):
    watched, record = fit_real("stfpm", 3, train, validation)
    assert same_bits(stfpm[-1][0], watched)
    assert record["losses"] == stfpm[-1][1]["losses"]
    assert record["validation"]["image_auroc"] == [auroc_of(state, validation) for state, _ in stfpm]
    first, second, third = record["validation"]["good_loss"]
    assert first > second > third
    assert list(working_directory.iterdir()) == []


@pytest.mark.parametrize(
    ("stopping", "stopped"),
    [
        ({**AUROC, "min_delta": 1.0}, 3),  # no value is better than the first
        ({**LOSS, "patience": 1, "min_delta": 100.0}, 2),
        (LOSS, 3),
    ],
)
def test_stopped_stfpm_is_the_state_after_its_best_epoch(stfpm, train, validation, stopping, stopped):
    checkpoint, record = fit_real("stfpm", 3 if stopping is LOSS else 9, train, validation, stopping)
    assert record["stopped_epoch"] == record["epochs"] == stopped
    assert record["best_epoch"] == (3 if stopping is LOSS else 1)
    assert same_bits(checkpoint, stfpm[record["best_epoch"] - 1][0])


def test_memory_bank_is_watched_once_it_is_filled(train, validation):
    checkpoint, record = fit_real("patchcore", 1, train, validation)
    assert record["validation"] == {"image_auroc": [auroc_of(checkpoint, validation)]}
    assert (record["stopped_epoch"], record["best_epoch"]) == (1, 1)


def test_padim_has_no_loss(train, validation):
    with pytest.raises(DetectorError, match=r"anomalib\.models\.Padim has no loss.*does not learn by a loss"):
        fit_real("padim", 3, train, validation, LOSS)
    record = fit_real("padim", 3, train, validation, AUROC)[1]
    assert record["validation"]["image_auroc"] == [record["validation"]["image_auroc"][0]] * 3
    assert (record["best_epoch"], record["stopped_epoch"]) == (1, 3)


# Refusals


@pytest.mark.parametrize(
    ("stopping", "message"),
    [
        ({"monitor": "image_auroc"}, "patience: expected a whole number of at least 1, found nothing."),
        ({}, r"monitor: expected one of good_loss, image_auroc, found nothing\.\n.*patience: .* found nothing\."),
        ({**AUROC, "patients": 3}, "unknown key patients. Known keys: every_n_epochs, min_delta, monitor, patience."),
        ({**AUROC, "monitor": "pixel_auroc"}, "monitor: 'pixel_auroc' is none of good_loss, image_auroc."),
        ({**AUROC, "patience": 0}, "patience: expected a whole number of at least 1, found 0."),
        ({**AUROC, "patience": 2.5}, "patience: expected a whole number of at least 1, found 2.5."),
        ({**AUROC, "every_n_epochs": True}, "every_n_epochs: expected a whole number of at least 1, found True."),
        ({**AUROC, "min_delta": -0.1}, "min_delta: expected a number of at least 0, found -0.1."),
        ({**AUROC, "min_delta": "0.1"}, "min_delta: expected a number of at least 0, found '0.1'."),
        ({**AUROC, "min_delta": NAN}, "min_delta: expected a number of at least 0, found nan."),
    ],
)
def test_unusable_rules_are_named(stopping, message):
    with pytest.raises(GridError, match=rf"^validation\.stopping\.early(\.|: ){message}"):
        read_settings(StoppingRule, "validation.stopping.early", stopping)


def test_a_rule_that_never_checks_is_refused(train, validation):
    with pytest.raises(DetectorError, match="Restless: a check every 6 epochs never happens in 5"):
        fit_stub(stub("Restless", 5), train, validation, {**AUROC, "every_n_epochs": 6})


def test_detectors_without_epochs_cannot_stop_early(train, validation):
    with pytest.raises(DetectorError, match=r"Restless is trained for 1 epoch.*cannot be stopped early"):
        fit_stub(stub("Restless", 1), train, validation, AUROC)
    with pytest.raises(DetectorError, match=r"Patchcore is trained for 1 epoch"):
        fit_real("patchcore", 1, train, validation, AUROC)


def test_stopping_needs_a_validation_part(train):
    with pytest.raises(DetectorError, match="Restless: stopping needs a validation part"):
        fit_stub(stub("Restless", 5), train, None, AUROC)


@pytest.mark.parametrize("stopping", [AUROC, LOSS, None])
@pytest.mark.parametrize("label", ["good", "bad"])
def test_validation_part_of_one_class_is_refused(train, validation, label, stopping):
    table = validation.table[validation.table["label"] == label]
    with pytest.raises(DetectorError, match=r"AUROC is undefined"):
        fit_stub(stub("Restless", 5), train, ImagePart(validation.stack, table), stopping)


@pytest.mark.parametrize("stopping", [AUROC, None])
def test_image_in_training_and_validation_is_refused(train, validation, stopping):
    table = pd.concat([validation.table, train.table.iloc[[5, 2]]])
    with pytest.raises(DetectorError, match=r"DUPLICATE_TRAIN_VALIDATION: 2 images.*002\.png"):
        fit_stub(stub("Restless", 5), train, ImagePart(validation.stack, table), stopping)


def test_validation_images_of_another_size_are_refused(train, validation):
    smaller = ImagePart(validation.stack[:, :32, :32], validation.table)
    with pytest.raises(DetectorError, match=r"32 x 32.*64 x 64"):
        fit_stub(stub("Restless", 5), train, smaller)
