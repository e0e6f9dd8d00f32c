"""Drawing: shapes as signed distances, soft light, and the camera.

Scenes are drawn in a frame of 320 x 320 units whatever the image size. A shape is a signed distance (negative
inside, in units); its coverage of a pixel follows from the distance, which gives antialiased edges without
supersampling. Brightness is 0..1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[Any]
"""Array (size, size) or (size, size, channels), float32."""

FRAME = 320.0
_FINE = 4  # polygons are drawn at four times the resolution and averaged


@lru_cache(maxsize=2)
def pixel_centres(size: int) -> tuple[Field, Field]:
    """Coordinates x (to the right) and y (down) of the pixel centres in units, each (size, size)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(FRAME / size)
    x, y = np.meshgrid(axis, axis)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def coverage(distance: Field) -> Field:
    """Share of each pixel that a shape covers, 0..1, from its signed distance in units."""
    pixel = FRAME / len(distance)
    return np.clip(0.5 - distance / np.float32(pixel), 0, 1)


def soft_step(low: float, high: float, value: Field) -> Field:
    """0 below ``low``, 1 above ``high``, smooth between; ``low > high`` turns it round."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(below: Field, above: Field | np.float32 | float, opacity: Field) -> Field:
    """Lay one layer over another."""
    return below + opacity * (above - below)


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Field:
    """Cloudy noise of standard deviation about 0.6 with ``cells`` bumps along a side."""
    coarse = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def polygon(points: NDArray[np.floating], size: int) -> Field:
    """Coverage of a filled polygon.

    Args:
        points: Corners (N, 2), x and y in units.
        size: Side of the image in pixels.

    Returns:
        Coverage 0..1.
    """
    fine = np.zeros((size * _FINE, size * _FINE), dtype=np.uint8)
    cv2.fillPoly(fine, [_fine_pixels(points, size)], 255)
    return _average(fine, size)


def stroke(points: NDArray[np.floating], width: float, size: int) -> Field:
    """Coverage of an open line.

    Args:
        points: Points along the line (N, 2), x and y in units.
        width: Width in units.
        size: Side of the image in pixels.

    Returns:
        Coverage 0..1.
    """
    fine = np.zeros((size * _FINE, size * _FINE), dtype=np.uint8)
    thickness = max(1, round(width * size * _FINE / FRAME))
    cv2.polylines(fine, [_fine_pixels(points, size)], isClosed=False, color=255, thickness=thickness)
    return _average(fine, size)


def _fine_pixels(points: NDArray[np.floating], size: int) -> NDArray[np.int32]:
    return np.round(points * (size * _FINE / FRAME)).astype(np.int32)


def _average(fine: NDArray[np.uint8], size: int) -> Field:
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def colour(brightness: Field, tint: tuple[float, float, float]) -> Field:
    """Turn brightness (size, size) into RGB (size, size, 3) by a tint per channel."""
    return brightness[..., None] * np.array(tint, dtype=np.float32)


def photograph(scene: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take the picture: exposure, white balance, fall-off towards the corners, sensor noise, 8 bits.

    Args:
        scene: RGB (size, size, 3), linear in 0..1, may exceed 1 in highlights.
        rng: Randomness of the camera.

    Returns:
        Image (size, size, 3), uint8.
    """
    x, y = pixel_centres(len(scene))
    exposure = rng.normal(1, 0.02) * rng.normal(1, 0.004, 3).astype(np.float32)
    radius = ((x - FRAME / 2) ** 2 + (y - FRAME / 2) ** 2) / np.float32(FRAME**2 / 2)
    light = scene * exposure.astype(np.float32) * (1 - np.float32(0.16) * radius)[..., None]
    light = np.where(light > 0.85, 0.85 + 0.15 * np.tanh((light - 0.85) / 0.15), light)  # highlights roll off
    grain = rng.standard_normal(scene.shape[:2], dtype=np.float32)[..., None]
    noise = grain * np.sqrt(np.float32(0.00002) + np.float32(0.00008) * np.maximum(light, 0))
    picture = np.clip(light + noise, 0, 1)
    return np.round(picture * 255).astype(np.uint8)
