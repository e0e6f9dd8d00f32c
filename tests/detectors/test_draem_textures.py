"""The augmenters of DRAEM's textures: each by its definition, and all in distribution against imgaug 0.4.0."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from shopfloor.detectors.draem import texture_augmenters
from shopfloor.detectors.draem.texture_augmenters import (
    AUGMENTERS,
    augment,
    change_brightness,
    change_contrast,
    change_hue_and_saturation,
    change_sharpness,
    equalize,
    invert,
    posterize,
    rotate,
    solarize,
    stretch_contrast,
)

GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)


def pattern():
    """A ramp, a steeper one and a chequered channel (48, 48, 3); no value is 255."""
    row, column = np.mgrid[:48, :48]
    chequers = np.where((row // 6 + column // 6) % 2, 210, 30)
    return np.stack([60 + 3 * column, 40 + 2 * row + column, chequers], axis=-1).astype(np.uint8)


def drawn(augmenter, pixels, n):
    torch.manual_seed(0)
    before = pixels.copy()
    results = np.array([augmenter(pixels) for _ in range(n)])
    assert np.array_equal(pixels, before)
    assert results.dtype == np.uint8
    assert results.shape[1:] == pixels.shape
    return results


# Mean and standard deviation, over 3000 draws by imgaug 0.4.0 with the arguments of the public code (data_loader.py,
# commit 2dbf673; channels handed over as BGR), of the means of red, green and blue and of the whole's deviation.
MEASURED = {
    "change_contrast": ([117.8, 95.5, 113.0, 63.4], [30.2, 32.7, 19.6, 3.6]),
    "change_brightness": ([129.8, 109.8, 119.0, 60.4], [23.0, 23.0, 21.5, 3.9]),
    "change_sharpness": ([130.5, 110.5, 120.0, 60.6], [0.0, 0.0, 0.7, 5.6]),
    "change_hue_and_saturation": ([127.8, 112.0, 119.8, 64.4], [11.4, 14.0, 10.2, 5.7]),
    "solarize": ([119.4, 116.2, 78.3, 53.0], [14.3, 13.3, 41.2, 9.6]),
    "posterize": ([114.5, 93.8, 104.7, 62.5], [21.2, 22.8, 18.5, 1.8]),
    "invert": ([124.5, 144.5, 135.0, 60.5], [0.0, 0.0, 0.0, 0.0]),
    "stretch_contrast": ([127.1, 127.1, 127.5, 101.0], [0.1, 0.1, 0.0, 5.2]),
    "equalize": ([125.3, 126.9, 64.0, 76.6], [0.0, 0.0, 0.0, 0.0]),
    "rotate": ([115.3, 97.7, 106.1, 63.2], [6.6, 5.6, 6.1, 3.0]),
}


@pytest.mark.parametrize("augmenter", AUGMENTERS, ids=lambda augmenter: augmenter.__name__)
def test_draws_as_imgaug_does(augmenter):
    n = 500
    results = drawn(augmenter, pattern(), n).astype(float)
    found = np.concatenate([results.mean((1, 2)), results.std((1, 2, 3))[:, None]], axis=1)
    mean, deviation = map(np.array, MEASURED[augmenter.__name__])
    np.testing.assert_array_less(np.abs(found.mean(0) - mean), 4 * deviation * (1 / n + 1 / 3000) ** 0.5 + 0.15)
    np.testing.assert_allclose(found.std(0), deviation, rtol=0.15, atol=0.1)


def test_contrast_is_a_power_for_each_channel_from_a_half_to_two():
    results = drawn(change_contrast, GREYS, 400)
    values = results[:, 8, 0].astype(float)  # of grey 128
    powers = np.log((values + 0.5) / 255) / np.log(128 / 255)
    assert [powers.min(), powers.mean(), powers.max()] == pytest.approx([0.5, 1.25, 2], abs=0.06)
    assert np.abs(np.corrcoef(powers.T)[np.triu_indices(3, 1)]).max() < 0.2
    for result, power in zip(results, powers, strict=True):
        np.testing.assert_allclose(result.astype(float), 255 * (GREYS / 255) ** power, atol=2)


def test_brightness_is_multiplied_and_offset():
    black, grey = np.moveaxis(drawn(change_brightness, np.full((1, 2, 3), [[[0], [100]]], np.uint8), 1500), 2, 0)[
        :, :, 0
    ]
    assert (np.ptp(grey.astype(int), axis=1) <= 3).all()  # a grey stays grey, up to the rounding of the colour space
    offsets = black.mean(1)
    assert (offsets < 1).mean() == pytest.approx(0.5, abs=0.05)  # nothing is darker than black
    assert offsets.max() == pytest.approx(37, abs=3)  # (0 + 30) * 1.2; some spaces have steps of two or three
    assert [grey.min(), grey.max()] == pytest.approx([52, 154], abs=7)  # 100 * 0.8 - 30, (100 + 30) * 1.2


def test_blue_is_brightness_as_red_is_for_imgaug():
    """imgaug, handed BGR and taking it for RGB, darkened 6.7 % of pure reds and 13.8 % of pure blues below 210."""
    pixels = np.zeros((1, 2, 3), np.uint8)
    pixels[0, 0, 0] = pixels[0, 1, 2] = 255
    results = drawn(change_brightness, pixels, 2000)[:, 0]
    shares = [(values < 210).mean() for values in (results[:, 0, 0], results[:, 1, 2])]
    assert shares == pytest.approx([0.067, 0.138], abs=0.025)


def test_sharpness_goes_from_smoothed_to_sharpened():
    """PIL smooths by (1 1 1; 1 5 1; 1 1 1) / 13, so a lone 130 becomes 50 and its neighbours 10."""
    pixels = np.zeros((7, 7, 3), np.uint8)
    pixels[3, 3] = 130
    results = drawn(change_sharpness, pixels, 400).astype(float)
    factors = (results[:, 3, 3, 0] - 50) / 80
    assert [factors.min(), factors.mean(), factors.max()] == pytest.approx([0, 1, 2], abs=0.08)
    np.testing.assert_allclose(results[:, 3, 2, 1], np.maximum(10 - 10 * factors, 0), atol=1)
    assert not results[:, 5:].any()


def test_hue_and_saturation_are_offset():
    pixels = np.array([[[200, 100, 100], [100, 100, 200]]], np.uint8)  # hues 0 and 240 degrees, saturation 0.5
    shifts = []
    for result in drawn(change_hue_and_saturation, pixels, 600)[:, 0]:
        hues, saturations, values = np.transpose([colorsys.rgb_to_hsv(*pixel / 255) for pixel in result])
        assert values == pytest.approx(200 / 255, abs=0.01)
        turned = (360 * hues - [0, 240] + 180) % 360 - 180
        assert turned[0] == pytest.approx(turned[1], abs=2)  # around the circle
        assert saturations[0] == pytest.approx(saturations[1], abs=0.02)
        shifts.append([turned[0] / 2, 255 * (saturations[0] - 0.5)])
    hue, saturation = np.transpose(shifts)
    assert [hue.min(), hue.mean(), hue.max()] == pytest.approx([-35, 0, 35], abs=3)  # 50 / 255 of 180
    assert [saturation.min(), saturation.mean(), saturation.max()] == pytest.approx([-50, 0, 50], abs=6)
    assert abs(np.corrcoef(hue, saturation)[0, 1]) < 0.15  # drawn apart


def test_solarise_inverts_every_second_time_from_a_threshold_of_32_to_127():
    results = drawn(solarize, GREYS, 800)
    is_solarised = (results != GREYS).any((1, 2, 3))
    assert is_solarised.mean() == pytest.approx(0.5, abs=0.07)
    lowest = []
    for result in results[is_solarised]:
        inverted = result != GREYS
        assert np.array_equal(result[inverted], 255 - GREYS[inverted])
        lowest.append(GREYS[inverted].min())
        assert inverted[lowest[-1] <= GREYS].all()
    assert [min(lowest), np.mean(lowest), max(lowest)] == pytest.approx([32, 79.5, 127], abs=5)


def test_posterise_keeps_one_to_eight_bits():
    counts = np.zeros(8)
    for result in drawn(posterize, GREYS, 800):
        n_bits = int(np.log2(len(np.unique(result))))
        counts[n_bits - 1] += 1
        step = 2 ** (8 - n_bits)
        assert np.array_equal(result, GREYS // step * step)
    assert np.abs(counts - 100).max() < 38  # four standard deviations


def test_invert():
    assert np.array_equal(invert(GREYS), 255 - GREYS)


def test_contrast_is_stretched_between_quantiles():
    """Of 100 greys, 10 pixels each, a cut-off of p % makes the first p + 1 black and the last p + 1 white."""
    pixels = np.arange(100, 200, dtype=np.uint8).repeat(10).reshape(20, 50, 1).repeat(3, axis=2)
    cutoffs = []
    for result in drawn(stretch_contrast, pixels, 600):
        n_black = int((result[..., 0] == 0).sum() // 10) - 1
        cutoffs.append(n_black)
        low, high = 100 + n_black, 199 - n_black
        np.testing.assert_allclose(result, np.clip((pixels.astype(float) - low) * 255 / (high - low), 0, 255), atol=1)
    assert sorted(set(cutoffs)) == list(range(21))
    assert np.mean(cutoffs) == pytest.approx(10, abs=1)


def test_equalise():
    """1020 pixels make steps of 1020 // 255 = 4, so 510 darker ones make (2 + 510) // 4 = 128; PIL makes it 255."""
    two_greys = np.array([100, 200], np.uint8).repeat(510).reshape(30, 34, 1).repeat(3, axis=2)
    assert np.array_equal(equalize(two_greys), np.where(two_greys == 100, 0, 128))
    with_white = np.maximum(GREYS, 100)
    assert np.array_equal(equalize(with_white), np.array(ImageOps.equalize(Image.fromarray(with_white))))
    one_grey = np.full((20, 20, 3), 70, np.uint8)
    assert np.array_equal(equalize(one_grey), one_grey)
    tiny = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)  # too few pixels to be spread
    assert np.array_equal(equalize(tiny), tiny)


