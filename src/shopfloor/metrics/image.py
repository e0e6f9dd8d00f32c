"""Image metrics of one category: exact, in double precision, on raw scores of any range (protocol 2.1).

PG2 and PB2 come in two readings: interpolated quantiles, which are compared with the paper, and strict ones, which say
how few images a value rests on (protocol 5, no. 26).

Every function takes the raw scores (N,) of the test images, higher means more anomalous, and ``is_bad``
(N,), True for the bad images. All raise :class:`UndefinedMetric` where the metric has no value: no good or
no bad image, a NaN or infinite score, scores and labels of different length.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shopfloor.metrics.ranking import Ranking, rank
from shopfloor.metrics.undefined import UndefinedMetric


def image_auroc(scores: ArrayLike, is_bad: ArrayLike) -> float:
    """Probability that a random bad image scores higher than a random good one, ties count one half."""
    return _rank_images(scores, is_bad).auroc()


def image_f1max(scores: ArrayLike, is_bad: ArrayLike) -> float:
    """Largest F1 over all thresholds ``t`` equal to an observed score, decision "bad if score >= t".

    Never below ``2p / (1 + p)`` with ``p`` the share of bad images: calling everything bad gives that.
    """
    return _rank_images(scores, is_bad).f1max()


def image_pg2(scores: ArrayLike, is_bad: ArrayLike, *, share: float = 0.02) -> float:
    """Share of good images below the 2 % quantile of the bad scores (PG2, the paper's definition).

    The quantile is interpolated linearly, so with few bad images more than 2 % of them are missed;
    :func:`image_pg2_strict` keeps the promise.

    Args:
        scores: Raw image scores (N,).
        is_bad: True for bad images (N,).
        share: Share of bad images below the threshold, in [0, 1).
    """
    good, bad = _good_and_bad(scores, is_bad)
    return _share_below(interpolated_quantile(bad, share), good)


def image_pb2(scores: ArrayLike, is_bad: ArrayLike, *, share: float = 0.02) -> float:
    """Share of bad images above the 98 % quantile of the good scores (PB2, the paper's definition).

    The mirror image of :func:`image_pg2`: negated scores turn the upper end of the good ones into a
    lower end and keep every tie.

    Args:
        scores: Raw image scores (N,).
        is_bad: True for bad images (N,).
        share: Share of good images above the threshold, in [0, 1).
    """
    good, bad = _good_and_bad(scores, is_bad)
    return _share_below(interpolated_quantile(-good, share), -bad)


def image_pg2_strict(scores: ArrayLike, is_bad: ArrayLike, *, share: float = 0.02) -> float:
    """Share of good images recognised while at most 2 % of the bad images are missed.

    Args:
        scores: Raw image scores (N,).
        is_bad: True for bad images (N,).
        share: Largest share of bad images that may be missed, in [0, 1).
    """
    good, bad = _good_and_bad(scores, is_bad)
    return _share_below(_strict_quantile(bad, share), good)


def image_pb2_strict(scores: ArrayLike, is_bad: ArrayLike, *, share: float = 0.02) -> float:
    """Share of bad images recognised while at most 2 % of the good images are called bad.

    Args:
        scores: Raw image scores (N,).
        is_bad: True for bad images (N,).
        share: Largest share of good images that may be called bad, in [0, 1).
    """
    good, bad = _good_and_bad(scores, is_bad)
    return _share_below(_strict_quantile(-good, share), -bad)


def _good_and_bad(scores: ArrayLike, is_bad: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scores of the good and of the bad images, checked."""
    scores, is_bad = np.asarray(scores, dtype=np.float64), np.asarray(is_bad)
    if scores.ndim != 1 or scores.shape != is_bad.shape:
        raise UndefinedMetric(
            f"Scores of shape {scores.shape} and labels of shape {is_bad.shape} do not belong together; "
            "one score and one label per image are needed."
        )
    if not np.isin(is_bad, (0, 1)).all():
        raise UndefinedMetric("A label is neither 0 (good) nor 1 (bad).")
    is_bad = is_bad.astype(bool)
    broken = np.flatnonzero(~np.isfinite(scores))
    if broken.size:
        raise UndefinedMetric(
            f"{broken.size} of {scores.size} scores are NaN or infinite, the first is that of image {broken[0]}."
        )
    if not is_bad.any():
        raise UndefinedMetric(f"There is no bad image among the {scores.size} test images.")
    if is_bad.all():
        raise UndefinedMetric(f"There is no good image among the {scores.size} test images.")
    return scores[~is_bad], scores[is_bad]


def _rank_images(scores: ArrayLike, is_bad: ArrayLike) -> Ranking:
    good, bad = _good_and_bad(scores, is_bad)
    return rank(bad, [good])


def interpolated_quantile(scores: NDArray[np.float64], share: float) -> float:
    """Linearly interpolated quantile at position ``share * (n - 1)`` of the sorted scores.

    Computed in rational numbers and rounded once. ``numpy.quantile`` rounds on the way and can land just
    above a score that it should equal, which would turn a tie into a recognised image.
    """
    ascending = np.sort(scores)
    position = _exact_share(share) * (ascending.size - 1)
    below = math.floor(position)
    low, high = (Fraction(float(score)) for score in ascending[[below, math.ceil(position)]])
    return float(low + (position - below) * (high - low))


def _strict_quantile(scores: NDArray[np.float64], share: float) -> float:
    """The highest score that leaves at most ``share`` of the scores strictly below it."""
    return float(np.sort(scores)[math.floor(_exact_share(share) * scores.size)])


def _exact_share(share: float) -> Fraction:
    """The share as the decimal number that was written: 0.29 of 100 images are 29, not 28.999..."""
    exact = Fraction(str(share))
    if not 0 <= exact < 1:
        raise ValueError(f"share must lie in [0, 1), not {share}.")
    return exact


def _share_below(threshold: float, scores: NDArray[np.float64]) -> float:
    return float(np.count_nonzero(scores < threshold) / scores.size)
