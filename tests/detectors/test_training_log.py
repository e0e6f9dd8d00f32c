"""The log of a training: one line per epoch with what was really used and reached, and an end to what has diverged."""

from __future__ import annotations

import json
import math
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
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR, StepLR
from torchvision.transforms.v2 import Resize

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.building import DetectorError
from tests.detectors.plain_entries import fit

S = 64
N_TRAIN, BATCH_SIZE = 6, 2
STEPS = N_TRAIN // BATCH_SIZE  # per epoch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks as small as these only wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def part_of(n, bad=(), first=0):
    names = [f"{row:03}.png" for row in range(first, first + n)]
    label = ["bad" if row in bad else "good" for row in range(n)]
    table = pd.DataFrame({"row": range(n), "image": names, "label": label, "defect_type": label, "domain": "d"})
    return ImagePart(np.random.default_rng(first).integers(0, 256, (n, S, S, 3), dtype=np.uint8), table)


@pytest.fixture(scope="module")
def train():
    return part_of(N_TRAIN)


class Score(nn.Module):
    """The least that can be trained and predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return InferenceBatch(pred_score=self.weight * images.mean((1, 2, 3)))


class Stub(AnomalibModule):
    """What the small detectors of this file have in common; the weight stays at 1, losses are as each says."""

    model: Score
    learning_type = LearningType.ONE_CLASS
    trainer_arguments: dict[str, Any] = {}

    def __init__(self) -> None:
        super().__init__()
        self.model = Score()

    @staticmethod
    def configure_pre_processor(image_size=None):
        return PreProcessor(Resize(image_size or (S, S)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def loss_of(self, value):
        """A loss of this value whose gradient is that of the weight."""
        return self.model.weight.sum() * 0 + value


def fit_stub(name, train, epochs=2, validation=None, **init_args):
    detector = {
        "class_path": f"{__name__}.{name}",
        "init_args": init_args,
        "learning_type": "one_class",
        "batch_size": BATCH_SIZE,
        "trainer": {"max_epochs": epochs, "enable_progress_bar": False},
    }
    return fit(train, detector, None, None, S, 5, validation=validation)[1]


# Losses


class Counting(Stub):
    """Its loss is the number of the step, from 0 on; it logs in every way that Lightning knows."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def training_step(self, batch, batch_idx):
        value, self.steps = float(self.steps), self.steps + 1
        self.log("train_loss", value, on_step=False, on_epoch=True, batch_size=BATCH_SIZE)
        self.log("both_loss", 10 * value, on_step=True, on_epoch=True, batch_size=BATCH_SIZE)
        self.log("accuracy", value, on_step=False, on_epoch=True, batch_size=BATCH_SIZE)
        return self.loss_of(value)


def test_lines_hold_the_mean_loss_of_each_epoch_counted_from_1(train):
    record = fit_stub("Counting", train, epochs=3)
    log = record["log"]
    assert [line["epoch"] for line in log] == [1, 2, 3]
    assert [line["train_loss"] for line in log] == [1, 4, 7]  # means of steps 0..2, 3..5, 6..8
    assert [line["both_loss"] for line in log] == [10, 40, 70]
    assert set(log[0]) == {"epoch", "seconds", "learning_rate", "train_loss", "both_loss"}
    assert record["losses"] == {"train_loss": [1, 4, 7], "both_loss": [10, 40, 70]}


def test_log_is_made_of_plain_values(train):
    log = fit_stub("Counting", train)["log"]
    assert json.loads(json.dumps(log)) == log


class Sleeping(Stub):
    """Takes its time in the first epoch."""

    def training_step(self, batch, batch_idx):
        if self.current_epoch == 0 and batch_idx == 0:
            import time

            time.sleep(0.5)
        return self.loss_of(1.0)


def test_seconds_are_those_of_the_epoch_alone(train):
    record = fit_stub("Sleeping", train, epochs=3)
    first, *later = (line["seconds"] for line in record["log"])
    assert first >= 0.5
    assert all(0 < seconds < 0.5 for seconds in later)
    assert sum([first, *later]) <= record["fit_seconds"]


class Changing(Stub):
    """Logs one loss in its first epoch and another one from the second on."""

    def training_step(self, batch, batch_idx):
        name = "warmup_loss" if self.current_epoch == 0 else "main_loss"
        self.log(name, float(self.current_epoch), on_step=False, on_epoch=True, batch_size=BATCH_SIZE)
        return self.loss_of(1.0)


