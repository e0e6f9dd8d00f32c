"""What only some detectors are trained with: a second network, textures, foregrounds, balanced batches, precision."""

from __future__ import annotations

import gc
import weakref
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torch import nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.backbones import WeightsMismatch
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.fit import TrainingExtras
from shopfloor.detectors.predict import predict
from tests.detectors.plain_entries import fit, read_weights

S = 64
N_TRAIN = 10
BAD = (2, 7, 8)
RANDOM = {"weights": "random"}
BACKBONE, ENCODER = "resnet10t", "test_vit"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks as small as these only wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def part_of(n, bad=(), first=0):
    """Image number i has the brightness 10 i, so that it is known again in any batch; rows are in reverse order."""
    rows = list(reversed(range(n)))
    label = ["bad" if number in bad else "good" for number in range(n)]
    names = [f"{first + number:03}.png" for number in range(n)]
    table = pd.DataFrame({"row": rows, "image": names, "label": label, "defect_type": label, "domain": "d"})
    stack = np.stack([np.full((S, S, 3), 10 * number, np.uint8) for number in reversed(range(n))])
    return ImagePart(stack, table)


@pytest.fixture(scope="module")
def train():
    return part_of(N_TRAIN)


@pytest.fixture(scope="module")
def validation():
    return part_of(4, bad=(1, 3), first=100)


def numbers_of(images):
    """Which images these are, by their brightness in [0, 1]."""
    return (images.float().mean((1, 2, 3)) * 25.5).round().int().tolist()


