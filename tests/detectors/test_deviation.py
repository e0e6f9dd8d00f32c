"""Deviation loss, top-k score and the network at two scales: the numbers of the specifications."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.deviation import (
    DeviationLoss,
    PositionScore,
    TwoScaleFeatures,
    at_least_two,
    draw_prior,
    top_k_score,
)

IDEAL = torch.tensor([-1.0, 0.0, 1.0])  # mean 0, unbiased standard deviation 1


def loss_of(scores, labels, prior=None):
    return DeviationLoss()(torch.tensor(scores), torch.tensor(labels, dtype=torch.bool), prior).item()


def test_loss_with_an_ideal_prior():
    # |1| for the normal one; 7 is beyond the margin of 5; 2 lacks 3.
    assert loss_of([1.0, 7.0, 2.0], [0, 1, 1], IDEAL) == pytest.approx(4 / 3, abs=1e-6)
    assert loss_of([-2.0], [0], IDEAL) == pytest.approx(2.0)  # too low is wrong, too
    assert loss_of([-2.0], [1], IDEAL) == pytest.approx(7.0)


def test_loss_with_a_shifted_prior():
    # Mean 2, unbiased standard deviation 2: scores 6 and 4 are 2 and 1 deviations above the mean.
    assert loss_of([6.0, 4.0], [0, 1], torch.tensor([0.0, 2.0, 4.0])) == pytest.approx((2 + 4) / 2)


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [([1.0, 7.0, 2.0], [0, 1, 1], 1.3305), ([0.0], [1], 4.9923), ([0.0], [0], 0.0077)],
)
def test_loss_with_the_drawn_prior_of_the_specification(scores, labels, expected):
    torch.manual_seed(0)
    assert loss_of(scores, labels) == pytest.approx(expected, abs=5e-5)


def test_prior_is_drawn_anew_and_from_a_given_generator():
    assert loss_of([1.0], [0]) != loss_of([1.0], [0])
    cpu = torch.device("cpu")
    first, again = (draw_prior(cpu, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (5000,)
    assert first.mean().item() == pytest.approx(-0.0076, abs=5e-5)
    assert first.std().item() == pytest.approx(0.9915, abs=5e-5)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="labels"):
        DeviationLoss()(torch.rand(3, 1), torch.ones(3, dtype=torch.bool))


def test_top_k_of_the_specification():
    # 64 positions: the mean of {32, 31, 31, 30, 30, 29}.
    score = PositionScore(1)
    nn.init.ones_(score.score.weight)
    nn.init.zeros_(score.score.bias)  # type: ignore[arg-type]
    values = torch.arange(-32.0, 32).reshape(1, 1, 8, 8)
    assert score(values).tolist() == [30.5]
    assert top_k_score(values).tolist() == [30.5]


@pytest.mark.parametrize(("side", "k"), [(1, 1), (2, 1), (4, 1), (7, 4), (8, 6), (14, 19), (16, 25)])
def test_top_k_counts_a_tenth_of_the_positions(side, k):
    values = torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(0))
    expected = [sorted(abs(value) for value in image)[-k:] for image in values.flatten(1).tolist()]
    assert top_k_score(values).tolist() == pytest.approx([sum(largest) / k for largest in expected])


def test_position_score_has_the_parameters_of_the_specification():
    assert sum(parameter.numel() for parameter in PositionScore(512).parameters()) == 513


def test_resnet18_has_the_parameters_of_the_specification():
    with torch.device("meta"):
        features = TwoScaleFeatures("resnet18.tv_in1k", "layer4", pre_trained=False)
    assert sum(parameter.numel() for parameter in features.parameters()) == 11_176_512
    assert all(parameter.requires_grad for parameter in features.parameters())
    assert features.channels == 512


@pytest.mark.parametrize(("size", "sides"), [(256, (8, 4)), (64, (2, 1)), (512, (16, 8))])
def test_maps_of_both_scales(size, sides):
    with torch.device("meta"):
        features = TwoScaleFeatures("resnet18", "layer4", pre_trained=False).eval()
        maps = features(torch.empty(1, 3, size, size))
    assert [tuple(scale.shape) for scale in maps] == [(1, 512, side, side) for side in sides]


def test_second_scale_is_every_second_pixel_through_the_same_layers():
    features = TwoScaleFeatures("resnet10t", "layer2", pre_trained=False).eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(features(images)[1], features(images[:, :, ::2, ::2])[0])


def test_batch_norm_learns_from_both_scales():
    features = TwoScaleFeatures("resnet10t", "layer2", pre_trained=False).train()
    features(torch.rand(2, 3, 64, 64))
    counts = {int(buffer) for name, buffer in features.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {2}


def test_other_networks_bring_their_own_channels():
    features = TwoScaleFeatures("tf_efficientnet_lite0", "blocks.4", pre_trained=False).eval()
    with torch.inference_mode():
        full, half = features(torch.rand(1, 3, 64, 64))
    assert features.channels == full.shape[1] == half.shape[1] == 112


def test_unknown_layer_is_refused():
    with pytest.raises(DetectorError, match="'resnet10t' has no layer 'layer9'"):
        TwoScaleFeatures("resnet10t", "layer9", pre_trained=False)


def test_a_single_image_is_taken_twice():
    images, labels = torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])
    assert at_least_two(images, labels)[0] is images
    doubled, both = at_least_two(images[1:2], labels[1:2])
    assert both.tolist() == [1, 1]
    assert torch.equal(doubled, images[[1, 1]])
