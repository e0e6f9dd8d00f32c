"""Masks that are rotated at random: a spot off the centre tells by how much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch


def spot_right_of_the_centre() -> torch.Tensor:
    """A mask (64, 64) with a spot 20 pixels right of its centre (31.5, 31.5)."""
    mask = torch.zeros(64, 64)
    mask[30:34, 50:54] = 1
    return mask


def check_turned_evenly(masks: Sequence[torch.Tensor]) -> None:
    """The spots of some hundred masks (64, 64) lie evenly on the half circle of 90 degrees either way."""
    spots = np.array([torch.nonzero(mask).double().mean(0) for mask in masks])
    rows, columns = spots.T - 31.5
    np.testing.assert_allclose(np.hypot(rows, columns), 20, atol=0.7)
    angles = np.degrees(np.arctan2(rows, columns))
    assert [angles.min(), angles.mean(), angles.max()] == pytest.approx([-90, 0, 90], abs=10)
    assert angles.std() == pytest.approx(180 / 12**0.5, abs=5)  # all angles alike
