"""CS-Flow's numbers on features of unit size: anomalib's, those of the maths written out, those of the public code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.models.image.csflow.loss import CsFlowLoss
from anomalib.models.image.csflow.torch_model import CsFlowModel
from torch.nn import functional
from torchvision.models import efficientnet_b5

from shopfloor.detectors.backbones import use_networks
from shopfloor.detectors.csflow.loss import PerImageLoss
from shopfloor.detectors.csflow.torch_model import CrossScaleFlow, CsflowModel

B5 = "torchvision/efficientnet_b5.IMAGENET1K_V1"
S, SIDES = 128, (4, 2, 1)
Maps = list[torch.Tensor]


def normal_features(channels: int, seed: int, count: int = 3, dtype: torch.dtype = torch.float32) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, channels, side, side, generator=generator, dtype=dtype) for side in SIDES]


def open_gammas(model: torch.nn.Module) -> None:
    """Lets the coupling blocks, which start as identities, do something."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.0, generator=generator)


def after_three_steps(
    parameters: Sequence[torch.Tensor], loss_of: Callable[[int], torch.Tensor], betas: tuple[float, float]
) -> Maps:
    """The losses, and how far the parameters were moved."""
    start = [parameter.detach().clone() for parameter in parameters]
    optimiser = torch.optim.Adam(parameters, lr=2e-4, eps=1e-4, weight_decay=1e-5, betas=betas)
    losses = []
    for step in range(3):
        optimiser.zero_grad()
        loss = loss_of(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(loss.detach())
    moved = [parameter.detach() - before for parameter, before in zip(parameters, start, strict=True)]
    return [torch.stack(losses), *moved]


class Given(torch.nn.Module):
    """Stands for the network: its features are new ones with every batch, and the same for two models."""

    def __init__(self) -> None:
        super().__init__()
        self.batch = 0

    def forward(self, images: torch.Tensor) -> Maps:
        self.batch += 1
        return normal_features(304, self.batch, len(images))


def test_everything_is_anomalibs_bit_for_bit() -> None:
    arguments: dict[str, Any] = {"cross_conv_hidden_channels": 4, "n_coupling_blocks": 2, "clamp": 3}
    with use_networks({B5: efficientnet_b5().state_dict()}):
        theirs = CsFlowModel((S, S), **arguments)
    ours = CsflowModel(B5, "features.6.8", (S, S), pre_trained=False, **arguments)
    open_gammas(theirs.graph)
    ours.graph.load_state_dict(theirs.graph.state_dict())

    def measured(model: CsFlowModel) -> Maps:
        model.feature_extractor = Given()  # type: ignore[assignment]
        images, parameters = torch.zeros(3, 3, S, S), list(model.graph.parameters())
        latent, log_determinant = model.train()(images)
        loss = CsFlowLoss()(latent, log_determinant)
        gradient = torch.autograd.grad(loss, parameters)
        trained = after_three_steps(parameters, lambda _: CsFlowLoss()(*model(images)), (0.5, 0.9))
        with torch.inference_mode():
            result = model.eval()(images)
        return [*latent, log_determinant, loss, *gradient, *trained, result.pred_score, result.anomaly_map]

    expected, found = measured(theirs), measured(ours)
    assert all(map(torch.equal, expected, found))
    assert all(z.std() > 0.5 for z in expected[:3])
    assert expected[3].abs().min() > 1
    assert all(tensor.any() for tensor in expected)


# The method written out


def across_scales(weights: dict[str, torch.Tensor], scales: Maps, padding: int) -> Maps:
    """Each scale's two convolutions, and the second one of its neighbours, enlarged and shrunk."""

    def convolve(name: str, values: torch.Tensor, stride: int = 1) -> torch.Tensor:
        return functional.conv2d(values, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding)

    inner = [convolve(f"conv_scale{number}_0", values) for number, values in enumerate(scales)]
    inner = [torch.where(values > 0, values, values / 10) for values in inner]
    own = [convolve(f"conv_scale{number}_1", values) for number, values in enumerate(inner)]
    enlarged = [functional.interpolate(values, scale_factor=2, mode="bilinear") for values in inner[1:]]
    together = [
        own[0] + convolve("up_conv10", enlarged[0]),
        own[1] + convolve("up_conv21", enlarged[1]) + convolve("down_conv01", inner[0], 2),
        own[2] + convolve("down_conv12", inner[1], 2),
    ]
    return [values * weights[f"gamma{number}"] for number, values in enumerate(together)]


def coupled(weights: dict[str, torch.Tensor], part: Maps, seen: Maps, padding: int) -> tuple[Maps, torch.Tensor]:
    """Stretches and shifts one half of the channels in sight of the other; also the sum of the logarithms per image."""
    result, log_determinant = [], torch.zeros(1)
    for values, answer in zip(part, across_scales(weights, seen, padding), strict=True):
        stretch, shift = answer.split(values.shape[1], 1)
        logarithm = 3 * 0.636 * torch.atan(stretch / 3)
        result.append(values * torch.exp(logarithm) + shift)
        log_determinant = log_determinant + logarithm.flatten(1).sum(1)
    return result, log_determinant


def written_out(flow: CrossScaleFlow, features: Maps, orders: list[list[np.ndarray]]) -> tuple[Maps, torch.Tensor]:
    """Latent maps and each image's own log-determinant, of the parameters of a flow and nothing else of it."""
    parameters: dict[str, torch.Tensor] = {
        name.removeprefix("graph.module_list."): each for name, each in flow.named_parameters()
    }
    half = features[0].shape[1] // 2
    scales, log_determinant = features, torch.zeros(1)
    for block, order in enumerate(orders):
        scales = [values[:, channels] for values, channels in zip(scales, order, strict=True)]
        first, last = [values[:, :half] for values in scales], [values[:, half:] for values in scales]
        padding = 2 if block == len(orders) - 1 else 1  # its kernels are of 5 x 5, the others of 3 x 3
        weights = [
            {name.removeprefix(start): each for name, each in parameters.items() if name.startswith(start)}
            for start in (f"{2 * block + 1}.cross_convolution{number}." for number in (1, 2))
        ]
        first, of_first = coupled(weights[1], first, last, padding)
        last, of_last = coupled(weights[0], last, first, padding)
        scales = [torch.cat(pair, 1) for pair in zip(first, last, strict=True)]
        log_determinant = log_determinant + of_first + of_last
    return scales, log_determinant


def mean_of_losses(latent: Maps, log_determinant: torch.Tensor) -> torch.Tensor:
    """Mean over the images of what each one loses by itself, per value."""
    losses = []
    for image, own in enumerate(log_determinant):
        values = torch.cat([z[image].flatten() for z in latent])
        losses.append((values.square().sum() / 2 - own) / len(values))
    return torch.stack(losses).mean()


def test_flow_and_losses_are_those_written_out() -> None:
    torch.manual_seed(0)
    channels, count = 7, 3
    flow = CrossScaleFlow((channels, 4, 4), n_coupling_blocks=3, clamp=3, cross_conv_hidden_channels=4).double()
    open_gammas(flow)
    parameters = list(flow.parameters())
    orders = [[np.random.default_rng(block).permutation(channels)] * 3 for block in range(3)]  # one for all scales
    features = normal_features(channels, 1, count, torch.float64)
    latent, log_determinant = flow(features)
    expected_latent, expected = written_out(flow, features, orders)
    close: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(latent, expected_latent, **close)
    torch.testing.assert_close(log_determinant, expected.sum().expand(count), **close)
    assert expected.std() > 1
    mine = PerImageLoss()(latent, log_determinant)
    theirs = mean_of_losses(expected_latent, expected)
    batch = CsFlowLoss()(latent, log_determinant)
    torch.testing.assert_close(mine, theirs, **close)
    torch.testing.assert_close(batch, mean_of_losses(expected_latent, expected.sum().expand(count)), **close)
    assert abs(batch - mine) > 0.01
    gradient = torch.autograd.grad(mine, parameters)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, parameters), **close)
    assert all(tensor.any() for tensor in gradient)