def test_loss_that_is_no_longer_logged_is_not_repeated(train):
    record = fit_stub("Changing", train, epochs=3)
    assert [{name for name in line if "loss" in name} for line in record["log"]] == [
        {"warmup_loss"},
        {"main_loss"},
        {"main_loss"},
    ]
    assert record["losses"] == {"warmup_loss": [0], "main_loss": [1, 2]}


class AtTheEnd(Stub):
    """Logs its loss where an epoch ends, as detectors do that collect over it."""

    def training_step(self, batch, batch_idx):
        return self.loss_of(1.0)

    def on_train_epoch_end(self):
        self.log("train_loss", float(self.current_epoch + 1))


def test_loss_that_is_logged_at_the_end_of_an_epoch_stands_in_its_line(train):
    log = fit_stub("AtTheEnd", train)["log"]
    assert [line.get("train_loss") for line in log] == [1, 2]


class Silent(Stub):
    """Trains, but logs nothing."""

    def training_step(self, batch, batch_idx):
        return self.loss_of(1.0)


class MemoryBank(Stub):
    """Learns without optimiser and without loss."""

    trainer_arguments = {"max_epochs": 1}

    def training_step(self, batch, batch_idx):
        return torch.tensor(0.0, requires_grad=True)

    def configure_optimizers(self):
        return None


@pytest.mark.parametrize("name", ["Silent", "MemoryBank"])
def test_detector_without_losses_has_lines_without_them(name, train):
    record = fit_stub(name, train, epochs=2)
    assert [line["epoch"] for line in record["log"]] == [1, 2]
    wanted = {"epoch", "seconds", "learning_rate"} if name == "Silent" else {"epoch", "seconds"}
    assert all(set(line) == wanted for line in record["log"])
    assert record["losses"] == {}


def test_what_is_watched_on_validation_images_is_no_loss_of_the_training(train):
    """The watch logs its values under a prefix of its own."""
    validation = part_of(4, bad=(1, 3), first=100)
    log = fit_stub("Counting", train, validation=validation)["log"]
    assert set(log[0]) == {"epoch", "seconds", "learning_rate", "train_loss", "both_loss"}


# Learning rates


class Scheduled(Stub):
    """Plain gradient descent with one of several schedules; remembers the rate of each step, as a loss."""

    def __init__(self, schedule: str) -> None:
        super().__init__()
        self.schedule = schedule

    def training_step(self, batch, batch_idx):
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("rate_in_loss", rate, on_step=False, on_epoch=True, batch_size=BATCH_SIZE)
        return self.loss_of(1.0)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.8)
        if self.schedule == "epochs":
            return [optimizer], [StepLR(optimizer, 1, gamma=0.5)]
        if self.schedule == "milestone":
            return [optimizer], [MultiStepLR(optimizer, [2], gamma=0.25)]
        if self.schedule == "steps":
            decay = LambdaLR(optimizer, lambda step: 1 - step / (4 * STEPS))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}
        return optimizer


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("none", [0.8, 0.8, 0.8, 0.8]),
        ("epochs", [0.8, 0.4, 0.2, 0.1]),
        ("milestone", [0.8, 0.8, 0.2, 0.2]),
    ],
)
def test_learning_rate_is_the_one_that_the_epoch_was_trained_with(schedule, expected, train):
    log = fit_stub("Scheduled", train, epochs=4, schedule=schedule)["log"]
    assert [line["rate_in_loss"] for line in log] == pytest.approx(expected)  # the schedule as worked out by hand
    assert [line["learning_rate"] for line in log] == pytest.approx(expected)


def test_learning_rate_that_falls_in_each_step_is_one_of_the_last_step_of_the_epoch(train):
    log = fit_stub("Scheduled", train, epochs=3, schedule="steps")["log"]
    last_steps = [0.8 * (1 - (STEPS * epoch - 1) / (4 * STEPS)) for epoch in (1, 2, 3)]
    after_them = [0.8 * (1 - STEPS * epoch / (4 * STEPS)) for epoch in (1, 2, 3)]
    rates = [line["learning_rate"] for line in log]
    assert rates == pytest.approx(last_steps) or rates == pytest.approx(after_them)


