"""Generated textures: something to make synthetic defects of where no folder of real textures is at hand.

They are simple patterns of random colour, scale and direction. Real textures, such as those of DTD, are more varied.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

_FEWEST_PERIODS, _MOST_PERIODS = 3.0, 24.0


def render_texture(seed: int, number: int, size: int) -> np.ndarray:
    """Renders one texture.

    Args:
        seed: Seed of the collection.
        number: Which texture of it; the kinds of pattern take turns.
        size: Side S of the image, in pixels.

    Returns:
        Image ``(S, S, 3)``, uint8.
    """
    rng = np.random.default_rng([seed, number])
    height = _PATTERNS[number % len(_PATTERNS)](rng, size)
    height = (height - height.min()) / max(float(np.ptp(height)), 1e-9)
    dark, bright = rng.uniform(0, 255, (2, 3))
    image = dark + height[..., None] * (bright - dark)
    grain = rng.normal(0, rng.uniform(2, 14), (size, size, 1))
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _axes(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two axes turned by a random angle, in periods of a random length."""
    angle = rng.uniform(0, np.pi)
    places = np.arange(size) / size * rng.uniform(_FEWEST_PERIODS, _MOST_PERIODS)
    x, y = np.meshgrid(places, places)
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)


def _cloud(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise of about so many cells along each side."""
    coarse = rng.normal(size=(cells + 1, cells + 1))
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.sin(2 * np.pi * _axes(rng, size)[0])


def _chequers(rng: np.random.Generator, size: int) -> np.ndarray:
    u, v = _axes(rng, size)
    return np.sign(np.sin(2 * np.pi * u)) * np.sign(np.sin(2 * np.pi * v))


def _dots(rng: np.random.Generator, size: int) -> np.ndarray:
    u, v = _axes(rng, size)
    return (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < rng.uniform(0.15, 0.4)).astype(float)


def _marble(rng: np.random.Generator, size: int) -> np.ndarray:
    waves = 2 * _cloud(rng, size, cells=6)
    return np.sin(2 * np.pi * _axes(rng, size)[0] + waves)


def _blotches(rng: np.random.Generator, size: int) -> np.ndarray:
    return sum((_cloud(rng, size, 4 * 2**octave) / 2**octave for octave in range(4)), np.zeros((size, size)))


def _cracks(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.minimum(np.abs(_cloud(rng, size, cells=8)), 0.15)


_PATTERNS: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (
    _stripes,
    _chequers,
    _dots,
    _marble,
    _blotches,
    _cracks,
)