# The public code


def wave(tensor: torch.Tensor, start: float, size: float = 1.0) -> torch.Tensor:
    """Numbers that look random and need no generator."""
    return size * torch.sin(start + torch.arange(tensor.numel(), dtype=torch.float64) ** 2).reshape(tensor.shape)


def waves(start: int) -> Maps:
    """Features of unit size of two images."""
    return [wave(torch.empty(2, 5, side, side), start + side, 1.4) for side in SIDES]


@pytest.fixture
def public_flow() -> CrossScaleFlow:
    """With parameters that need no generator, and the public code's permutations: another one for each scale."""
    flow = CrossScaleFlow((5, 4, 4), n_coupling_blocks=2, clamp=3, cross_conv_hidden_channels=3).double()
    for number, parameter in enumerate(flow.parameters()):
        parameter.data = (
            parameter * 0 + 0.7 + 0.05 * (number % 5) if parameter.numel() == 1 else wave(parameter, number, 0.2)
        )
    permutations: list[Any] = [module for module in flow.modules() if hasattr(module, "perm_inv")]
    for block, module in enumerate(permutations):
        state = np.random.RandomState(block)
        module.perm = [torch.from_numpy(state.permutation(5)) for _ in SIDES]
    return flow


def test_numbers_of_the_public_code(public_flow: CrossScaleFlow) -> None:
    """Measured with marco-rudolph/cs-flow, commit 88a13b8: its flow, its ``get_loss``, its training's optimiser."""
    parameters = list(public_flow.parameters())
    latent, log_determinant = public_flow(waves(0))
    loss = PerImageLoss()(latent, log_determinant)
    gradient = torch.autograd.grad(loss, parameters)

    def along_waves(tensors: Any) -> float:
        return sum((tensor * wave(tensor, 100 + number)).sum().item() for number, tensor in enumerate(tensors))

    squares = [216.18629558492822, 54.550981612735626, 14.096629979012109]
    assert [z.square().sum().item() for z in latent] == pytest.approx(squares, rel=1e-9)
    firsts = [1.6327570227068853, 0.9099535295389356, -2.2680539516116416]
    assert [z.flatten()[0].item() for z in latent] == pytest.approx(firsts, rel=1e-9)
    assert log_determinant.tolist() == pytest.approx([-5.113106990578959 - 5.36335504446802] * 2, rel=1e-9)
    assert loss.item() == pytest.approx(0.7280638839208807, rel=1e-9)
    assert float(torch.nn.utils.get_total_norm(gradient)) == pytest.approx(0.9019641186450479, rel=1e-9)
    assert along_waves(gradient) == pytest.approx(4.5757102205383, rel=1e-9)
    losses, *moved = after_three_steps(
        parameters, lambda step: PerImageLoss()(*public_flow(waves(10 * step))), (0.9, 0.999)
    )
    assert losses.tolist() == pytest.approx([0.7280638839208807, 0.927892589584008, 0.8792345506654033], rel=1e-9)
    assert float(torch.nn.utils.get_total_norm(moved)) == pytest.approx(0.02921007381018526, rel=1e-7)
    assert along_waves(moved) == pytest.approx(-0.2299343385268525, rel=1e-7)
