"""MSFlow: the specified numbers, flows that are invertible with the right determinant, learning rates, same bits."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.engine import Engine
from FrEIA.modules import AllInOneBlock
from timm.layers import Conv2dSame
from torch import nn
from torch.nn import functional

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.backbones import use_networks
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.msflow import Msflow, lightning_model
from shopfloor.detectors.msflow.anomaly_map import additive_map, mean_of_largest, multiplicative_map
from shopfloor.detectors.msflow.features import FeaturePyramid
from shopfloor.detectors.msflow.fusion_flow import FusionFlow
from shopfloor.detectors.msflow.loss import MsflowLoss
from shopfloor.detectors.msflow.parallel_flows import ParallelFlows, coupling_network, position_condition
from shopfloor.detectors.msflow.torch_model import MsflowModel
from shopfloor.detectors.predict import predict
from tests.detectors.plain_entries import fit, read_weights
from tests.detectors.validated_parts import ValidatedParts

S = 64
WIDE = "wide_resnet50_2.tv_in1k"
LITE0 = "tf_efficientnet_lite0"
LITE0_LAYERS = ["blocks.1", "blocks.2", "blocks.4"]
RESNET_LAYERS = ["layer1", "layer2", "layer3"]
BLOCKS = [1, 1, 2]
DETECTOR: dict[str, Any] = {
    "class_path": "shopfloor.detectors.msflow.Msflow",
    "init_args": {"layers": LITE0_LAYERS, "blocks": BLOCKS},
    "backbone": LITE0,
    "learning_type": "one_class",
    "batch_size": 4,
    "trainer": {"max_epochs": 4},
}
WITHOUT_PARTS: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}


def part_of(n, seed=0, size=S):
    stack = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    names = [f"{row}.png" for row in range(n)]
    columns = {"row": range(n), "image": names, "label": "good", "defect_type": "good", "domain": "d"}
    return ImagePart(stack, pd.DataFrame(columns))


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def trained_number(module):
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def shake(module, seed=0, spread=0.3):
    """Moves every trained parameter from its first value, so that no part is an identity."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return module.double()


@pytest.fixture(scope="module")
def weights():
    return read_weights(LITE0, {"weights": "random"})


@pytest.fixture(scope="module")
def fit_on(weights):
    def run(part, seed=3, **settings):
        return fit(part, {**DETECTOR, **settings}, {}, weights, part.stack.shape[1], seed)

    return run


@pytest.fixture(scope="module")
def fitted(fit_on):
    return fit_on(part_of(6))


@pytest.fixture(scope="module")
def whole():
    """The benchmark's network in full size, untrained."""
    return MsflowModel(WIDE, RESNET_LAYERS, pre_trained=False)


# The specified sizes


def test_defaults_are_the_papers(monkeypatch):
    given: dict[str, Any] = {}
    monkeypatch.setattr(lightning_model, "MsflowModel", lambda **settings: given.update(settings) or nn.Identity())
    detector = Msflow(**WITHOUT_PARTS)
    assert given == {
        "backbone": WIDE,
        "layers": tuple(RESNET_LAYERS),
        "pre_trained": True,
        "blocks": (2, 5, 8),
        "padding": "reflect",
        "score_map": "additive",
    }
    assert detector.input_size == (256, 256)
    clipping = {"gradient_clip_val": 2.0, "gradient_clip_algorithm": "norm"}
    assert detector.trainer_arguments == {"num_sanity_val_steps": 0, **clipping}


def test_numbers_of_parameters_are_the_specified(whole):
    of_flows = [trained_number(flow) for flow in whole.parallel_flows.flows]
    assert of_flows == [1_550_976, 11_993_280, 66_393_600]
    of_blocks = [[trained_number(block) for block in flow] for flow in whole.parallel_flows.flows]
    assert of_blocks == [[775_488] * 2, [2_398_656] * 5, [8_299_200] * 8]
    assert trained_number(whole.fusion_flow) == 19_618_368
    assert trained_number(whole) == 99_556_224
    assert sum(parameter.numel() for parameter in whole.feature_pyramid.parameters()) == 24_862_528


