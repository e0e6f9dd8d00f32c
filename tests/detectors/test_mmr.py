"""MMR: the specified sizes, positions, masks, rates, loss and maps; two networks' weights; repeatable training."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from scipy.ndimage import gaussian_filter
from torch import nn

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.backbones import WeightsMismatch, use_networks
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.fit import TrainingExtras
from shopfloor.detectors.mmr import Mmr
from shopfloor.detectors.mmr.anomaly_map import AnomalyMapGenerator
from shopfloor.detectors.mmr.augmentation import Augmentation
from shopfloor.detectors.mmr.decoder import Decoder, Level
from shopfloor.detectors.mmr.encoder import Encoder
from shopfloor.detectors.mmr.loss import MmrLoss
from shopfloor.detectors.mmr.positions import position_table, resize_table
from shopfloor.detectors.mmr.schedule import learning_rate_factor
from shopfloor.detectors.mmr.torch_model import MmrModel
from shopfloor.detectors.predict import predict
from tests.detectors.plain_entries import fit, read_weights
from tests.detectors.validated_parts import ValidatedParts

S = 64
LAYERS = ["layer1", "layer2", "layer3"]
NETWORK = "resnet18"
TRANSFORMER = "vit_tiny_patch16_224"
DETECTOR: dict[str, Any] = {
    "class_path": "shopfloor.detectors.mmr.Mmr",
    "init_args": {"layers": LAYERS},
    "backbone": NETWORK,
    "encoder": TRANSFORMER,
    "learning_type": "one_class",
    "batch_size": 4,
    "trainer": {"max_epochs": 2},
}


def part_of(n, seed=0):
    stack = np.random.default_rng(seed).integers(0, 256, (n, S, S, 3), dtype=np.uint8)
    names = [f"{row}.png" for row in range(n)]
    columns = {"row": range(n), "image": names, "label": "good", "defect_type": "good", "domain": "d"}
    return ImagePart(stack, pd.DataFrame(columns))


def images(n, seed=0, size=S):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def small_model(**settings):
    torch.manual_seed(0)
    arguments = {"backbone": NETWORK, "layers": LAYERS, "encoder": TRANSFORMER, "input_size": (S, S)}
    return MmrModel(**{**arguments, "pre_trained": False, "encoder_pre_trained": False, **settings})


def model_on_meta(size, **settings):
    arguments = {"backbone": "wide_resnet50_2", "encoder": "vit_base_patch16_224.mae", "input_size": (size, size)}
    with torch.device("meta"):
        return small_model(**{**arguments, **settings})


@pytest.fixture(scope="module")
def paper():
    """The whole detector with its default networks and size, without memory for its weights."""
    with torch.device("meta"):
        return Mmr(pre_trained=False, encoder_pre_trained=False, evaluator=False, visualizer=False)


@pytest.fixture(scope="module")
def weights():
    return {name: read_weights(name, {"weights": "random"}) for name in (NETWORK, TRANSFORMER)}


@pytest.fixture(scope="module")
def fit_on(weights):
    def run(part, seed=3, **settings):
        extras = TrainingExtras(encoder_weights=weights[TRANSFORMER])
        return fit(part, {**DETECTOR, **settings}, {}, weights[NETWORK], S, seed, extras=extras)

    return run


@pytest.fixture(scope="module")
def fitted(fit_on):
    return fit_on(part_of(5))


@pytest.fixture(scope="module")
def drawn_once():
    return small_model()


@pytest.fixture
def small(drawn_once):
    torch.manual_seed(0)  # for the masks
    return copy.deepcopy(drawn_once)


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_numbers_of_parameters_are_the_specified(paper):
    encoder, decoder = paper.model.student.encoder, paper.model.student.decoder
    assert n_parameters(encoder.patch_embedding) == 590_592
    assert [n_parameters(block) for block in encoder.blocks] == [7_087_872] * 12
    assert n_parameters(encoder.blocks) == 85_054_464
    assert n_parameters(encoder.norm) == 1_536
    assert encoder.class_token.numel() == decoder.mask_token.numel() == 768
    assert [n_parameters(branch) for branch in decoder.branches] == [2_115_904, 3_737_984, 10_227_712]
    trained = sum(parameter.numel() for parameter in paper.parameters() if parameter.requires_grad)
    assert trained == n_parameters(paper.model.student) == 101_729_728


def test_position_tables_are_fixed(paper):
    encoder = model_on_meta(224).student.encoder
    assert encoder.positions.shape == (197, 768)  # the table as it is built; at 256 it is resized to the grid
    tables = 197 * 768 + paper.model.student.decoder.positions.numel()
    assert n_parameters(paper.model.student) + tables == 102_078_400
    assert paper.model.student.encoder.positions.shape == (257, 768)
    assert not any("positions" in name for name, _ in paper.named_parameters())


def test_defaults_are_the_papers(paper):
    defaults = {name: parameter.default for name, parameter in inspect.signature(Mmr.__init__).parameters.items()}
    assert defaults["backbone"] == "wide_resnet50_2.tv_in1k"
    assert defaults["encoder"] == "vit_base_patch16_224.mae"
    assert defaults["mask_ratio"] == paper.model.mask_ratio == 0.4
    assert list(defaults["layers"]) == LAYERS
    assert all(defaults[name] is True for name in ("pre_trained", "encoder_pre_trained", "augmentation"))
    assert paper.input_size == (256, 256)
    assert paper.model.target.feature_extractor.pretrained_cfg["tag"] == "tv_in1k"
    assert paper.trainer_arguments == {"num_sanity_val_steps": 0}  # no length and no clipping of its own


def test_layers_of_the_encoder(paper):
    encoder = paper.model.student.encoder
    assert encoder.patch_embedding.kernel_size == encoder.patch_embedding.stride == (16, 16)
    for block in encoder.blocks:
        assert (block.attn.num_heads, block.attn.scale) == (12, 64**-0.5)
        assert block.attn.qkv.bias.shape == (3 * 768,)
        assert block.mlp.fc1.out_features == 3072
        assert (block.mlp.act.__class__, getattr(block.mlp.act, "approximate", "none")) == (nn.GELU, "none")
        assert all(isinstance(part, nn.Identity) for part in (block.ls1, block.ls2, block.drop_path1, block.drop_path2))
    assert {module.eps for module in encoder.modules() if isinstance(module, nn.LayerNorm)} == {1e-6}
    assert all(module.p == 0 for module in encoder.modules() if isinstance(module, nn.Dropout))


def test_layers_of_the_decoder(paper):
    first, second, third = paper.model.student.decoder.branches
    up = [("ConvTranspose2d", 768, 384), ("ConvTranspose2d", 384, 192)]
    assert described(first) == [up[0], "norm 384", "GELU", up[1], *convolutions(192, 256)]
    assert described(second) == [up[0], *convolutions(384, 512)]
    assert described(third) == convolutions(768, 1024)
    for layer in (layer for branch in (first, second, third) for layer in branch):
        if isinstance(layer, nn.LayerNorm):
            assert layer.eps == 1e-6
        elif isinstance(layer, nn.ConvTranspose2d):
            assert (layer.kernel_size, layer.stride) == ((2, 2), (2, 2))
            assert layer.bias is not None
        elif isinstance(layer, nn.Conv2d):
            assert (layer.kernel_size, layer.padding) in {((1, 1), (0, 0)), ((3, 3), (1, 1))}
            assert layer.bias is None


def described(branch):
    names: list[Any] = []
    for layer in branch:
        match layer:
            case nn.LayerNorm():
                names.append(f"norm {layer.normalized_shape[0]}")
            case nn.GELU():
                names.append("GELU" if layer.approximate == "none" else "another")
            case _:
                names.append((type(layer).__name__, layer.in_channels, layer.out_channels))
    return names


def convolutions(n_in, n_out):
    norm = f"norm {n_out}"
    return [("Conv2d", n_in, n_out), norm, ("Conv2d", n_out, n_out), norm]


@pytest.mark.parametrize(("size", "sides"), [(256, (64, 32, 16)), (128, (32, 16, 8)), (512, (128, 64, 32))])
def test_shapes_are_the_specified(size, sides):
    model = model_on_meta(size).train()
    expected = [(2, channels, side, side) for channels, side in zip((256, 512, 1024), sides, strict=True)]
    for maps in model(torch.empty(2, 3, size, size, device="meta")):
        assert [tuple(level.shape) for level in maps] == expected
    result = model.eval()(torch.empty(2, 3, size, size, device="meta"))
    assert result.pred_score.shape == (2,)
    assert result.anomaly_map.shape == (2, 1, size, size)


@pytest.mark.parametrize("size", [128, 256, 512])
def test_sizes_of_the_experiments(size):
    model = small_model(input_size=(size, size))
    with torch.inference_mode():
        loss = MmrLoss()(*model.train()(images(1, size=size)))
        result: Any = model.eval()(images(1, size=size))
    assert 0 < loss < 6
    assert result.anomaly_map.shape == (1, 1, size, size)
    assert result.anomaly_map.isfinite().all()
    assert result.pred_score == result.anomaly_map.max()


@pytest.mark.parametrize(
    ("size", "kept", "all_patches"), [(256, 153, 256), (128, 38, 64), (512, 614, 1024), (224, 117, 196)]
)
def test_numbers_of_tokens_are_the_specified(size, kept, all_patches):
    model = model_on_meta(size, backbone=NETWORK, encoder=TRANSFORMER)
    seen = []
    model.student.encoder.register_forward_hook(lambda module, arguments, tokens: seen.append(tokens.shape[1]))
    for mode in (True, False):
        model.train(mode)(torch.empty(2, 3, size, size, device="meta"))
    assert seen == [1 + kept, 1 + all_patches]


@pytest.mark.parametrize(
    ("backbone", "layers", "shapes"),
    [
        ("tf_efficientnet_lite0", ["blocks.2", "blocks.4"], [(2, 40, 16, 16), (2, 112, 8, 8)]),
        (
            "tf_efficientnet_lite0",
            ["blocks.1", "blocks.2", "blocks.4"],
            [(2, 24, 32, 32), (2, 40, 16, 16), (2, 112, 8, 8)],
        ),
        ("resnet50", ["layer3"], [(2, 1024, 8, 8)]),
    ],
)
def test_other_networks_and_layers(backbone, layers, shapes):
    model = model_on_meta(128, backbone=backbone, layers=layers, encoder="deit_tiny_patch16_224").train()
    for maps in model(torch.empty(2, 3, 128, 128, device="meta")):
        assert [tuple(level.shape) for level in maps] == shapes


def test_positions_are_the_specified():
    table = position_table(2, 8)
    sine_1, cosine_1 = 0.841471, 0.540302
    assert table.dtype == torch.float32
    assert table.shape == (5, 8)
    expected: list[list[float]] = [
        [0] * 8,
        [0, 0, 1, 1, 0, 0, 1, 1],
        [sine_1, 0.01, cosine_1, 0.99995, 0, 0, 1, 1],
        [0, 0, 1, 1, sine_1, 0.01, cosine_1, 0.99995],
        [sine_1, 0.01, cosine_1, 0.99995, sine_1, 0.01, cosine_1, 0.99995],
    ]
    np.testing.assert_allclose(table, expected, atol=1e-6)


def test_frequencies_of_the_positions():
    table = position_table(14, 768).double()
    row, column, k = 5, 9, 100
    angle = 10_000 ** (-k / 192)
    values = [f(place * angle) for place in (column, row) for f in (math.sin, math.cos)]
    np.testing.assert_allclose(table[1 + row * 14 + column, k::192], values, atol=1e-6)


def test_positions_for_another_grid_are_the_specified():
    table = resize_table(position_table(14, 768), 16)
    assert table.shape == (257, 768)
    assert not table[0].any()
    np.testing.assert_allclose(table[1, :3], [-0.0347, -0.0336, -0.0325], atol=5e-5)
    np.testing.assert_allclose(table[-1, :3], [0.4596, -0.1443, -0.6730], atol=5e-5)
    # The decoder's table is built for the grid, not interpolated.
    decoder = Decoder(192, 16, [Level(8, 1)])
    assert torch.equal(decoder.positions, position_table(16, 192))


@pytest.mark.parametrize("size", [224, 64])
def test_encoder_is_timms_transformer_with_fixed_positions(size):
    torch.manual_seed(0)
    encoder = Encoder(TRANSFORMER, size, pre_trained=False)
    transformer: Any = timm.create_model(TRANSFORMER, num_classes=0, img_size=size).eval()
    state = {
        "cls_token": encoder.class_token,
        "pos_embed": resize_table(position_table(14, 192), size // 16)[None],
        **{f"patch_embed.proj.{key}": tensor for key, tensor in encoder.patch_embedding.state_dict().items()},
        **{f"blocks.{key}": tensor for key, tensor in encoder.blocks.state_dict().items()},
        **{f"norm.{key}": tensor for key, tensor in encoder.norm.state_dict().items()},
    }
    transformer.load_state_dict(state)
    with torch.inference_mode():
        expected = transformer.forward_features(images(2, size=size))
        torch.testing.assert_close(encoder(images(2, size=size)), expected, atol=1e-4, rtol=1e-4)


def test_order_of_the_patches_does_not_matter(small):
    student = small.eval().student
    shuffled = torch.stack([torch.randperm(16), torch.randperm(16)])
    with torch.inference_mode():
        for maps, expected in zip(student(images(2), shuffled), student(images(2)), strict=True):
            torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


def test_masked_patches_are_not_seen(small):
    kept = torch.tensor([[3, 0, 7], [5, 9, 1]])
    changed = images(2)
    changed[0, :, 16:32, :48] += 5  # patches 4, 5, 6 of the first image
    changed[1, :, :16, :16] -= 5  # patch 0 of the second
    with torch.inference_mode():
        encoder = small.student.encoder
        assert torch.equal(encoder(images(2), kept), encoder(changed, kept))
        changed[1, :, :16, 16:32] += 5  # patch 1
        tokens, others = encoder(images(2), kept), encoder(changed, kept)
    assert torch.equal(tokens[0], others[0])
    assert not torch.isclose(tokens[1], others[1]).all()


def test_grid_is_completed_with_mask_tokens():
    decoder = Decoder(8, 4, [Level(8, 1)])
    decoder.branches[0] = nn.Identity()
    tokens = torch.rand(2, 4, 8)
    kept = [[3, 0, 7], [5, 14, 1]]
    (maps,) = decoder(tokens, torch.tensor(kept))
    table = position_table(4, 8)
    for image in range(2):
        for patch in range(16):
            found = kept[image].index(patch) if patch in kept[image] else None
            token = decoder.mask_token[0, 0] if found is None else tokens[image, 1 + found]
            expected = token + table[1 + patch]
            torch.testing.assert_close(maps[image, :, patch // 4, patch % 4], expected)


def test_masks_are_drawn_per_image_and_only_in_training(small):
    seen: list[Any] = []
    small.student.encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[1]))
    with torch.inference_mode():
        for _ in range(2):
            small.train()(images(8))
        small.eval()(images(1))
        small.mask_ratio = 0.0
        small.train()(images(1))
    first, second, in_test, without_masks = seen
    assert in_test is None
    assert without_masks is None
    assert first.shape == (8, 9)  # floor(16 * 0.6)
    assert all(len(set(row)) == 9 and set(row) <= set(range(16)) for row in first.tolist())
    assert len({frozenset(row) for row in first.tolist()}) > 4
    assert not torch.equal(first, second)


def test_every_patch_is_masked_equally_often(small):
    kept: list[Any] = []
    small.student.encoder.register_forward_pre_hook(lambda module, arguments: kept.append(arguments[1]))
    small.target, small.student.encoder.blocks = nn.Identity(), nn.Sequential()  # for speed
    small.target.forward = lambda _: {}
    torch.manual_seed(0)
    with torch.inference_mode():
        small.train()(torch.zeros(1, 3, S, S).expand(400, -1, -1, -1))
    share = torch.bincount(kept[0].flatten(), minlength=16) / 400
    np.testing.assert_allclose(share, 9 / 16, atol=0.12)  # five standard deviations


def check_uniform(weight, bound):
    assert weight.detach().abs().max() <= bound
    assert float(weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_weights_that_are_not_loaded_are_drawn_as_specified():
    torch.manual_seed(0)
    encoder = Encoder(TRANSFORMER, S, pre_trained=False)
    linear = [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)]
    assert len(linear) == 4 * 12
    for layer in linear:
        check_uniform(layer.weight, math.sqrt(6 / (layer.in_features + layer.out_features)))
        assert not layer.bias.any()
    norms = [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 2 * 12 + 1
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)
    embedding: Any = encoder.patch_embedding
    check_uniform(embedding.weight, math.sqrt(6 / (192 + 768)))
    assert 0 < embedding.bias.abs().max() <= 1 / math.sqrt(768)  # torch's default
    decoder = Decoder(192, 4, [Level(64, 4)])
    for token in (encoder.class_token, decoder.mask_token):
        assert float(token.detach().std()) == pytest.approx(0.02, rel=0.2)
    branch: Any = decoder.branches[0]
    check_uniform(branch[-2].weight, 1 / math.sqrt(64 * 9))  # the 3x3 convolution, torch's default
    enlarging: list[Any] = [part for part in branch if isinstance(part, nn.ConvTranspose2d)]
    assert len(enlarging) == 2
    for convolution in enlarging:
        bound = 1 / math.sqrt(convolution.out_channels * 4)  # of a transposed one torch counts the outputs
        check_uniform(convolution.weight, bound)
        assert 0.8 * bound < convolution.bias.abs().max() <= bound


def test_both_networks_get_their_weights(weights):
    with use_networks(weights):
        model = small_model(pre_trained=True, encoder_pre_trained=True)
    target = model.target.feature_extractor.state_dict()
    assert all(torch.equal(tensor, weights[NETWORK][key]) for key, tensor in target.items())
    encoder, given = model.student.encoder, weights[TRANSFORMER]
    assert torch.equal(encoder.class_token, given["cls_token"])
    for prefix, part in (("patch_embed.proj", "patch_embedding"), ("blocks", "blocks"), ("norm", "norm")):
        state = getattr(encoder, part).state_dict()
        assert state.keys() == {key.removeprefix(f"{prefix}.") for key in given if key.startswith(f"{prefix}.")}
        assert all(torch.equal(tensor, given[f"{prefix}.{key}"]) for key, tensor in state.items())


def test_student_from_scratch(weights):
    init_args = {"layers": LAYERS, "encoder": TRANSFORMER, "encoder_pre_trained": False}
    entry = {key: value for key, value in DETECTOR.items() if key != "encoder"} | {"init_args": init_args}
    one_step = {"max_epochs": 8, "max_steps": 1}  # at rate 0, so that the first weights are kept
    checkpoint, _ = fit(part_of(2), {**entry, "trainer": one_step}, {}, weights[NETWORK], S, 0)
    qkv = checkpoint["state_dict"]["model.student.encoder.blocks.0.attn.qkv.weight"]
    check_uniform(qkv, math.sqrt(6 / (4 * 192)))
    _, maps, _ = predict(checkpoint, part_of(2, seed=1), batch_size=2)
    assert maps is not None
    assert np.isfinite(maps).all()


def test_weights_for_a_student_from_scratch_are_refused(fit_on):
    message = f"'{TRANSFORMER}'.*in init_args.*'encoder'.*'encoder_pre_trained: false'"
    with pytest.raises(WeightsMismatch, match=message):
        fit_on(part_of(1), init_args={"layers": LAYERS, "encoder_pre_trained": False})


def test_target_keeps_the_weights_it_was_given(fitted, weights):
    prefix = "model.target.feature_extractor."
    state = fitted[0]["state_dict"]
    target = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    assert len(target) > 80
    assert all(torch.equal(tensor, weights[NETWORK][key]) for key, tensor in target.items())
    trained = state["model.student.encoder.blocks.0.attn.qkv.weight"]
    assert not torch.equal(trained, weights[TRANSFORMER]["blocks.0.attn.qkv.weight"])


def test_target_stays_frozen(small):
    small.train()
    assert all(module.training for module in small.student.modules())
    assert not any(module.training for module in small.target.modules())
    assert not any(parameter.requires_grad for parameter in small.target.parameters())
    before = {key: tensor.clone() for key, tensor in small.target.state_dict().items()}
    target_maps, student_maps = small(images(2))
    assert not any(level.requires_grad for level in target_maps)
    sum(level.square().sum() for level in student_maps).backward()
    assert all(parameter.grad is not None for parameter in small.student.parameters())
    assert small.student.decoder.mask_token.grad.any()
    assert all(torch.equal(before[key], tensor) for key, tensor in small.target.state_dict().items())


def test_target_maps_are_timms(small):
    network: Any = timm.create_model(NETWORK).eval()
    network.load_state_dict(small.target.feature_extractor.state_dict(), strict=False)
    with torch.inference_mode():
        level = network.maxpool(network.act1(network.bn1(network.conv1(images(2)))))
        for name, found in zip(LAYERS, small.train()(images(2))[0], strict=True):
            level = getattr(network, name)(level)
            torch.testing.assert_close(found, level)
            assert found.min() == 0  # after the last ReLU


def levels_of_the_specification(n):
    target, student = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    return tuple([vector.reshape(1, 2, 1, 1).expand(1, 2, 4, 4)] * n for vector in (target, student))


@pytest.mark.parametrize(("n", "expected"), [(1, 0.292893), (3, 0.878680)])
def test_loss_and_constant_map_are_the_specified(n, expected):
    levels = levels_of_the_specification(n)
    assert float(MmrLoss()(*levels)) == pytest.approx(expected, abs=1e-6)
    maps = AnomalyMapGenerator()(*levels, (32, 32))
    np.testing.assert_allclose(maps, np.full((1, 1, 32, 32), expected), atol=1e-5)


def cosine_distances(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    return 1 - (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def test_loss_takes_every_pixel_of_every_level_alike(small):
    target_maps, student_maps = small.train()(images(3))
    distances = [cosine_distances(a, b.detach()) for a, b in zip(target_maps, student_maps, strict=True)]
    expected = sum(level.mean() for level in distances)
    assert float(MmrLoss()(target_maps, student_maps).detach()) == pytest.approx(expected, abs=1e-5)


def enlarge(small_map, size):
    """Bilinear interpolation that keeps the corners in place."""
    positions = np.linspace(0, len(small_map) - 1, size)
    low = np.minimum(positions.astype(int), len(small_map) - 2)
    part = positions - low
    matrix = np.zeros((size, len(small_map)))
    matrix[np.arange(size), low] = 1 - part
    matrix[np.arange(size), low + 1] += part
    return matrix @ small_map @ matrix.T


def test_map_and_score_by_hand(small):
    with torch.inference_mode():
        target_maps = small.target(images(2)).values()
        student_maps = small.student(images(2))
        result = small.eval()(images(2))
    expected = np.zeros((2, S, S))
    for a, b in zip(target_maps, student_maps, strict=True):
        expected += [enlarge(distances, S) for distances in cosine_distances(a, b)]
    expected = np.stack([gaussian_filter(level, sigma=4) for level in expected])
    np.testing.assert_allclose(result.anomaly_map[:, 0], expected, atol=2e-5)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(result.pred_score, expected.max((1, 2)), atol=2e-5)


@pytest.mark.parametrize(
    ("max_epochs", "epochs", "expected"),
    [
        (200, [0, 1, 25, 49, 50, 118, 119, 158, 159, 199], [0, 0.02, 0.5, 0.98, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        (10, range(10), [0, 0.4, 0.8, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        (8, range(8), [0, 0.5, 1, 1, 1, 0.1, 0.1, 0.01]),
        (4, range(4), [1, 1, 1, 0.1]),
        (1, [0], [1]),
        (400, [0, 2, 99, 100, 237, 238, 317, 318, 399], [0, 0.02, 0.99, 1, 1, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_learning_rate_over_the_epochs(max_epochs, epochs, expected):
    assert [learning_rate_factor(epoch, max_epochs) for epoch in epochs] == pytest.approx(expected)


def test_optimiser_is_the_specified(paper):
    paper.trainer = pl.Trainer(max_epochs=200, logger=False, accelerator="cpu")
    configuration: Any = paper.configure_optimizers()
    optimizer, schedule = configuration["optimizer"], configuration["lr_scheduler"]["scheduler"]
    assert type(optimizer) is torch.optim.AdamW
    groups = {group["weight_decay"]: group["params"] for group in optimizer.param_groups}
    assert groups.keys() == {0.05, 0}
    assert (len(groups[0.05]), sum(map(torch.numel, groups[0.05]))) == (60, 101_598_720)
    assert (len(groups[0]), sum(map(torch.numel, groups[0]))) == (116, 131_008)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.95)}
    expected = {0: 0, 1: 2e-5, 25: 5e-4, 49: 9.8e-4, 50: 1e-3, 118: 1e-3, 119: 1e-4, 158: 1e-4, 159: 1e-5, 199: 1e-5}
    for epoch in range(200):
        (rate,) = {group["lr"] for group in optimizer.param_groups}
        assert rate == pytest.approx(expected.get(epoch, rate))
        optimizer.step()
        schedule.step()


class _Rates(pl.Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def small_detector(**settings):
    arguments: dict[str, Any] = {"backbone": NETWORK, "encoder": TRANSFORMER, "evaluator": False, "visualizer": False}
    pre_processor = Mmr.configure_pre_processor((S, S))
    arguments |= {"pre_trained": False, "encoder_pre_trained": False, "pre_processor": pre_processor}
    return Mmr(**{**arguments, **settings})


def test_every_epoch_is_trained_at_its_rate():
    rates = _Rates()
    switched_off: dict[str, Any] = dict.fromkeys(
        ["logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"], False
    )
    trainer = pl.Trainer(max_epochs=8, accelerator="cpu", callbacks=[rates], **switched_off)
    trainer.fit(small_detector(), datamodule=PartDataModule(part_of(2), batch_size=1))
    assert rates.rates[::2] == rates.rates[1::2] == pytest.approx([0, 5e-4, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5])


def test_anomalibs_engine_trains_validates_and_predicts(tmp_path):
    auroc = AUROC(fields=["pred_score", "gt_label"], prefix="image_")
    detector = small_detector(evaluator=Evaluator(val_metrics=auroc))
    before = [parameter.detach().clone() for parameter in detector.model.student.parameters()]
    part = part_of(4)
    part.table.loc[2:, "label"] = "bad"
    data: Any = ValidatedParts(part, batch_size=2)
    engine = Engine(default_root_dir=tmp_path, logger=False, accelerator="cpu", enable_progress_bar=False, max_epochs=1)
    engine.fit(detector, datamodule=data)
    assert not any(map(torch.equal, detector.model.student.parameters(), before))
    assert float(engine.trainer.callback_metrics["image_AUROC"]) in {0, 0.25, 0.5, 0.75, 1}
    predictions: Any = engine.predict(detector, datamodule=data)
    maps = torch.cat([batch.anomaly_map for batch in predictions])
    assert maps.shape[0] == 4
    assert maps.shape[-2:] == (S, S)
    assert maps.isfinite().all()


def ramps(n):
    """Images whose channels are the column, the row, and a checkerboard."""
    column = torch.arange(S, dtype=torch.float32).expand(S, S)
    checkerboard = (column.T // 8 + column // 8) % 2
    return torch.stack([column, column.T, checkerboard]).expand(n, -1, -1, -1)


def test_augmentation_crops_and_flips_every_image_by_itself():
    torch.manual_seed(0)
    augmented = Augmentation()(ramps(300))
    assert augmented.shape == (300, 3, S, S)
    middle = slice(S // 4, 3 * S // 4)
    widths = augmented[:, 0].diff(dim=2)[:, middle, middle].mean((1, 2)).numpy() * S
    heights = augmented[:, 1].diff(dim=1)[:, middle, middle].mean((1, 2)).numpy() * S
    flipped = widths < 0
    assert 0.4 < flipped.mean() < 0.6
    widths = np.abs(widths)
    np.testing.assert_allclose(widths, widths.round(), atol=0.05)  # whole pixels, linear in between
    area, ratio = widths * heights / S**2, widths / heights
    assert 0.69 < area.min() < 0.75  # to the rounding of whole pixels
    assert 0.95 < area.max() <= 1
    assert 0.73 < ratio.min() < 0.85
    assert 1.18 < ratio.max() < 1.37
    assert len(set(zip(widths.round(), heights.round(), strict=True))) > 50
    assert augmented[:, 2].max() > 1.02  # bicubic interpolation overshoots at an edge; bilinear does not
    offsets = augmented[:, 0, :, S // 2].mean(1)
    assert offsets.std() > 2  # not always the middle


def test_both_networks_see_the_same_augmented_images():
    given = ramps(4)
    for augmentation in (True, False):
        detector = small_detector(augmentation=augmentation).train()
        seen: list[Any] = []
        for network in (detector.model.target, detector.model.student.encoder):
            network.register_forward_pre_hook(lambda module, arguments, seen=seen: seen.append(arguments[0]))
        detector.training_step(ImageBatch(image=given))
        assert torch.equal(*seen)
        assert torch.equal(seen[0], given) != augmentation


def test_training_lowers_the_loss_and_predictions_are_finite(fit_on):
    checkpoint, record = fit_on(part_of(6), trainer={"max_epochs": 10})
    losses = record["losses"]["train_loss"]
    assert len(losses) == 10
    assert losses[-1] < 0.7 * losses[0]
    scores, maps, _ = predict(checkpoint, part_of(5, seed=1), batch_size=4)
    assert maps is not None
    assert maps.shape == (5, S, S)
    assert np.isfinite(maps).all()
    np.testing.assert_array_equal(scores["pred_score"], maps.max((1, 2)))
    assert scores["pred_score"].nunique() == 5
    assert scores["pred_score"].min() > 0
    assert scores["pred_score"].max() < 6


def test_same_seed_same_bits_other_seed_other_bits(fitted, fit_on):
    state = fitted[0]["state_dict"]
    again = fit_on(part_of(5))[0]["state_dict"]
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in state.items())
    key = "model.student.encoder.blocks.0.attn.qkv.weight"
    assert not torch.equal(fit_on(part_of(5), seed=4, trainer={"max_epochs": 1})[0]["state_dict"][key], state[key])


def test_checkpoint_file_gives_the_same_bits(fitted, tmp_path):
    checkpoint, _ = fitted
    torch.save(checkpoint, tmp_path / "detector.pt")
    loaded = torch.load(tmp_path / "detector.pt", weights_only=True)
    test = part_of(3, seed=1)
    scores, maps, _ = predict(checkpoint, test, batch_size=2)
    scores_again, maps_again, _ = predict(loaded, test, batch_size=2)
    pd.testing.assert_frame_equal(scores, scores_again)
    np.testing.assert_array_equal(maps, maps_again)


def test_results_do_not_depend_on_the_batch_and_one_image_is_enough(fit_on):
    checkpoint, _ = fit_on(part_of(1), batch_size=1, trainer={"max_epochs": 1})
    test = part_of(3, seed=1)
    alone, together = (predict(checkpoint, test, size) for size in (1, 3))
    np.testing.assert_allclose(alone[0]["pred_score"], together[0]["pred_score"], atol=1e-5)
    assert alone[1] is not None
    assert together[1] is not None
    np.testing.assert_allclose(alone[1], together[1], atol=1e-5)


def test_mixed_precision_compares_in_full_precision(small):
    with torch.inference_mode():
        half = [[level.bfloat16() for level in levels] for levels in small.train()(images(2))]
        expected = sum(cosine_distances(a, b).mean() for a, b in zip(*half, strict=True))
        with torch.autocast("cpu", torch.bfloat16):
            assert float(MmrLoss()(*half)) == pytest.approx(expected, abs=1e-5)


def test_length_in_epochs_is_needed(fit_on):
    with pytest.raises(DetectorError, match="Give the trainer max_epochs"):
        fit_on(part_of(1), trainer={"max_steps": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "vit_tiny_patch16_224", "layers": ["blocks.2"]}, "convolutional network"),
        ({"layers": ["layer1", "layer9"]}, "in this order: .*layer1, layer2, layer3"),
        ({"layers": ["layer3", "layer1"]}, "in this order: .*layer1, layer2, layer3"),
        ({"layers": []}, "in this order: .*layer1, layer2, layer3"),
        ({"layers": ["layer2", "layer4"]}, r"strides of \[8, 32\] .* maps of \[16, 8, 4\] only"),
        ({"encoder": "resnet18"}, "plain vision transformer.*vit_tiny_patch16_224"),
        ({"encoder": "deit_tiny_distilled_patch16_224"}, "plain vision transformer"),
        ({"mask_ratio": 1.0}, "from 0 .* up to, but not, 1"),
        ({"mask_ratio": -0.1}, "from 0"),
        ({"pre_processor": False}, "resizes the images"),
        ({"pre_processor": Mmr.configure_pre_processor((100, 100))}, "multiple of 16"),
        ({"pre_processor": Mmr.configure_pre_processor((64, 128))}, "square"),
    ],
)
def test_wrong_settings_say_what_to_do(arguments, message):
    small: dict[str, Any] = {"backbone": NETWORK, "encoder": TRANSFORMER}
    with torch.device("meta"), pytest.raises(DetectorError, match=message):
        Mmr(**{**small, "pre_trained": False, "encoder_pre_trained": False, **arguments})
