"""Negatives counted into their places among the positives: all that AUROC and F1Max need to know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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


def rank(positives: NDArray, negatives: Iterable[NDArray]) -> Ranking:
    """Count the negatives into their places among the positives.

    Args:
        positives: Scores of the positives, any order, shape (P,).
        negatives: Scores of the negatives in one or more arrays, each sorted in ascending order.
    """
    scores, positives_at = np.unique(positives, return_counts=True)
    below = np.zeros(scores.size, dtype=np.int64)
    upto = np.zeros(scores.size, dtype=np.int64)
    total = 0
    for ascending in negatives:
        below += np.searchsorted(ascending, scores, side="left")
        upto += np.searchsorted(ascending, scores, side="right")
        total += ascending.size
    return Ranking(scores, positives_at, below, upto, total)