def test_textures_are_rotated_by_up_to_45_degrees_either_way():
    pixels = np.full((65, 65, 3), 50, np.uint8)
    pixels[31:34, 51:54] = 250  # 20 pixels right of the centre (32, 32)
    angles = []
    for result in drawn(rotate, pixels, 300):
        row, column = np.argwhere(result[..., 1] > 150).mean(0) - 32
        assert np.hypot(row, column) == pytest.approx(20, abs=0.7)
        angles.append(np.degrees(np.arctan2(row, column)))
    assert [min(angles), np.mean(angles), max(angles)] == pytest.approx([-45, 0, 45], abs=5)
    turned = result[0, 0], result[-1, -1]
    assert all((corner == 0).all() for corner in turned)


def test_three_different_augmenters_of_ten_change_a_texture(monkeypatch):
    applied = []

    def recorder(number):
        def record(pixels):
            applied.append(number)
            return pixels

        return record

    assert len(AUGMENTERS) == 10
    monkeypatch.setattr(texture_augmenters, "AUGMENTERS", [recorder(number) for number in range(10)])
    torch.manual_seed(0)
    for _ in range(1000):
        augment(GREYS)
    chosen = np.array(applied).reshape(1000, 3)
    assert all(len(set(numbers)) == 3 for numbers in chosen.tolist())
    for place in chosen.T:  # each comes first, second and third equally often
        assert np.abs(np.bincount(place, minlength=10) - 100).max() < 38  # four standard deviations