class Score(nn.Module):
    """The least that can be trained and predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return InferenceBatch(pred_score=self.weight * images.mean((1, 2, 3)))


class Stub(AnomalibModule):
    """Keeps what it is given: each batch of its training, each call of ``use_textures``."""

    model: Score
    learning_type = LearningType.ONE_CLASS
    trainer_arguments: dict[str, Any] = {}
    batches: ClassVar[list[Any]] = []
    textures: ClassVar[list[Any]] = []
    built: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        super().__init__()
        self.model = Score()
        self.built.append(weakref.ref(self))

    @staticmethod
    def configure_pre_processor(image_size=None):
        return PreProcessor(Resize(image_size or (S, S)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        self.batches.append((numbers_of(batch.image), batch.gt_label.tolist(), batch.foreground))
        return self.model(batch.image).pred_score.mean()


class Weaver(Stub):
    """Makes use of textures."""

    def use_textures(self, textures):
        self.textures.append((self, textures, self.model.weight.item()))


@pytest.fixture(autouse=True)
def empty_records(monkeypatch):
    for name in ("batches", "textures", "built"):
        monkeypatch.setattr(Stub, name, [])


def entry(name="Stub", epochs=1, **more):
    trainer = {"max_epochs": epochs, "enable_progress_bar": False, **more.pop("trainer", {})}
    one = {"class_path": f"{__name__}.{name}", "init_args": {}, "learning_type": "one_class", "batch_size": 3}
    return {**one, "trainer": trainer, **more}


def fit_stub(train, detector, weights=None, validation=None, stopping=None, **extras):
    return fit(train, detector, None, weights, S, 5, validation, stopping, TrainingExtras(**extras))


# Two networks


class TwoNetworks(Stub):
    """Asks timm for both of its networks."""

    def __init__(self, backbone: str, encoder: str) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, pretrained=True, features_only=True, out_indices=(1,))
        self.encoder = timm.create_model(encoder, pretrained=True, img_size=S, num_classes=0)


@pytest.fixture(scope="module")
def weights():
    """Unlike what an untrained network would have by itself."""
    return {
        name: {key: tensor + 1 for key, tensor in read_weights(name, RANDOM).items()} for name in (BACKBONE, ENCODER)
    }


def two_networks(**more):
    return entry("TwoNetworks", backbone=BACKBONE, encoder=ENCODER, **more)


def test_each_network_gets_its_own_weights(train, weights):
    checkpoint, _ = fit_stub(train, two_networks(), weights[BACKBONE], encoder_weights=weights[ENCODER])
    state = checkpoint["state_dict"]
    assert torch.equal(state["backbone.conv1.0.weight"], weights[BACKBONE]["conv1.0.weight"])
    assert torch.equal(state["encoder.blocks.1.mlp.fc1.weight"], weights[ENCODER]["blocks.1.mlp.fc1.weight"])


def test_checkpoint_predicts_without_any_of_the_weights(train, weights):
    checkpoint, _ = fit_stub(train, two_networks(), weights[BACKBONE], encoder_weights=weights[ENCODER])
    assert checkpoint["networks"] == {"backbone": BACKBONE, "encoder": ENCODER}
    assert len(predict(checkpoint, train, 4)[0]) == N_TRAIN


@pytest.mark.parametrize("missing", ["backbone", "encoder"])
def test_network_without_weights_is_named_with_what_it_is_to_the_detector(missing, train, weights):
    given = {"backbone": weights[BACKBONE], "encoder": weights[ENCODER], missing: None}
    name = BACKBONE if missing == "backbone" else ENCODER
    with pytest.raises(DetectorError, match=rf"TwoNetworks names the {missing} '{name}', but none were read"):
        fit_stub(train, two_networks(), given["backbone"], encoder_weights=given["encoder"])


def test_weights_of_an_encoder_that_the_settings_do_not_name_are_an_error(train, weights):
    with pytest.raises(DetectorError, match="names the encoder None, but weights were read"):
        fit_stub(train, entry(), encoder_weights=weights[ENCODER])


def test_swapped_weights_are_refused(train, weights):
    with pytest.raises(WeightsMismatch):
        fit_stub(train, two_networks(), weights[ENCODER], encoder_weights=weights[BACKBONE])


def test_class_without_an_argument_for_the_encoder_is_named(train, weights):
    with pytest.raises(DetectorError, match="Stub does not take encoder"):
        fit_stub(train, entry(encoder=ENCODER), encoder_weights=weights[ENCODER])


def test_encoder_cannot_stand_among_the_arguments_too(train, weights):
    detector = two_networks(init_args={"encoder": "resnet18"})
    with pytest.raises(DetectorError, match="encoder cannot stand in init_args"):
        fit_stub(train, detector, weights[BACKBONE], encoder_weights=weights[ENCODER])


# Textures


TEXTURES = np.arange(4 * S * S * 3, dtype=np.uint32).astype(np.uint8).reshape(4, S, S, 3)


def test_textures_reach_the_detector_before_its_training(train):
    fit_stub(train, entry("Weaver", epochs=2), textures=TEXTURES)
    ((_, given, weight),) = Stub.textures
    assert given is TEXTURES  # a memory map of gigabytes is not to be copied
    assert weight == 1.0  # no step had been made


def test_textures_reach_the_twin_that_is_measured_on_validation_images(train, validation):
    fit_stub(train, entry("Weaver"), validation=validation, textures=TEXTURES)
    modules = [id(module) for module, _, _ in Stub.textures]
    assert len(set(modules)) == len(Stub.built) == 2
    assert all(given is TEXTURES for _, given, _ in Stub.textures)


def test_textures_are_no_part_of_the_checkpoint(train):
    checkpoint, _ = fit_stub(train, entry("Weaver"), textures=TEXTURES)
    assert set(checkpoint["state_dict"]) == {"model.weight"}
    Stub.textures.clear()
    predict(checkpoint, train, 4)
    assert Stub.textures == []


def test_textures_for_a_detector_without_use_for_them_are_an_error(train):
    with pytest.raises(DetectorError, match=r"Stub makes no use of textures.*'textures'.*use_textures\(textures\)"):
        fit_stub(train, entry(), textures=TEXTURES)
    assert Stub.batches == []


def test_without_textures_nothing_is_handed_over(train):
    fit_stub(train, entry("Weaver"))
    assert Stub.textures == []


# Foreground


def marked(n=N_TRAIN):
    """Of image number i the first i + 1 rows are foreground."""
    masks = np.zeros((n, S, S), np.uint8)
    for number in range(n):
        masks[number, : number + 1] = 1
    return masks


def test_foreground_arrives_with_its_own_image_in_any_order(train):
    fit_stub(train, entry(epochs=3), foreground=marked())
    drawn = [number for numbers, _, _ in Stub.batches for number in numbers]
    assert drawn[:N_TRAIN] != sorted(drawn[:N_TRAIN])  # or the test would prove little
    assert sorted(drawn) == sorted(list(range(N_TRAIN)) * 3)
    for numbers, _, foreground in Stub.batches:
        assert foreground.dtype == torch.bool
        assert foreground.shape == (len(numbers), S, S)
        assert foreground[:, :, 0].sum(1).tolist() == [number + 1 for number in numbers]
        assert (foreground == foreground[:, :, :1]).all()


def test_foreground_may_be_a_memory_map(train, tmp_path):
    np.save(tmp_path / "foreground.npy", marked())
    fit_stub(train, entry(), foreground=np.load(tmp_path / "foreground.npy", mmap_mode="r"))
    for numbers, _, foreground in Stub.batches:
        assert foreground[:, :, 0].sum(1).tolist() == [number + 1 for number in numbers]


def test_foreground_follows_its_image_into_balanced_batches():
    train = part_of(N_TRAIN, BAD)
    balance = {"good": 2, "bad": 1, "batches": 5}
    fit_stub(train, entry(learning_type="supervised", balance=balance), foreground=marked())
    assert len(Stub.batches) == 5
    for numbers, _, foreground in Stub.batches:
        assert foreground[:, :, 0].sum(1).tolist() == [number + 1 for number in numbers]


def test_without_foreground_there_is_none(train):
    fit_stub(train, entry())
    assert all(foreground is None for _, _, foreground in Stub.batches)


@pytest.mark.parametrize("n", [N_TRAIN - 1, N_TRAIN + 1])
def test_foreground_of_another_number_of_images_is_refused(n, train):
    """It would belong to other images."""
    with pytest.raises(DetectorError, match=f"{n}"):
        fit_stub(train, entry(), foreground=marked(n))
    assert Stub.batches == []


# Balanced batches


@pytest.mark.parametrize(("good", "bad", "batches"), [(2, 1, 4), (1, 2, 7), (4, 4, 2)])
def test_every_batch_has_exactly_the_wanted_composition(good, bad, batches):
    train = part_of(N_TRAIN, BAD)
    balance = {"good": good, "bad": bad, "batches": batches}
    detector = entry(epochs=2, learning_type="supervised", batch_size=good + bad, balance=balance)
    _, record = fit_stub(train, detector)
    assert record["epochs"] == 2
    assert len(Stub.batches) == 2 * batches
    for numbers, labels, _ in Stub.batches:
        assert labels == [False] * good + [True] * bad
        assert [number in BAD for number in numbers] == labels


def test_balance_without_bad_images_fills_the_batch_with_good_ones(train):
    detector = entry(learning_type="supervised", balance={"good": 2, "bad": 1, "batches": 3})
    fit_stub(train, detector)
    assert [labels for _, labels, _ in Stub.batches] == [[False] * 3] * 3


def test_without_balance_every_image_is_seen_once_per_epoch():
    fit_stub(part_of(N_TRAIN, BAD), entry(learning_type="supervised"))
    assert sorted(number for numbers, _, _ in Stub.batches for number in numbers) == list(range(N_TRAIN))
    for numbers, labels, _ in Stub.batches:
        assert labels == [number in BAD for number in numbers]


# Precision


class Mixed(Stub):
    """Keeps the types its layer computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        answer = self.layer(batch.image.mean((2, 3)))
        self.batches.append((answer.dtype, self.layer.weight.dtype, batch.image.dtype))
        loss = answer.float().mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=3)
        return loss


