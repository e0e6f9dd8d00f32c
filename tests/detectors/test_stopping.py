"""Early stopping: by raw scores or by the loss on good images, the right epoch, and a training that nobody disturbs."""

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
from shopfloor.detectors.backbones import read_weights
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.fit import fit
from shopfloor.detectors.predict import predict
from shopfloor.metrics import image_auroc

S = 64
N_TRAIN, N_GOOD, N_BAD = 12, 10, 4
RANDOM = {"weights": "random"}
BACKBONE = "resnet10t"
NAN = math.nan


def part_of(stack, rows, bad=()):
    label = ["bad" if row in bad else "good" for row in rows]
    names = [f"{row:03}.png" for row in rows]
    table = pd.DataFrame({"row": rows, "image": names, "label": label, "defect_type": label, "domain": "d"})
    return ImagePart(stack, table.set_index(table["row"] + 100))  # any index: only positions count


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
    return part_of(stack, list(range(N_TRAIN)))


@pytest.fixture(scope="module")
def validation(stack):
    """Bad images between good ones."""
    rows = list(range(N_TRAIN, len(stack)))
    bad = rows[-N_BAD:]
    return part_of(stack, bad[:2] + rows[:-N_BAD] + bad[2:], bad)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stub(name, epochs, batch_size=4, trainer=None, **init_args):
    return {
        "class_path": f"{__name__}.{name}",
        "init_args": init_args,
        "learning_type": "one_class",
        "batch_size": batch_size,
        "trainer": {"max_epochs": epochs, "enable_progress_bar": False, **(trainer or {})},
    }


def same_bits(one, other):
    ours, theirs = one["state_dict"], other["state_dict"]
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


# A detector of which AUROC is known after every epoch


class _Stub(AnomalibModule):
    """What all detectors of this file have in common: images in [0, 1] as they are, plain gradient descent."""

    learning_type = LearningType.ONE_CLASS
    trainer_arguments: dict[str, Any] = {}

    @staticmethod
    def configure_pre_processor(image_size=None):
        return PreProcessor(Resize(image_size))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.25)


class Scripted(_Stub):
    """Its score is the brightness of an image, but that of the white one is far over a given share of the others.

    The epoch is counted where memory banks are filled, in the detector's own hook at the end of an epoch.
    """

    def __init__(self, aurocs: list[float]) -> None:
        super().__init__()
        self.model = _ScriptedScores(aurocs)

    def training_step(self, batch, batch_idx):
        return self.model.weight.square().sum()

    def on_train_epoch_end(self):
        self.model.epoch += 1


class _ScriptedScores(nn.Module):
    def __init__(self, aurocs: list[float]) -> None:
        super().__init__()
        self.aurocs = aurocs
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("epoch", torch.tensor(0))

    def forward(self, images):
        assert not self.training
        brightness = 255 * images.mean((1, 2, 3))
        auroc = self.aurocs[int(self.epoch) - 1]
        return InferenceBatch(pred_score=torch.where(brightness > 254, 100 * auroc - 5, brightness))


@pytest.fixture(scope="module")
def scale():
    """Good images of brightness 0, 10 ... 90 and a white bad one: one above 40 of 100 has an AUROC of exactly 0.4."""
    brightness = [5, *range(0, 100, 10), 255]
    stack = np.zeros((len(brightness), S, S, 3), np.uint8) + np.array(brightness, np.uint8)[:, None, None, None]
    rows = list(range(1, len(brightness)))
    return part_of(stack, [0]), part_of(stack, rows, bad=rows[-1:])


def fit_scripted(scale, aurocs, stopping, **trainer):
    train, validation = scale
    detector = stub("Scripted", len(aurocs), trainer=trainer, aurocs=aurocs)
    return fit(train, detector, None, None, S, 0, validation=validation, stopping=stopping)


@pytest.mark.parametrize(
    ("aurocs", "rule", "best", "stopped"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {"patience": 1}, 6, 6),  # better forever
        ([0.1, 0.2, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4], {"patience": 3}, 3, 6),
        ([0.1, 0.2, 0.9, 0.8, 0.7, 1.0, 0.5, 0.4], {"patience": 3}, 6, 8),  # better just before it would be over
        ([0.1, 0.2, 0.9, 0.8, 0.7, 0.6, 1.0, 0.4], {"patience": 3}, 3, 6),  # too late
        ([0.3, 0.7, 0.7, 0.7, 0.8, 0.8], {"patience": 3}, 5, 6),  # a tie is no improvement: the first of equal ones
        ([0.3, 0.7, 0.7, 0.7, 0.8, 0.8], {"patience": 2}, 2, 4),
        ([0.5] * 6, {"patience": 4}, 1, 5),
        ([0.0] * 4, {"patience": 2}, 1, 3),
        ([0.9, 0.1, 0.1], {"patience": 10}, 1, 3),  # patience beyond the full length
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {"patience": 2, "min_delta": 0.15}, 5, 6),  # 0.1, 0.3 and 0.5 are better
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
    assert image_auroc(scores, scale[1].is_bad) == pytest.approx(aurocs[best - 1])
    assert json.loads(json.dumps(record)) == record


