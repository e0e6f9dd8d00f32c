"""Patch descriptors against a literal calculation, worked examples and anomalib's GLASS."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from anomalib.models.image.glass.torch_model import GlassModel
from torch import nn

from shopfloor.detectors.patch_descriptors import describe_level, describe_patches


def random_maps(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def pool_group_by_group(vectors, size):
    """1-d adaptive average pooling of the last axis, written out."""
    n = vectors.shape[-1]
    groups = [vectors[..., j * n // size : math.ceil((j + 1) * n / size)] for j in range(size)]
    return np.stack([group.mean(-1) for group in groups], axis=-1)


def neighbourhoods_on_first_grid(levels):
    """Steps 1 and 2 of the specification: all 9C entries of each level at each position ``(B, h, w, 9C)``."""
    grid = levels[0].shape[2:]
    vectors = []
    for level in levels:
        unfolded = nn.Unfold(3, padding=1)(level).reshape(len(level), -1, *level.shape[2:])
        upsampled = nn.functional.interpolate(unfolded, size=grid, mode="bilinear", align_corners=False)
        vectors.append(upsampled.permute(0, 2, 3, 1).numpy())
    return vectors


def describe_literally(levels, level_size, target_size):
    reduced = [pool_group_by_group(vectors, level_size) for vectors in neighbourhoods_on_first_grid(levels)]
    return pool_group_by_group(np.concatenate(reduced, axis=-1), target_size).transpose(0, 3, 1, 2)


SHAPES = {
    "even groups": [(2, 8, 8, 8), (2, 16, 4, 4)],
    "uneven groups": [(2, 5, 8, 8), (2, 14, 4, 4)],
    "fewer entries than asked for": [(1, 1, 6, 6), (1, 2, 3, 3)],
    "one level": [(2, 7, 5, 5)],
    "three levels": [(1, 4, 8, 8), (1, 6, 4, 4), (1, 9, 2, 2)],
    "thirteen levels": [(1, 3 + number, 8 >> number // 4, 8 >> number // 4) for number in range(13)],
    "grids that do not divide": [(1, 4, 9, 7), (1, 5, 5, 4)],
    "a later level is larger": [(1, 4, 4, 4), (1, 5, 8, 8)],
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("level_size", "target_size"), [(24, 24), (24, 12), (24, 16), (24, 20), (16, 16), (5, 100)])
def test_descriptors_are_those_of_the_literal_calculation(shapes, level_size, target_size):
    levels = random_maps(*shapes)
    descriptors = describe_patches(levels, level_size, target_size)
    assert descriptors.shape == (shapes[0][0], target_size, *shapes[0][2:])
    assert np.abs(descriptors.numpy() - describe_literally(levels, level_size, target_size)).max() < 1e-14


@pytest.mark.parametrize("channels", [[40, 112], [24, 40], [128, 256]], ids=str)  # light backbones, resnet18
def test_channels_of_light_backbones_at_full_descriptor_size(channels):
    levels = random_maps((1, channels[0], 4, 4), (1, channels[1], 2, 2))
    descriptors = describe_patches(levels, 1536, 1536)
    assert np.abs(descriptors.numpy() - describe_literally(levels, 1536, 1536)).max() < 1e-14


def test_wide_resnet_descriptors_are_means_of_6_and_of_12_entries():
    levels = random_maps((2, 512, 4, 4), (2, 1024, 2, 2), dtype=torch.float32)
    fine, coarse = neighbourhoods_on_first_grid(levels)
    expected = np.concatenate([fine.reshape(2, 4, 4, 768, 6).mean(-1), coarse.reshape(2, 4, 4, 768, 12).mean(-1)], -1)
    descriptors = describe_patches(levels, 1536, 1536).permute(0, 2, 3, 1).numpy()
    assert np.abs(descriptors - expected).max() < 2e-6  # the specification's bound


def test_thirteen_levels_of_inreach_in_groups_of_13():
    channels = [256] * 3 + [512] * 4 + [1024] * 5 + [2048]
    sides = [4] * 3 + [2] * 4 + [1] * 6
    levels = random_maps(*[(1, n, side, side) for n, side in zip(channels, sides, strict=True)])
    reduced = [pool_group_by_group(vectors, 1024) for vectors in neighbourhoods_on_first_grid(levels)]
    expected = np.concatenate(reduced, axis=-1).reshape(1, 4, 4, 1024, 13).mean(-1)
    descriptors = describe_patches(levels, 1024, 1024).permute(0, 2, 3, 1).numpy()
    assert np.abs(descriptors - expected).max() < 1e-14


def test_entries_go_channel_by_channel_row_by_row_with_zeros_beyond_the_edge():
    first = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    entries = describe_level(torch.cat([first, 10 * first], dim=1), 18)
    assert entries[0, :, 1, 1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert entries[0, :9, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 0, 4, 5]
    assert entries[0, 9:, 2, 1].tolist() == [40, 50, 60, 70, 80, 90, 0, 0, 0]


def test_groups_cut_across_channels():
    level = torch.zeros(1, 2, 3, 3)
    level[0, 1] = 1
    # 18 entries in 4 groups: 0-4, 4-8, 9-13, 13-17; in 3 groups of 6: the middle one takes 3 of each channel.
    assert describe_level(level, 4)[0, :, 1, 1].tolist() == [0, 0, 1, 1]
    assert describe_level(level, 3)[0, :, 1, 1].tolist() == [0, 0.5, 1]
    # 9 entries in 2 groups overlap in the middle one: means of 1-5 and of 5-9.
    counting = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert describe_level(counting, 2)[0, :, 1, 1].tolist() == [3, 7]


def test_an_image_is_described_the_same_alone_and_in_a_batch():
    levels = random_maps((3, 8, 8, 8), (3, 16, 4, 4), dtype=torch.float32)
    together = describe_patches(levels, 24, 24)
    alone = describe_patches([level[1:2] for level in levels], 24, 24)
    assert torch.equal(together[1:2], alone)


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [("resnet18", ["layer2", "layer3"]), ("tf_efficientnet_lite0", ["blocks.2", "blocks.4"])],
)
def test_descriptors_are_those_of_anomalibs_glass(backbone, layers):
    torch.manual_seed(0)
    glass = GlassModel(input_shape=(64, 64), backbone=backbone, layers=layers, pre_trained=False).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected, _ = glass.generate_embeddings(images, evaluation=True)
        maps = glass.forward_modules["feature_aggregator"](images)
        descriptors = describe_patches([maps[layer] for layer in layers], 1536, 1536)
    assert expected.std() > 1e-3
    torch.testing.assert_close(descriptors.permute(0, 2, 3, 1).reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
