"""Bootstrap over test images: what the image metrics would be on other images of the same category.

Good and bad images are each drawn with replacement to their own number, so that every resample has the shares of the
test set (a stratified bootstrap; Efron and Tibshirani 1993, chapters 8 and 13). A resample is stored as the number of
times that it holds each image. Detectors that are given the same numbers are compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shopfloor.metrics.entries import METRICS, image_metric_names
from shopfloor.metrics.image import image_auroc

PERCENT = 2  # of PG2 and PB2 (protocol 2.1)
_CELLS_AT_A_TIME = 1 << 19  # resamples times images; some ten arrays of this size are alive at once

Counts = NDArray[np.int32]


def draw_counts(is_there: ArrayLike, resamples: int, seed: int | Sequence[int]) -> Counts:
    """How often each image occurs in each resample.

    Images are drawn one after the other from all, and those that are there are kept until there are as many as there
    are. Each is then equally likely, and two test sets that share images are given resamples that agree as far as
    they can: test sets of several seeds, from which different images were taken, stay comparable.

    Args:
        is_there: Which of all images the test set has (U,).
        resamples: Number of resamples B.
        seed: Seed of the draw; test sets to be compared need the same one.

    Returns:
        Counts (B, N) of the N images that are there, in their order; every line adds up to N.
    """
    is_there = np.asarray(is_there, dtype=bool)
    place = is_there.cumsum() - 1
    number = int(np.count_nonzero(is_there))
    generator = np.random.default_rng(seed)
    counts = np.zeros((resamples, number), dtype=np.int32)
    lacking = np.full(resamples, number)
    while lacking.any():
        drawn = generator.integers(0, is_there.size, (resamples, is_there.size), dtype=np.int32)
        is_kept = is_there[drawn]
        is_kept &= is_kept.cumsum(axis=1, dtype=np.int32) <= lacking[:, None]
        kept = np.count_nonzero(is_kept, axis=1)
        cell = np.repeat(np.arange(resamples) * number, kept) + place[drawn[is_kept]]
        counts += np.bincount(cell, minlength=counts.size).reshape(counts.shape).astype(np.int32)
        lacking -= kept
    return counts


def bootstrap_image_metrics(
    pred_score: ArrayLike, is_bad: ArrayLike, counts_good: Counts, counts_bad: Counts
) -> dict[str, NDArray[np.float64]]:
    """All image metrics of every resample, by the definitions of :mod:`shopfloor.metrics.image` (protocol 2.1).

    The values are those that :func:`shopfloor.metrics.image.image_metrics` gives for the resampled images, ties and
    the rounding of thresholds included.

    Args:
        pred_score: Raw scores of the test images (N,), higher means more anomalous.
        is_bad: True for the bad images (N,).
        counts_good: How often each resample holds each good image (B, number of good images), in their order; every
            line adds up to the number of good images.
        counts_bad: The same for the bad images.

    Returns:
        For each metric a fraction in [0, 1] for every resample (B,).

    Raises:
        UndefinedMetric: The metrics have no value, as for :func:`shopfloor.metrics.image.image_metrics`.
        ValueError: The counts do not fit the images.
    """
    image_auroc(pred_score, is_bad)  # for its checks
    scores, is_bad = np.asarray(pred_score, dtype=np.float64), np.asarray(is_bad, dtype=bool)
    good, bad = scores[~is_bad], scores[is_bad]
    _check_counts(counts_good, counts_bad, good.size, bad.size)
    by_good, by_bad = np.argsort(good, kind="stable"), np.argsort(bad, kind="stable")
    good, bad = good[by_good], bad[by_bad]
    parts = []
    step = max(1, _CELLS_AT_A_TIME // scores.size)
    for start in range(0, max(1, len(counts_good)), step):
        part = slice(start, start + step)
        upto_good, upto_bad = _running(counts_good[part, by_good]), _running(counts_bad[part, by_bad])
        parts.append(_metrics(good, bad, upto_good, upto_bad))
    return {
        name: np.concatenate([part[name] for part in parts])
        if name in parts[0]
        else _one_by_one(name, good, bad, counts_good[:, by_good], counts_bad[:, by_bad])
        for name in image_metric_names()
    }


def _one_by_one(
    name: str, good: NDArray[np.float64], bad: NDArray[np.float64], counts_good: Counts, counts_bad: Counts
) -> NDArray[np.float64]:
    """Compute a metric that has no faster way here on every resample, from ascending scores (G,) and (D,)."""
    compute, scores = METRICS[name].compute, np.concatenate([good, bad])
    if compute is None:
        raise ValueError(f"{name} is no metric of images.")
    is_bad, counts = np.arange(scores.size) >= good.size, np.concatenate([counts_good, counts_bad], axis=1)
    return np.array([compute(np.repeat(scores, held), np.repeat(is_bad, held)) for held in counts])


def _check_counts(counts_good: Counts, counts_bad: Counts, n_good: int, n_bad: int) -> None:
    if len(counts_good) != len(counts_bad):
        raise ValueError(f"{len(counts_good)} resamples of the good images and {len(counts_bad)} of the bad ones.")
    for kind, counts, images in (("good", counts_good, n_good), ("bad", counts_bad, n_bad)):
        if counts.ndim != 2 or counts.shape[1] != images:
            raise ValueError(f"Counts of shape {counts.shape} for {images} {kind} images; one column each is needed.")
        if (counts < 0).any() or (counts.sum(axis=1) != images).any():
            raise ValueError(f"A resample does not hold as many {kind} images as there are, {images}.")


def _running(counts: Counts) -> Counts:
    """How many images of each resample are among the first 0, 1, ..., N: (B, N + 1)."""
    running = np.zeros((len(counts), counts.shape[1] + 1), dtype=np.int32)
    np.cumsum(counts, axis=1, out=running[:, 1:])
    return running


def _metrics(
    good: NDArray[np.float64], bad: NDArray[np.float64], upto_good: Counts, upto_bad: Counts
) -> dict[str, NDArray[np.float64]]:
    """The metrics from ascending scores (G,) and (D,) and running counts (B, G + 1) and (B, D + 1)."""
    pg2, pg2_strict = _recognised(bad, upto_bad, good, upto_good)
    pb2, pb2_strict = _recognised(-good[::-1], _mirrored(upto_good), -bad[::-1], _mirrored(upto_bad))
    return {
        "image_auroc": _auroc(good, bad, upto_good, upto_bad),
        "image_f1max": _f1max(good, bad, upto_good, upto_bad),
        "image_pg2": pg2,
        "image_pb2": pb2,
        "image_pg2_strict": pg2_strict,
        "image_pb2_strict": pb2_strict,
    }


def _auroc(
    good: NDArray[np.float64], bad: NDArray[np.float64], upto_good: Counts, upto_bad: Counts
) -> NDArray[np.float64]:
    """Integers up to the last division, as in :mod:`shopfloor.metrics.ranking`."""
    scores, first = np.unique(bad, return_index=True)
    bad_at = np.diff(upto_bad[:, [*first, bad.size]], axis=1)
    below, upto = (np.searchsorted(good, scores, side) for side in ("left", "right"))
    half_wins = np.einsum("bk,bk->b", bad_at, upto_good[:, below] + upto_good[:, upto], dtype=np.int64)
    return half_wins / (2 * bad.size * good.size)


def _f1max(
    good: NDArray[np.float64], bad: NDArray[np.float64], upto_good: Counts, upto_bad: Counts
) -> NDArray[np.float64]:
    """A bad score that a resample does not hold is no better a threshold than the next higher one that it holds."""
    scores, first = np.unique(bad, return_index=True)
    true_positives = bad.size - upto_bad[:, first]
    false_positives = good.size - upto_good[:, np.searchsorted(good, scores, "left")]
    return (2 * true_positives / (true_positives + false_positives + bad.size)).max(axis=1)


def _recognised(
    tail: NDArray[np.float64], upto_tail: Counts, others: NDArray[np.float64], upto_others: Counts
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the other class below the interpolated and the strict 2 % quantile of a class (protocol 2.1).

    Args:
        tail: Scores of the class with the quantile, ascending (T,).
        upto_tail: Its running counts (B, T + 1).
        others: Scores of the other class, ascending (O,).
        upto_others: Its running counts (B, O + 1).

    Returns:
        Two shares for each resample (B,).
    """
    whole, rest = divmod(PERCENT * (tail.size - 1), 100)
    low = _place_of(whole, upto_tail)
    high = _place_of(whole + (rest > 0), upto_tail)
    pairs, which = np.unique(low * tail.size + high, return_inverse=True)
    # In rational numbers and rounded once, so that a threshold that equals a score is a tie. The pairs are few.
    thresholds = [
        float(below + Fraction(rest, 100) * (above - below))
        for below, above in ((Fraction(tail[pair // tail.size]), Fraction(tail[pair % tail.size])) for pair in pairs)
    ]
    strict = tail[_place_of(PERCENT * tail.size // 100, upto_tail)]
    resample = np.arange(len(upto_others))
    found = upto_others[resample, np.searchsorted(others, thresholds, "left")[which]]
    strictly_found = upto_others[resample, np.searchsorted(others, strict, "left")]
    return found / others.size, strictly_found / others.size


def _place_of(rank: int, upto: Counts) -> NDArray[np.int64]:
    """Which image has the given rank, from 0, in each resample (B,)."""
    return np.count_nonzero(upto[:, 1:] <= rank, axis=1)


def _mirrored(upto: Counts) -> Counts:
    """Running counts from the other end."""
    return upto[:, -1:] - upto[:, ::-1]