def test_permutations_are_buffers_not_parameters(whole):
    # Whatever is a parameter is either the frozen network's or trained.
    of_flows = [*whole.parallel_flows.parameters(), *whole.fusion_flow.parameters()]
    assert sum(parameter.numel() for parameter in of_flows) == 99_556_224
    state = whole.state_dict()
    for scale, channels in enumerate((256, 512, 1024)):
        assert state[f"fusion_flow.permutation_{scale}"].sort().values.tolist() == list(range(channels))
        matrix = state[f"parallel_flows.flows.{scale}.module_list.1.w_perm"][:, :, 0, 0]
        assert torch.equal(matrix @ matrix.T, torch.eye(channels))
        assert not torch.equal(matrix, torch.eye(channels))


def test_shapes_at_256_are_the_specified(whole):
    model = copy.deepcopy(whole).to("meta")
    images = torch.empty(2, 3, 256, 256, device="meta")
    with torch.inference_mode():
        latents, log_determinant = model.train()(images)
        result = model.eval()(images)
    assert [tuple(latent.shape) for latent in latents] == [(2, 256, 32, 32), (2, 512, 16, 16), (2, 1024, 8, 8)]
    assert log_determinant.shape == (2,)
    assert result.anomaly_map.shape == (2, 1, 256, 256)
    assert result.pred_score.shape == (2,)