def test_patience_counts_checks(scale):
    curve = [0.1, 0.9, 0.2, 0.8, 1.0, 0.7, 1.0, 0.8, 1.0, 0.9]
    rule = {"monitor": "image_auroc", "patience": 2, "every_n_epochs": 2}
    checkpoint, record = fit_scripted(scale, curve, rule)
    assert record["validation"]["image_auroc"] == pytest.approx([None, 0.9, None, 0.8, None, 0.7])
    assert (record["best_epoch"], record["stopped_epoch"]) == (2, 6)
    assert checkpoint["state_dict"]["model.epoch"] == 2


def test_full_length_records_the_curve_and_keeps_the_last_state(scale):
    checkpoint, record = fit_scripted(scale, [0.2, 0.9, 0.9, 0.1], None)
    assert record["validation"]["image_auroc"] == pytest.approx([0.2, 0.9, 0.9, 0.1])
    assert (record["best_epoch"], record["stopped_epoch"], record["epochs"]) == (2, 4, 4)
    assert (record["n_validation"], record["n_validation_bad"]) == (11, 1)
    assert 0 < record["validation_seconds"] < record["fit_seconds"]
    assert checkpoint["state_dict"]["model.epoch"] == 4


def test_least_number_of_epochs_of_the_settings_is_kept(scale):
    rule = {"monitor": "image_auroc", "patience": 1}
    checkpoint, record = fit_scripted(scale, [0.9, 0.1, 0.1, 0.1, 1.0, 0.2], rule, min_epochs=5)
    assert (record["best_epoch"], record["stopped_epoch"]) == (5, 5)
    assert checkpoint["state_dict"]["model.epoch"] == 5


@pytest.mark.parametrize(
    "stopping", [{"monitor": "image_auroc", "patience": 5}, {"monitor": "good_loss", "patience": 5}, None]
)
def test_score_that_is_no_number_is_an_error_and_never_the_best(scale, stopping):
    with pytest.raises(DetectorError, match=r"Scripted, epoch 3: .*no AUROC.*NaN.*diverged"):
        fit_scripted(scale, [0.2, 0.4, NAN, 0.6], stopping)


# A detector of which the loss is known


class Learner(_Stub):
    """Learns the mean brightness of the training images; loss: squared deviation of each image from what it learnt.

    ``poison`` is the loss from the third epoch on, if it is given. A layer of the loss's way counts batches in training.
    """

    def __init__(self, poison: float | None = None) -> None:
        super().__init__()
        self.model = _Deviation()
        self.poison = poison

    def training_step(self, batch, batch_idx):
        assert batch.gt_label is not None
        loss = (self.model.deviation(batch.image) ** 2).mean()
        if self.poison is not None and self.current_epoch >= 2:
            loss = loss + self.poison
        self.log("train_loss", loss)
        return {"loss": loss}


class _Deviation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.learnt = nn.Parameter(torch.tensor(2.0))
        self.bend = nn.Dropout(0.9)

    def deviation(self, images):
        assert self.training
        return (
            self.bend(images.mean((1, 2, 3)) - self.learnt)
            if not self.bend.training
            else images.mean((1, 2, 3)) - self.learnt
        )

    def forward(self, images):
        return InferenceBatch(pred_score=(images.mean((1, 2, 3)) - self.learnt).abs())


def expected_losses(train, validation, epochs):
    """The same by hand: full batches, so that their order says nothing."""
    brightness, held_out = (
        (np.stack(list(part)) / 255).mean((1, 2, 3))
        for part in (train, [validation[i] for i in np.flatnonzero(~validation.is_bad)])
    )
    learnt, losses = 2.0, []
    for _ in range(epochs):
        learnt -= 0.25 * 2 * (learnt - brightness.mean())
        losses.append(((held_out - learnt) ** 2).mean())
    return losses


def test_good_loss_is_the_loss_on_good_images(train, validation):
    detector = stub("Learner", epochs=6, batch_size=N_TRAIN)
    record = fit(train, detector, None, None, S, 0, validation=validation)[1]
    expected = expected_losses(train, validation, 6)
    assert record["validation"]["good_loss"] == pytest.approx(expected, rel=1e-5)
    assert sorted(expected, reverse=True) == expected
    assert list(record["losses"]) == ["train_loss"]
    alone = fit(train, detector, None, None, S, 0)[1]
    assert record["losses"] == alone["losses"]
