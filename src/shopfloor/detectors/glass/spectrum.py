"""Spectrum test of GLASS: which of its two hypotheses about normal features suits a product.

Taken from the mean training image (specification of the models taken from anomalib, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MANIFOLD = "manifold"
HYPERSPHERE = "hypersphere"

_SIDE = 289  # pixels, odd: the spectrum has a centre
_CENTRE = _SIDE // 2
_BLUR = 39  # pixels
_THRESHOLD = 170.0  # of 20 ln |F|
_LEAST_DENSITY = 0.21
_LEAST_RADIUS = 12.0
_LEAST_POINTS = 60


@dataclass(frozen=True)
class SpectralPoints:
    """What the test looks at: the strong frequencies of the mean training image, as points of a 289 x 289 grid.

    Attributes:
        n: Number of points.
        rho: Largest distance of a point to the centre, in cells.
        d1: Their number, per four times the product of their largest horizontal and vertical offset (1 at least).
        d2: Their number, per cell within ``rho`` of the centre.
    """

    n: int
    rho: float
    d1: float
    d2: float

    @property
    def distribution(self) -> str:
        """``hypersphere`` for many points, far from the centre and dense; else ``manifold``."""
        dense = self.d1 > _LEAST_DENSITY or self.d2 > _LEAST_DENSITY
        return HYPERSPHERE if dense and self.rho > _LEAST_RADIUS and self.n > _LEAST_POINTS else MANIFOLD


def strong_frequencies(mean_image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the spectrum of the blurred image is above the threshold.

    Args:
        mean_image: Mean training image ``(H, W, 3)``, RGB, uint8.

    Returns:
        ``(289, 289)``, frequency zero in the middle.
    """
    image = cv2.resize(mean_image, (_SIDE, _SIDE))
    blurred = cv2.blur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_BLUR, _BLUR))
    spectrum = np.fft.fftshift(np.fft.fft2(blurred))
    with np.errstate(divide="ignore"):  # the logarithm of 0 is below any threshold
        return np.asarray(20 * np.log(np.abs(spectrum)) > _THRESHOLD)


def measure_points(points: NDArray[np.bool_]) -> SpectralPoints:
    """Number, reach and density of points ``(289, 289)``."""
    rows, columns = np.nonzero(points)
    if not len(rows):
        return SpectralPoints(n=0, rho=0.0, d1=0.0, d2=0.0)
    vertical, horizontal = np.abs(rows - _CENTRE), np.abs(columns - _CENTRE)
    rho = float(np.hypot(vertical, horizontal).max())
    n = len(rows)
    return SpectralPoints(
        n=n,
        rho=rho,
        d1=n / (4 * max(int(horizontal.max()), 1) * max(int(vertical.max()), 1)),
        d2=n / _cells_within(rho),
    )


def _cells_within(rho: float) -> int:
    """Cells around the centre; the grid ends at its origin, but is twice as large on the other sides."""
    offsets = np.arange(2 * _SIDE) - _CENTRE
    return int((np.hypot(offsets[:, None], offsets[None]) <= rho).sum())