@pytest.mark.parametrize(("trainer", "computed"), [({}, torch.float32), ({"precision": "bf16-mixed"}, torch.bfloat16)])
def test_precision_is_float32_unless_the_settings_ask_for_mixed(trainer, computed, train):
    checkpoint, record = fit_stub(train, entry("Mixed", trainer=trainer))
    assert {kinds[0] for kinds in Stub.batches} == {computed}
    assert {kinds[1:] for kinds in Stub.batches} == {(torch.float32, torch.float32)}
    assert {tensor.dtype for tensor in checkpoint["state_dict"].values()} == {torch.float32}
    assert np.isfinite(record["losses"]["train_loss"]).all()


def test_watched_training_in_mixed_precision_runs(train, validation):
    stopping = {"monitor": "image_auroc", "patience": 2}
    trainer = {"precision": "bf16-mixed"}
    _, record = fit_stub(train, entry("Mixed", epochs=3, trainer=trainer), validation=validation, stopping=stopping)
    assert record["epochs"] >= 1


# Memory


class Normalising(Stub):
    """Has a pre-processor like that of a true detector."""

    @staticmethod
    def configure_pre_processor(image_size=None):
        return PreProcessor(Compose([Resize(image_size or (S, S)), Normalize([0.0] * 3, [1.0] * 3)]))


@pytest.fixture
def no_collection_by_chance():
    """What is freed is freed by the code under test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("watched", [False, True])
def test_finished_training_is_released(watched, train, validation, no_collection_by_chance):
    result = fit_stub(train, entry("Normalising"), validation=validation if watched else None)
    assert len(Stub.built) == 1 + watched
    assert [reference() for reference in Stub.built] == [None] * (1 + watched)
    assert result[0]["state_dict"]
