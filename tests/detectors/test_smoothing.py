"""Smoothing against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from shopfloor.detectors.smoothing import smooth


@pytest.mark.parametrize(("size", "sigma"), [(64, 4.0), (96, 13.0), (33, 13.0), (12, 4.0)])
def test_smoothing_equals_scipy_everywhere_even_where_the_kernel_is_wider_than_the_map(size, sigma):
    maps = np.random.default_rng(0).normal(size=(2, 3, size, size + 5))
    expected = gaussian_filter(maps, sigma, axes=(2, 3))
    assert np.abs(smooth(torch.from_numpy(maps), sigma).numpy() - expected).max() < 1e-12


def test_mixed_precision_does_not_round_maps():
    maps = torch.rand(1, 1, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        smoothed = smooth(maps, 4.0)
    assert torch.equal(smoothed, smooth(maps, 4.0))


def test_a_peak_spreads_as_the_specification_of_simplenet_computes():
    grid = torch.zeros(1, 1, 32, 32)
    grid[0, 0, 16, 16] = 1
    enlarged = torch.nn.functional.interpolate(grid, (256, 256), mode="bilinear", align_corners=False)
    smoothed = smooth(enlarged, 4.0)[0, 0]
    assert float(smoothed.sum()) == pytest.approx(64.0, abs=1e-3)
    assert float(smoothed.max()) == pytest.approx(0.36722, abs=1e-5)
    assert (smoothed > float(smoothed.max()) - 1e-6).nonzero().tolist() == [
        [131, 131], [131, 132], [132, 131], [132, 132],
    ]  # fmt: skip
