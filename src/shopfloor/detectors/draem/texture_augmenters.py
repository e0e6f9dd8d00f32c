"""The ten augmenters of DRAEM's textures, with the distributions that imgaug 0.4 draws from.

Each takes and gives back an image ``(S, S, 3)``, RGB, uint8, and draws from torch's global generator of the CPU.

The original hands imgaug the images as OpenCV reads them, BGR, and imgaug takes them for RGB. Hence the conversions of
colour below name BGR while the images are RGB: blue gets the weight of red, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Pixels: TypeAlias = NDArray[np.uint8]

#: Colour spaces, into and out of them, and which of their channels is brightness.
_BRIGHTNESS = (
    (cv2.COLOR_BGR2YCrCb, cv2.COLOR_YCrCb2BGR, 0),
    (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR, 2),
    (cv2.COLOR_BGR2HLS, cv2.COLOR_HLS2BGR, 1),
    (cv2.COLOR_BGR2Lab, cv2.COLOR_Lab2BGR, 0),
    (cv2.COLOR_BGR2Luv, cv2.COLOR_Luv2BGR, 0),
    (cv2.COLOR_BGR2YUV, cv2.COLOR_YUV2BGR, 0),
)
_HUES = 180  # of OpenCV, two degrees each


def change_contrast(pixels: Pixels) -> Pixels:
    """Raises each channel, in [0, 1], to a power of its own, from 0.5 to 2."""
    powers = np.array([_uniform(0.5, 2.0) for _ in range(3)], np.float32)
    table = (255 * np.linspace(0, 1, 256, dtype=np.float32)[:, None] ** powers).astype(np.uint8)
    return table[pixels, np.arange(3)]


def change_brightness(pixels: Pixels) -> Pixels:
    """Multiplies the brightness by 0.8 to 1.2 and adds -30 to 30, in either order, in one of six colour spaces."""
    there, back, channel = _BRIGHTNESS[_integer(0, 5)]
    factor, offset, multiplies_first = np.float32(_uniform(0.8, 1.2)), round(_uniform(-30, 30)), _every_second_time()
    table = np.arange(256, dtype=np.float32)
    if not multiplies_first:
        table = np.clip(table + offset, 0, 255)
    table = np.trunc(np.clip(table * factor, 0, 255))
    if multiplies_first:
        table = np.clip(table + offset, 0, 255)
    converted = cv2.cvtColor(pixels, there)
    converted[..., channel] = table.astype(np.uint8)[converted[..., channel]]
    return np.asarray(cv2.cvtColor(converted, back), np.uint8)


def change_sharpness(pixels: Pixels) -> Pixels:
    """Blends the image with a smoothed one, or away from it: 0 is smoothed, 1 unchanged, 2 sharpened."""
    return np.array(ImageEnhance.Sharpness(Image.fromarray(pixels)).enhance(_uniform(0.0, 2.0)))


def change_hue_and_saturation(pixels: Pixels) -> Pixels:
    """Adds -35 to 35 of 180 to the hue, around the circle, and -50 to 50 of 255 to the saturation."""
    hue, saturation = int(_integer(-50, 50) * _HUES / 255), _integer(-50, 50)  # both drawn alike, then hue is scaled
    converted = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV).astype(np.int16)
    converted[..., 0] = (converted[..., 0] + hue) % _HUES
    converted[..., 1] = np.clip(converted[..., 1] + saturation, 0, 255)
    return np.asarray(cv2.cvtColor(converted.astype(np.uint8), cv2.COLOR_HSV2BGR), np.uint8)


def solarize(pixels: Pixels) -> Pixels:
    """Inverts, every second time, the values from a threshold on, 32 to 127."""
    threshold = _integer(32, 127)
    return np.where(pixels < threshold, pixels, 255 - pixels) if _every_second_time() else pixels


def posterize(pixels: Pixels) -> Pixels:
    """Keeps the first 1 to 8 bits of each value."""
    return np.array(ImageOps.posterize(Image.fromarray(pixels), _integer(1, 8)))


def invert(pixels: Pixels) -> Pixels:
    """Inverts all values."""
    return 255 - pixels


def stretch_contrast(pixels: Pixels) -> Pixels:
    """Stretches each channel to the full range, the darkest and the lightest 0 to 20 % of its pixels cut off."""
    return np.array(ImageOps.autocontrast(Image.fromarray(pixels), cutoff=_integer(0, 20)))


def equalize(pixels: Pixels) -> Pixels:
    """Equalises the histogram of each channel; as PIL does if 255 occurs, a little darker where it does not."""
    table = np.arange(256)[:, None].repeat(3, axis=1)
    for channel in range(3):
        counts = np.bincount(pixels[..., channel].ravel(), minlength=256)
        step = counts[:255].sum() // 255  # PIL leaves out the highest value that occurs instead of 255
        if step and np.count_nonzero(counts) > 1:
            n_below = np.cumsum(counts) - counts
            table[:, channel] = np.minimum((step // 2 + n_below) // step, 255)
    return table.astype(np.uint8)[pixels, np.arange(3)]


def rotate(pixels: Pixels) -> Pixels:
    """Rotates by up to 45 degrees either way; the empty corners become black."""
    size = pixels.shape[0]
    matrix = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), _uniform(-45, 45), 1.0)
    return np.asarray(cv2.warpAffine(pixels, matrix, (size, size)), np.uint8)


AUGMENTERS: tuple[Callable[[Pixels], Pixels], ...] = (
    change_contrast,
    change_brightness,
    change_sharpness,
    change_hue_and_saturation,
    solarize,
    posterize,
    invert,
    stretch_contrast,
    equalize,
    rotate,
)


def augment(pixels: Pixels, count: int = 3) -> Pixels:
    """Changes an image by some of the ten augmenters, different ones, in random order."""
    for number in torch.randperm(len(AUGMENTERS))[:count].tolist():
        pixels = AUGMENTERS[number](pixels)
    return pixels


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _integer(low: int, high: int) -> int:
    """Draws from low to high, both included."""
    return int(torch.randint(low, high + 1, ()))


def _every_second_time() -> bool:
    return bool(torch.rand(()) < 0.5)