@pytest.mark.parametrize(("size", "sides"), [(128, [16, 8, 4]), (512, [64, 32, 16])])
def test_grids_at_other_sizes_are_the_specified(size, sides):
    with torch.device("meta"):
        maps = FeaturePyramid(WIDE, RESNET_LAYERS, pre_trained=False)(torch.empty(1, 3, size, size))
    expected = [(1, channels, side, side) for channels, side in zip((256, 512, 1024), sides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected


@pytest.mark.parametrize("size", [128, 256, 512])
def test_sizes_of_the_experiments(size):
    torch.manual_seed(0)
    model = MsflowModel(LITE0, LITE0_LAYERS, pre_trained=False, blocks=[1, 1, 1])
    images = noise(1, 3, size, size)
    with torch.inference_mode():
        latents, log_determinant = model.train()(images)
        result: Any = model.eval()(images)
    expected = [(1, channels, size // stride, size // stride) for channels, stride in ((24, 8), (40, 16), (112, 32))]
    assert [tuple(latent.shape) for latent in latents] == expected
    assert MsflowLoss()(latents, log_determinant).isfinite()
    assert result.anomaly_map.shape == (1, 1, size, size)
    assert result.anomaly_map.isfinite().all()
    assert 0 < result.pred_score.item() <= result.anomaly_map.max().item()


# The frozen network


def test_fourteen_convolutions_are_padded_by_reflection(whole):
    convolutions = [m for m in whole.feature_pyramid.modules() if isinstance(m, nn.Conv2d)]
    assert {m.padding_mode for m in convolutions if m.kernel_size == (1, 1)} == {"zeros"}
    reflecting = [m for m in convolutions if m.padding_mode == "reflect"]
    assert sorted(m.kernel_size for m in reflecting) == [(3, 3)] * 13 + [(7, 7)]


def with_explicit_padding(module):
    """The same network with paddings of their own ahead of convolutions that have none."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size != (1, 1):
            reflection = nn.ReflectionPad2d(int(child.padding[0]))
            child.padding = (0, 0)
            setattr(module, name, nn.Sequential(reflection, child))
        else:
            with_explicit_padding(child)
    return module


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_features_are_those_of_torchvision_pooled(padding):
    network: Any = torchvision.models.resnet18().eval()
    with use_networks({"resnet18": network.state_dict()}):
        pyramid = FeaturePyramid("resnet18", RESNET_LAYERS, padding=padding)
    images = noise(2, 3, S, S)
    if padding == "reflect":
        with_explicit_padding(network)
    with torch.inference_mode():
        activations = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        for layer, features in zip(RESNET_LAYERS, pyramid.train()(images), strict=True):
            activations = network.get_submodule(layer)(activations)
            # Nine values, pads included, are averaged at every second pixel.
            expected = nn.functional.unfold(activations, 3, padding=1, stride=2).unflatten(1, (-1, 9)).sum(2) / 9
            torch.testing.assert_close(features.flatten(2), expected, rtol=1e-4, atol=1e-5)


def test_network_with_paddings_of_its_own(weights):
    with use_networks({LITE0: weights}):
        pyramid = FeaturePyramid(LITE0, LITE0_LAYERS)
    named = pyramid.feature_extractor.feature_extractor.named_modules()
    convolutions = {name: m for name, m in named if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)}
    same = {name for name, m in convolutions.items() if isinstance(m, Conv2dSame)}
    assert len(same) == 5  # one per halving
    unused = {name for name in convolutions if name.startswith(("blocks.5", "blocks.6"))}
    assert unused
    reflecting = {name for name, m in convolutions.items() if m.padding_mode == "reflect"}
    assert reflecting == convolutions.keys() - same - unused
    assert len(reflecting) == 8  # depthwise convolutions of stride 1, up to blocks.4
    assert pyramid.channels == [24, 40, 112]
    assert [tuple(m.shape) for m in pyramid(noise(1, 3, S, S))] == [(1, 24, 8, 8), (1, 40, 4, 4), (1, 112, 2, 2)]


def test_network_is_frozen():
    model = MsflowModel("resnet18", RESNET_LAYERS, pre_trained=False, blocks=[1, 1, 1]).train()
    pyramid = model.feature_pyramid
    assert not any(module.training for module in pyramid.modules())
    before = {key: tensor.clone() for key, tensor in pyramid.state_dict().items()}
    latents, log_determinant = model(noise(2, 3, S, S))
    MsflowLoss()(latents, log_determinant).backward()
    assert trained_number(pyramid) == 0
    assert all(torch.equal(before[key], tensor) for key, tensor in pyramid.state_dict().items())
    # ... and everything else learns.
    learning = [*model.parallel_flows.parameters(), *model.fusion_flow.parameters()]
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in learning)


# The flows


def test_position_condition_is_the_specified():
    condition = position_condition(torch.zeros(2, 7, 4, 5))
    assert condition.shape == (2, 64, 4, 5)
    assert torch.equal(condition[0], condition[1])
    values = [condition[0, channel, 1, 2].item() for channel in (0, 1, 32, 33)]
    assert values == pytest.approx([0.9093, -0.4161, 0.8415, 0.5403], abs=5e-5)
    assert condition[0, 30, 1, 2].item() == pytest.approx(np.sin(2 * 10000 ** (-30 / 32)), abs=1e-6)


def test_log_determinant_of_a_block_is_the_specified():
    flows = ParallelFlows([256], [1])
    block: Any = flows.get_submodule("flows.0.module_list.0")
    nn.init.zeros_(block.subnet[-1].weight)
    nn.init.ones_(block.subnet[-1].bias)
    _, log_determinant = flows([noise(2, 256, 4, 4)])
    assert log_determinant.tolist() == pytest.approx([387.8281] * 2, abs=2e-4)
    assert block.global_scale.flatten().tolist() == pytest.approx([9.98648] * 256, abs=1e-5)
    assert block.global_offset.abs().max() == 0


def test_block_is_the_specified():
    flows: Any = shake(ParallelFlows([5], [1]))
    block = flows.flows[0][0]
    maps = noise(2, 5, 3, 4, dtype=torch.float64)
    (results,), _ = flows([maps])
    seen = torch.cat([maps[:, :3], position_condition(maps)], 1)
    first, norm, _, second = block.subnet
    hidden = functional.conv2d(functional.pad(seen, [1] * 4), first.weight, first.bias)
    mean = hidden.mean(1, keepdim=True)
    hidden = (hidden - mean) / (hidden.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    hidden = (hidden * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    told = 0.1 * functional.conv2d(functional.pad(hidden, [1] * 4), second.weight, second.bias)
    changed = maps[:, 3:] * (1.9 * told[:, :2].tanh()).exp() + told[:, 2:]
    gains = 0.1 * 2 * (1 + (block.global_scale / 2).exp()).log()
    expected = torch.cat([maps[:, :3], changed], 1) * gains + block.global_offset
    order = block.w_perm[:, :, 0, 0].argmax(1)
    torch.testing.assert_close(results, expected[:, order])


def test_block_is_that_of_freia():
    flows: Any = shake(ParallelFlows([6], [1]))
    block = flows.flows[0][0]
    reference = AllInOneBlock([(6, 1, 1)], [(64, 1, 1)], coupling_network, affine_clamping=1.9).double()
    reference.load_state_dict(block.state_dict())
    maps = noise(2, 6, 3, 4, dtype=torch.float64)
    (expected,), expected_determinant = reference([maps], [position_condition(maps)])
    (result,), log_determinant = flows([maps])
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(log_determinant, expected_determinant)


def test_convolutions_of_the_flows_are_drawn_as_torch_does(whole):
    flows = [*whole.parallel_flows.modules(), *whole.fusion_flow.modules()]
    convolutions: list[Any] = [module for module in flows if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 2 * (2 + 5 + 8) + 2 * (2 + 2 * 3)
    for convolution in convolutions:
        bound = 1 / np.sqrt(9 * convolution.in_channels)
        for values in (convolution.weight.detach(), convolution.bias.detach()):
            assert 0.9 * bound < values.abs().max() <= bound
        assert convolution.weight.std().item() == pytest.approx(bound / np.sqrt(3), rel=0.02)


def test_fusion_without_parameters_is_a_permutation():
    flow = FusionFlow([6, 8, 10])
    for parameter in flow.parameters():
        nn.init.zeros_(parameter)
    maps = [noise(2, 6, 8, 8), noise(2, 8, 4, 4), noise(2, 10, 2, 2)]
    results, log_determinant = flow(maps)
    for scale, (before, after) in enumerate(zip(maps, results, strict=True)):
        assert torch.equal(after, before[:, flow.get_buffer(f"permutation_{scale}")])
    assert log_determinant.tolist() == [0, 0]


def test_log_determinant_of_the_fusion_is_the_specified():
    flow = FusionFlow([256, 512, 1024])
    for name, parameter in flow.named_parameters():
        nn.init.constant_(parameter, float(".scales." in name and name.endswith("bias")))
    maps = [noise(1, 256, 32, 32), noise(1, 512, 16, 16), noise(1, 1024, 8, 8)]
    with torch.inference_mode():
        results, log_determinant = flow(maps)
    assert log_determinant.tolist() == pytest.approx([268_573.2], abs=0.1)
    for scale, (before, after) in enumerate(zip(maps, results, strict=True)):
        expected = 1.79579 * before[:, flow.get_buffer(f"permutation_{scale}")]
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=0)


def expected_scales_and_shifts(network, maps):
    """Two scales of 4 x 4 and 2 x 2 pixels, step by step as specified."""
    pooled = torch.cat([maps[0].unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5)), maps[1]], 1)
    hidden = network.exchange[0](pooled).permute(0, 2, 3, 1)
    norm = network.exchange[1]
    hidden = functional.layer_norm(hidden, hidden.shape[-1:], norm.weight, norm.bias).relu().permute(0, 3, 1, 2)
    fine, coarse = network.exchange[3](hidden).relu().split([m.shape[1] for m in maps], 1)
    # Thirds of the way from one pixel to the other: corners lie on corners.
    spread = torch.tensor([[1, 0], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0, 1]], dtype=fine.dtype)
    seen = [maps[0] + spread @ fine @ spread.T, maps[1] + coarse]
    log_scales = [
        1.9 * 0.636 * (convolution(m) / 1.9).atan() for convolution, m in zip(network.scales, seen, strict=True)
    ]
    return log_scales, [convolution(m) for convolution, m in zip(network.shifts, seen, strict=True)]


def test_fusion_is_the_specified():
    flow: Any = shake(FusionFlow([6, 8]))
    maps = [noise(2, 6, 4, 4, dtype=torch.float64), noise(2, 8, 2, 2, dtype=torch.float64)]
    permuted = [maps[0][:, flow.permutation_0], maps[1][:, flow.permutation_1]]
    a, b = ([halves[i] for halves in (m.chunk(2, 1) for m in permuted)] for i in (0, 1))
    log_scales, shifts = expected_scales_and_shifts(flow.network_of_second, b)
    a = [s.exp() * m + t for s, m, t in zip(log_scales, a, shifts, strict=True)]
    more_log_scales, shifts = expected_scales_and_shifts(flow.network_of_first, a)
    b = [s.exp() * m + t for s, m, t in zip(more_log_scales, b, shifts, strict=True)]
    results, log_determinant = flow(maps)
    for scale in range(2):
        torch.testing.assert_close(results[scale], torch.cat([a[scale], b[scale]], 1))
    expected = [sum(s[image].sum().item() for s in [*log_scales, *more_log_scales]) for image in range(2)]
    assert log_determinant.tolist() == pytest.approx(expected)


def test_fusion_limits_its_results():
    (result,), _ = FusionFlow([4])([torch.tensor([3e7, -3e7, 2e8, -2e8]).reshape(1, 4, 1, 1).expand(1, 4, 2, 2)])
    assert result.abs().max() == 1e6


FLOWS = {
    "block": lambda: ParallelFlows([4], [1]),
    "parallel flows": lambda: ParallelFlows([4, 3], [1, 3]),
    "fusion flow": lambda: FusionFlow([4, 3, 6]),
}
SHAPES = {
    "block": [(4, 3, 4)],
    "parallel flows": [(4, 3, 2), (3, 2, 2)],
    "fusion flow": [(4, 4, 4), (3, 2, 3), (6, 1, 2)],
}


@pytest.mark.parametrize("name", FLOWS)
def test_flows_invert(name):
    torch.manual_seed(1)
    flow = shake(FLOWS[name]())
    maps = [noise(2, *shape, dtype=torch.float64) for shape in SHAPES[name]]
    results, log_determinant = flow(maps)
    assert all((after - before).abs().max() > 0.1 for before, after in zip(maps, results, strict=True))
    inverted, inverse_log_determinant = flow(results, rev=True)
    for before, after in zip(maps, inverted, strict=True):
        assert (after - before).abs().max() < 1e-4
    torch.testing.assert_close(inverse_log_determinant, -log_determinant)


def test_flows_of_full_size_invert_in_single_precision(whole):
    maps = [noise(1, 256, 8, 8), noise(1, 512, 4, 4), noise(1, 1024, 2, 2)]
    with torch.inference_mode():
        between, _ = whole.parallel_flows(maps)
        latents, _ = whole.fusion_flow(between)
        inverted, _ = whole.parallel_flows(whole.fusion_flow(latents, rev=True)[0], rev=True)
    for before, after in zip(maps, inverted, strict=True):
        assert (after - before).abs().max() < 1e-5


def whole_of_small_flows():
    """A model that takes features of the shapes of the fusion flow for images, and gives their latent values."""
    model = MsflowModel(LITE0, LITE0_LAYERS, pre_trained=False, blocks=[1, 1, 1])
    model.feature_pyramid = nn.Identity()  # type: ignore[assignment]
    model.parallel_flows, model.fusion_flow = ParallelFlows([4, 3, 6], [1, 3, 2]), FusionFlow([4, 3, 6])
    return model.train()


@pytest.mark.parametrize("name", [*FLOWS, "whole"])
def test_log_determinants_are_those_of_the_jacobian(name):
    torch.manual_seed(1)
    flow = shake(FLOWS.get(name, whole_of_small_flows)())
    shapes = SHAPES.get(name, SHAPES["fusion flow"])
    sizes = [int(np.prod(shape)) for shape in shapes]
    values = noise(2, sum(sizes), dtype=torch.float64)

    def transform(flat):
        maps = [part.reshape(-1, *shape) for part, shape in zip(flat.split(sizes, 1), shapes, strict=True)]
        results, log_determinant = flow(maps)
        return torch.cat([result.flatten(1) for result in results], 1), log_determinant

    step = 1e-5
    _, log_determinant = transform(values)
    for image in range(2):
        moves = step * torch.eye(sum(sizes), dtype=torch.float64)
        with torch.inference_mode():
            difference = transform(values[image] + moves)[0] - transform(values[image] - moves)[0]
        expected = torch.linalg.slogdet(difference / (2 * step)).logabsdet.item()
        assert abs(expected) > 0.1
        assert log_determinant[image].item() == pytest.approx(expected, abs=1e-4)


# Loss and learning rate


def test_loss_is_the_specified():
    ones = [torch.ones(2, 256, 32, 32), torch.ones(2, 512, 16, 16), torch.ones(2, 1024, 8, 8)]
    assert MsflowLoss()(ones, torch.zeros(2)).item() == 229_376
    assert MsflowLoss()([torch.tensor([2.0, 4.0]).reshape(2, 1, 1, 1)], torch.tensor([1.0, 4.0])).item() == 2.5


def rates_of(max_epochs):
    detector = Msflow(LITE0, LITE0_LAYERS, pre_trained=False, blocks=BLOCKS, **WITHOUT_PARTS)
    detector.trainer = pl.Trainer(max_epochs=max_epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
    configured: Any = detector.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert configured["lr_scheduler"]["interval"] == "epoch"
    rates = []
    for _ in range(max_epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return optimizer, rates


def test_learning_rates_are_the_specified():
    optimizer, rates = rates_of(100)
    assert [rates[epoch] for epoch in (0, 1, 11)] == pytest.approx([1.0e-5, 1.75e-5, 9.25e-5])
    assert rates[12:70] == pytest.approx([1e-4] * 58)
    assert rates[70:90] == pytest.approx([3.3e-5] * 20)
    assert rates[90:] == pytest.approx([1.089e-5] * 10)
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 0)
    assert all(parameter.requires_grad for parameter in group["params"])


def test_learning_rates_of_a_shorter_training_are_at_the_same_parts():
    _, whole_length = rates_of(100)
    assert rates_of(20)[1] == pytest.approx(whole_length[::5])
    assert rates_of(10)[1] == pytest.approx(whole_length[::10])


def test_a_length_in_steps_is_refused(fit_on):
    with pytest.raises(DetectorError, match="max_epochs"):
        fit_on(part_of(2), trainer={"max_steps": 1})


class _Watch(pl.Callback):
    """Notes the norm of the gradients a step was made with, and its learning rate."""

    def __init__(self):
        self.norms, self.rates = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        self.norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


def test_anomalibs_engine_trains_it(tmp_path):
    watch = _Watch()
    detector = Msflow(
        LITE0,
        LITE0_LAYERS,
        pre_trained=False,
        blocks=BLOCKS,
        pre_processor=Msflow.configure_pre_processor((S, S)),
        visualizer=False,  # it would read the images' files, which there are not
    )
    engine = Engine(
        default_root_dir=tmp_path,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        max_epochs=2,
        callbacks=[watch],
    )
    part = part_of(4)
    part.table.loc[2:, "label"] = "bad"
    data: Any = ValidatedParts(part, batch_size=2)
    engine.fit(detector, datamodule=data)
    assert watch.norms == pytest.approx([2.0] * 4, rel=1e-4)  # every step was clipped
    assert watch.rates == pytest.approx([1e-5, 1e-5, 1e-4, 1e-4])  # at the start and in the middle
    predictions: Any = engine.predict(detector, datamodule=data)
    assert torch.cat([batch.anomaly_map for batch in predictions]).isfinite().all()


# Map and score


def test_map_and_score_are_the_specified():
    log_likelihoods = [torch.tensor([[0.0, -1.0], [-2.0, -3.0]]).reshape(1, 1, 2, 2)] * 3
    maps = additive_map(log_likelihoods, (4, 4))
    corners = maps[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]].tolist()
    assert corners == pytest.approx([0, 1.89636, 2.59399, 2.85064], abs=5e-6)
    assert maps.flatten().topk(4).values.mean().item() == pytest.approx(2.7223, abs=5e-5)
    # 3 % of 134 values are the 4 largest; the others are small.
    padded = torch.cat([maps.flatten(), torch.full((134 - 16,), -1.0)]).reshape(1, 1, 2, 67)
    assert mean_of_largest(padded).item() == pytest.approx(2.7223, abs=5e-5)


def test_maps_are_relative_to_each_image():
    log_likelihoods = [noise(2, 1, side, side, seed=side) for side in (8, 4, 2)]
    shifted = [values + 100 * scale - 500 for scale, values in enumerate(log_likelihoods)]
    maps = additive_map(log_likelihoods, (16, 16))
    torch.testing.assert_close(additive_map(shifted, (16, 16)), maps, rtol=0, atol=1e-4)
    assert maps.amin((2, 3)).flatten().tolist() == [0, 0]
    assert maps.max() < 3


def test_multiplicative_map():
    first = torch.tensor([[0.0, -1.0], [-2.0, -3.0]]).reshape(1, 1, 2, 2)
    second = torch.tensor([[5.0, 7.0], [4.0, 5.0]]).reshape(1, 1, 2, 2)
    # Products of the likelihoods are exp of 5, 6, 2, 2; relative to the largest exp of -1, 0, -4, -4.
    maps = multiplicative_map([first, second], (2, 2))
    expected = 1 - np.exp([-1, 0, -4, -4])
    assert maps.flatten().tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    # Enlarged as logarithms: half way between two pixels it is the geometric mean.
    assert multiplicative_map([first], (3, 3))[0, 0, 0, 1].item() == pytest.approx(1 - np.exp(-0.5), abs=1e-6)


def enlarged(maps):
    """Bilinear interpolation of maps ``(B, n, n)`` to S x S that keeps the corners in place."""
    n = maps.shape[-1]
    places = np.linspace(0, n - 1, S)
    matrix = np.stack([np.interp(places, range(n), peak) for peak in np.eye(n)], axis=1)
    return matrix @ maps @ matrix.T


def of_largest(maps):
    return np.sort(maps.reshape(len(maps), -1), axis=1)[:, -122:].mean(1)  # floor(0.03 * 64 * 64)


@pytest.mark.parametrize("score_map", ["additive", "multiplicative"])
def test_map_and_score_of_an_image_are_the_specified(score_map):
    torch.manual_seed(0)
    model = MsflowModel(LITE0, LITE0_LAYERS, pre_trained=False, blocks=BLOCKS, score_map=score_map).double()
    for flow in (model.parallel_flows, model.fusion_flow):
        shake(flow, spread=0.05)
    images = noise(2, 3, S, S, dtype=torch.float64)
    with torch.inference_mode():
        latents, _ = model.train()(images)
        result: Any = model.eval()(images)
        by_hand, _ = model.fusion_flow(model.parallel_flows(model.feature_pyramid(images))[0])
    assert all(torch.equal(*pair) for pair in zip(latents, by_hand, strict=True))
    log_likelihoods = [-0.5 * np.mean(latent.numpy() ** 2, axis=1) for latent in latents]
    shares = sum(enlarged(np.exp(values - values.max((1, 2), keepdims=True))) for values in log_likelihoods)
    maps = shares.max((1, 2), keepdims=True) - shares
    assert maps.max() > 0.5
    np.testing.assert_allclose(result.anomaly_map[:, 0], maps, atol=1e-9)
    if score_map == "multiplicative":
        product = np.exp(sum(enlarged(values) for values in log_likelihoods))
        maps = 1 - product / product.max((1, 2), keepdims=True)
    np.testing.assert_allclose(result.pred_score, of_largest(maps), atol=1e-9)


@pytest.mark.parametrize(("size", "count"), [(128, 491), (256, 1966), (512, 7864), (4, 1)])
def test_score_is_the_mean_of_the_specified_number_of_values(size, count):
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, size, size)))
    expected = [np.sort(image.flatten())[-count:].mean() for image in maps.numpy()]
    assert mean_of_largest(maps).tolist() == pytest.approx(expected)


def test_score_map_is_a_choice():
    results = {}
    for score_map in ("additive", "multiplicative"):
        torch.manual_seed(0)
        model = MsflowModel(LITE0, LITE0_LAYERS, pre_trained=False, blocks=BLOCKS, score_map=score_map).eval()
        results[score_map] = model(noise(2, 3, S, S))
    additive, multiplicative = results["additive"], results["multiplicative"]
    assert torch.equal(additive.anomaly_map, multiplicative.anomaly_map)
    torch.testing.assert_close(additive.pred_score, mean_of_largest(additive.anomaly_map))
    assert (additive.pred_score - multiplicative.pred_score).abs().min() > 1e-3
    assert multiplicative.pred_score.max() <= 1


# In use


@pytest.mark.parametrize(
    ("backbone", "layers"), [("resnet18", RESNET_LAYERS), ("resnet50", ["layer2", "layer3"]), (LITE0, LITE0_LAYERS)]
)
@pytest.mark.parametrize("size", [64, 128])
def test_networks_and_sizes(backbone, layers, size):
    model = MsflowModel(backbone, layers, pre_trained=False, blocks=[1] * len(layers)).eval()
    images = noise(3, 3, size, size)
    result: Any = model(images)
    assert isinstance(result, InferenceBatch)
    assert result.anomaly_map is not None
    assert result.pred_score is not None
    assert result.anomaly_map.shape == (3, 1, size, size)
    assert result.anomaly_map.dtype == result.pred_score.dtype == torch.float32
    assert result.anomaly_map.isfinite().all()
    alone = model(images[1:2])  # does not depend on the batch it is in
    torch.testing.assert_close(alone.anomaly_map[0], result.anomaly_map[1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(alone.pred_score[0], result.pred_score[1], rtol=1e-3, atol=1e-4)


def test_fit_lowers_the_loss_and_predict_gives_maps(fitted):
    checkpoint, record = fitted
    losses = record["losses"]["train_loss"]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    scores, maps, _ = predict(checkpoint, part_of(3, seed=1), batch_size=2)
    assert np.isfinite(scores["pred_score"]).all()
    assert scores["pred_score"].nunique() == 3
    assert maps is not None
    assert maps.shape == (3, S, S)
    assert maps.min(axis=(1, 2)).tolist() == [0, 0, 0]


def test_same_seed_same_bits(fitted, fit_on):
    again, _ = fit_on(part_of(6))
    assert all(torch.equal(again["state_dict"][key], value) for key, value in fitted[0]["state_dict"].items())
    other, _ = fit_on(part_of(6), seed=4, trainer={"max_epochs": 1})
    key = "model.fusion_flow.permutation_2"
    assert not torch.equal(other["state_dict"][key], fitted[0]["state_dict"][key])


def test_checkpoint_file_gives_the_same_bits(fitted, tmp_path):
    checkpoint, _ = fitted
    torch.save(checkpoint, tmp_path / "detector.pt")
    test = part_of(3, seed=1)
    expected, expected_maps, _ = predict(checkpoint, test, 3)
    torch.manual_seed(99)  # the module built for the file draws other permutations than the trained one
    scores, maps, _ = predict(torch.load(tmp_path / "detector.pt", weights_only=True), test, 3)
    assert np.array_equal(scores["pred_score"], expected["pred_score"])
    assert maps is not None
    assert expected_maps is not None
    assert np.array_equal(maps, expected_maps)


def test_permutations_are_restored():
    first, second = (MsflowModel(LITE0, LITE0_LAYERS, pre_trained=False, blocks=BLOCKS).train() for _ in range(2))
    changed = {key for key, tensor in first.state_dict().items() if not torch.equal(tensor, second.state_dict()[key])}
    assert {f"fusion_flow.permutation_{scale}" for scale in range(3)} < changed
    second.load_state_dict(first.state_dict(), strict=True)
    images = noise(2, 3, S, S)
    with torch.inference_mode():
        for before, after in zip(first(images)[0], second(images)[0], strict=True):
            assert torch.equal(before, after)


def test_one_image_is_enough(fit_on):
    checkpoint, record = fit_on(part_of(1), batch_size=1, trainer={"max_epochs": 1})
    assert np.isfinite(record["losses"]["train_loss"]).all()
    scores, _, _ = predict(checkpoint, part_of(3, seed=1), batch_size=1)
    together, _, _ = predict(checkpoint, part_of(3, seed=1), batch_size=3)
    np.testing.assert_allclose(scores["pred_score"], together["pred_score"], rtol=1e-3, atol=1e-4)


def test_network_keeps_its_weights(fitted, weights):
    prefix = "model.feature_pyramid.feature_extractor.feature_extractor."
    network = {key.removeprefix(prefix): value for key, value in fitted[0]["state_dict"].items() if prefix in key}
    assert len(network) > 100
    assert all(torch.equal(value, weights[key]) for key, value in network.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "circular"}, "padding is 'circular'"),
        ({"score_map": "sum"}, "score_map is 'sum'"),
        ({"blocks": [1, 2]}, "one number, 1 at least, per layer"),
        ({"blocks": [1, 0, 1]}, "one number, 1 at least, per layer"),
        ({"layers": ["blocks.1", "blocks.2", "layer4"]}, r"no layers \['layer4'\]"),
        ({"layers": ["blocks.4", "blocks.2", "blocks.1"]}, "from fine to coarse"),
        ({"layers": ["blocks.1", "blocks.1", "blocks.4"]}, "from fine to coarse"),
    ],
)
def test_settings_that_cannot_be_used(arguments, message):
    settings: dict[str, Any] = {"layers": LITE0_LAYERS, "blocks": BLOCKS, **arguments}
    with pytest.raises(DetectorError, match=message):
        Msflow(LITE0, pre_trained=False, **settings, **WITHOUT_PARTS)


def test_training_step_does_not_look_at_labels():
    torch.manual_seed(0)
    detector = Msflow(LITE0, LITE0_LAYERS, pre_trained=False, blocks=BLOCKS, **WITHOUT_PARTS).train()
    images = noise(2, 3, S, S)
    losses = [
        detector.training_step(ImageBatch(image=images, gt_label=labels))
        for labels in (None, torch.tensor([False, True]))
    ]
    assert torch.equal(*losses)


def test_weights_can_be_those_of_timm():
    network = timm.create_model("resnet18")
    with use_networks({"resnet18.tv_in1k": network.state_dict()}):
        detector = Msflow("resnet18.tv_in1k", blocks=[1, 1, 1], **WITHOUT_PARTS)
    extractor = detector.model.feature_pyramid.feature_extractor.feature_extractor
    assert torch.equal(extractor.state_dict()["conv1.weight"], network.state_dict()["conv1.weight"])
