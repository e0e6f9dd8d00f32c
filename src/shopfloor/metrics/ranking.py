"""Negatives counted into their places among the positives: all that AUROC and F1Max need to know."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELLS_PER_SCORE = 4  # more cells pass on fewer values, but no longer fit the processor's cache
BLOCK = 1 << 16  # values sifted at a time, few enough to stay in the cache between the steps


@dataclass(frozen=True)
class Ranking:
    """How many positives and negatives lie at and around each distinct score of the positives.

    Everything is an integer count, so the metrics derived from it round only in their last division.

    Attributes:
        scores: Distinct scores of the positives, ascending, shape (K,).
        positives_at: Number of positives with exactly this score, shape (K,).
        negatives_below: Number of negatives with a lower score, shape (K,).
        negatives_upto: Number of negatives with a lower or the same score, shape (K,).
        negatives: Number of all negatives.
    """

    scores: NDArray
    positives_at: NDArray[np.int64]
    negatives_below: NDArray[np.int64]
    negatives_upto: NDArray[np.int64]
    negatives: int

    def auroc(self) -> float:
        """Probability that a random positive scores higher than a random negative, ties one half."""
        # The sum stays below 2**63 up to four thousand million scores.
        half_wins = int(self.positives_at @ (self.negatives_below + self.negatives_upto))
        return half_wins / (2 * int(self.positives_at.sum()) * self.negatives)

    def f1max(self) -> float:
        """Largest F1 over all thresholds ``t`` with the decision "positive if score >= t".

        Only the scores of positives are tried: lowering the threshold to a score that no positive has
        adds false positives and nothing else.
        """
        positives = self.positives_at.sum()
        true_positives = self.positives_at[::-1].cumsum()[::-1]
        false_positives = self.negatives - self.negatives_below
        # TP + FN is the number of positives, so 2TP + FP + FN = TP + FP + positives.
        return float((2 * true_positives / (true_positives + false_positives + positives)).max())


def rank(positives: NDArray, negatives: Iterable[NDArray], *, chunk: int = 1 << 21) -> Ranking:
    """Count the negatives into their places among the positives.

    Args:
        positives: Finite scores of the positives, shape (P,).
        negatives: Finite scores of the negatives in one or more arrays of any length.
        chunk: Number of negatives sorted at a time. Raised to the number of distinct positive scores,
            which are held anyway: smaller chunks would search all of them for ever fewer negatives.
    """
    scores, positives_at = np.unique(positives, return_counts=True)
    below = np.zeros(scores.size, dtype=np.int64)
    upto = np.zeros(scores.size, dtype=np.int64)
    sieve = _Sieve(scores)
    for ascending in _sorted_chunks(sieve.sift(negatives), max(chunk, scores.size)):
        below += np.searchsorted(ascending, scores, side="left")
        upto += np.searchsorted(ascending, scores, side="right")
    sifted = sieve.counts[: scores.size].cumsum()
    return Ranking(scores, positives_at, below + sifted, upto + sifted, int(sieve.counts.sum()))


class _Sieve:
    """Places most values among the scores by a look into a table, much faster than by sorting them.

    The range of the scores is divided into cells of equal width. A value whose cell holds no score has as
    many scores below it as lie in the lower cells. Rounding may move values into a neighbouring cell, but
    never changes their order, so the counts are exact. Only the values that share their cell with a score
    are passed on.

    Attributes:
        counts: Number of values placed so far with k scores below them, k = 0, ..., K, and last the number
            of values passed on; shape (K + 2,).
    """

    def __init__(self, scores: NDArray) -> None:
        """Lay the cells over the distinct scores (K,), ascending."""
        self.counts = np.zeros(scores.size + 2, dtype=np.int64)
        self._cells = CELLS_PER_SCORE * scores.size
        lowest, width = float(scores[0]), float(scores[-1]) - float(scores[0])
        # All scores share one cell if they are equal or too far apart for their difference to be finite.
        self._scale = min(self._cells / width, sys.float_info.max) if width > 0 else 0.0
        self._offset = lowest * self._scale

        # One cell below the lowest score, one at the highest and one above it.
        in_cell = np.bincount(self._cell_of(scores), minlength=self._cells + 3)
        self._place = (in_cell.cumsum() - in_cell).astype(np.int32)
        self._passed_on = scores.size + 1
        self._place[in_cell > 0] = self._passed_on

    def sift(self, values: Iterable[NDArray]) -> Iterator[NDArray]:
        """Count what has a cell without a score and pass on the rest."""
        for piece in values:
            for start in range(0, piece.size, BLOCK):
                block = piece[start : start + BLOCK]
                place = self._place.take(self._cell_of(block))
                np.add.at(self.counts, place, 1)
                yield block[place == self._passed_on]

    def _cell_of(self, values: NDArray) -> NDArray[np.int32]:
        # In 64 bits, whatever the type of the values: all must meet the same rounding to keep their order.
        with np.errstate(over="ignore"):
            cell = np.multiply(values, self._scale, dtype=np.float64) - self._offset
        return (np.clip(cell, -1, self._cells + 1, out=cell) + 1).astype(np.int32)


def _sorted_chunks(pieces: Iterable[NDArray], size: int) -> Iterator[NDArray]:
    """The values of all pieces in sorted arrays of about ``size`` values, the last one shorter."""
    held: list[NDArray] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += piece.size
        if count >= size:
            yield np.sort(np.concatenate(held))
            held, count = [], 0
    if held:
        yield np.sort(np.concatenate(held))