class TwoOptimisers(Stub):
    """Steps by hand: a discriminator beside the network, each with a rate of its own."""

    def __init__(self, nan_in_epoch: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Parameter(torch.ones(1))
        self.nan_in_epoch = nan_in_epoch

    def training_step(self, batch, batch_idx):
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
            self.manual_backward(self.model.weight.sum() + self.other.sum())
            optimizer.step()
        diverged = self.current_epoch + 1 == self.nan_in_epoch
        for name in ("train_loss", "discriminator_loss"):
            value = math.nan if diverged and name == "discriminator_loss" else 0.125
            self.log(name, value, on_step=False, on_epoch=True, batch_size=BATCH_SIZE)

    def on_train_epoch_end(self):
        self.trainer.optimizers[1].param_groups[0]["lr"] /= 10  # as the old learning rate schedules are written

    def configure_optimizers(self):
        groups = [{"params": [self.model.weight], "lr": 1e-3}]
        return [torch.optim.SGD(groups, lr=1.0), torch.optim.Adam([self.other], lr=0.02)]


def test_each_optimiser_has_its_learning_rate(train):
    log = fit_stub("TwoOptimisers", train)["log"]
    assert [line["learning_rate"] for line in log] == pytest.approx([1e-3, 1e-3])
    assert [line["learning_rate_2"] for line in log] == pytest.approx([0.02, 0.002])
    assert all("learning_rate_3" not in line and "learning_rate_1" not in line for line in log)


def test_second_learning_rate_is_no_loss(train):
    assert set(fit_stub("TwoOptimisers", train)["losses"]) == {"train_loss", "discriminator_loss"}


# Divergence


def test_nan_that_is_logged_only_ends_a_training_with_manual_steps_at_the_end_of_its_epoch(train):
    with pytest.raises(DetectorError) as caught:
        fit_stub("TwoOptimisers", train, epochs=5, nan_in_epoch=3)
    message = caught.value.message
    assert message.startswith("Detector TwoOptimisers, epoch 3, discriminator_loss is nan.")
    assert "Last good epoch 2:" in message
    for good in ("learning_rate 0.001", "learning_rate_2 0.002", "train_loss 0.125", "discriminator_loss 0.125"):
        assert good in message


class Diverging(Stub):
    """Its loss is 0.5 until a step of the last epoch, there it is what it is told."""

    steps: list[tuple[int, int]] = []

    def __init__(self, value: str, epoch: int, step: int, as_dict: bool = False) -> None:
        super().__init__()
        self.value, self.when, self.as_dict = float(value), (epoch, step), as_dict

    def training_step(self, batch, batch_idx):
        here = (self.current_epoch + 1, batch_idx + 1)
        Diverging.steps.append(here)
        loss = self.loss_of(self.value if here == self.when else 0.5)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=BATCH_SIZE)
        return {"loss": loss, "more": 1} if self.as_dict else loss


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_loss_that_is_not_finite_ends_the_training_in_its_step(value, as_dict, train, monkeypatch):
    monkeypatch.setattr(Diverging, "steps", [])
    with pytest.raises(DetectorError) as caught:
        fit_stub("Diverging", train, epochs=4, value=value, epoch=2, step=2, as_dict=as_dict)
    message = caught.value.message
    assert message.startswith(f"Detector Diverging, epoch 2, step 2: the loss is {value}.")
    assert "Last good epoch 1: learning_rate 0, train_loss 0.5." in message
    assert "seconds" not in message
    for advice in ("lower the learning rate", "trainer.gradient_clip_val", "full precision"):
        assert advice in message
    assert Diverging.steps[-1] == (2, 2)


def test_first_epoch_has_no_good_one_before_it(train):
    with pytest.raises(DetectorError, match=r"epoch 1, step 1: the loss is nan\. No epoch was finished before\."):
        fit_stub("Diverging", train, value="nan", epoch=1, step=1)


class NanBesides(Stub):
    """Something that is no loss cannot be computed, which is not the training's end."""

    def training_step(self, batch, batch_idx):
        self.log("accuracy", math.nan, on_step=False, on_epoch=True, batch_size=BATCH_SIZE)
        self.log("train_loss", 1e30, on_step=False, on_epoch=True, batch_size=BATCH_SIZE)
        return self.loss_of(1e30)


def test_large_loss_and_other_values_end_nothing(train):
    assert [line["train_loss"] for line in fit_stub("NanBesides", train)["log"]] == pytest.approx([1e30, 1e30])


class Skipping(Stub):
    """Skips a step, as Lightning allows by giving nothing back."""

    def training_step(self, batch, batch_idx):
        return None if batch_idx == 1 else self.loss_of(1.0)


def test_skipped_step_is_no_failure(train):
    assert len(fit_stub("Skipping", train)["log"]) == 2
