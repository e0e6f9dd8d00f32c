"""Detectors ranked category by category, and which of them the ranks tell apart (Demsar 2006).

Every category is a block in which the detectors are ranked by a metric, 1 for the best; equal values share their mean
rank. Friedman's test asks whether the average ranks could come from detectors that are all alike; where that is
unlikely, Nemenyi's critical difference says how far two average ranks must lie apart. Both treat categories as a sample
of what detectors may meet: they say nothing about how large a difference is.

J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006), sections 3.2.2 and 3.2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shopfloor.report.tables.baseline import baseline_of, rows_of
from shopfloor.report.tables.value_tables import category_table

ALPHA = 0.05
FEWEST_DETECTORS = 3
FEWEST_CATEGORIES = 5
COLUMNS = ["detector", "rank", "categories", "not_told_apart", "p_value", "critical_difference", "remark"]


@dataclass(frozen=True)
class Ranking:
    """Average ranks and what can be said about them.

    Attributes:
        metric: The metric that was ranked by.
        image_size: Pixels.
        condition: Training condition.
        table: One line per detector, the best first: ``detector``, ``rank`` (average; NaN for one that has no value),
            ``categories`` (number of blocks), ``not_told_apart`` (detectors whose average rank is too near to tell;
            empty where nothing was tested), ``p_value`` and ``critical_difference`` (the same in all lines; NaN where
            nothing was tested), ``remark`` (why not).
        detectors: All detectors in the order of the metrics table, by which figures choose their looks.
        blocks: Categories that were ranked, ``dataset/category``.
        left_out: Categories that a compared detector has no value of.
        p_value: Of Friedman's test; None where nothing was tested.
        critical_difference: Nemenyi's, in ranks; None where nothing was tested.
        groups: Largest sets of two or more detectors that are not told apart, the best first.
        reason: Why nothing was tested; empty where it was.
    """

    metric: str
    image_size: int
    condition: str
    table: pd.DataFrame
    detectors: tuple[str, ...]
    blocks: tuple[str, ...]
    left_out: tuple[str, ...]
    p_value: float | None
    critical_difference: float | None
    groups: tuple[tuple[str, ...], ...]
    reason: str

    @property
    def verdict(self) -> str:
        """The outcome of the test, or why there was none, in one sentence."""
        if self.p_value is None or self.critical_difference is None:
            return self.reason
        p_value = f"p = {self.p_value:.2g}" if self.p_value >= 0.0001 else "p < 0.0001"
        over = f"Friedman test: {p_value}"
        if self.p_value >= ALPHA:
            return f"{over}; the ranks tell no detectors apart."
        return f"{over}; detectors differ if their ranks are {self.critical_difference:.2f} or more apart."


def rank_detectors(metrics: pd.DataFrame, metric: str = "image_auroc", image_size: int | None = None) -> Ranking:
    """Rank the detectors of the baseline over its categories; seeds are averaged first.

    Args:
        metrics: As for `shopfloor.report.tables.value_tables.category_table`.
        metric: A metric of which more is better.
        image_size: Pixels; the smallest of the table where it is not given.

    Returns:
        The ranking. Detectors without any value are left out and stand last in its table; categories of which one of
        the others has no value are left out. With fewer than `FEWEST_DETECTORS` or `FEWEST_CATEGORIES` there are ranks
        and no test.
    """
    size = int(metrics["image_size"].min() if image_size is None else image_size) if len(metrics) else 0
    baseline = baseline_of(metrics)
    chosen = rows_of(baseline.rows_of(metrics), {"metric": metric, "image_size": size})
    detectors = tuple(str(name) for name in dict.fromkeys(metrics["detector"]))
    values = _values(chosen, metric)
    unranked = [name for name in detectors if name not in values]
    left_out = tuple(values.index[values.isna().any(axis="columns")])
    values = values.dropna()
    ranks = average_ranks(values.to_numpy())
    reason = _why_no_test(values)
    p_value, critical, groups = None, None, []
    if not reason:
        p_value, critical = friedman_p_value(values.to_numpy()), critical_difference(values.shape[1], len(values))
        groups = groups_not_told_apart(ranks, critical if p_value < ALPHA else np.inf)
    names = [str(name) for name in values]
    named_groups = tuple(tuple(names[place] for place in group) for group in groups)
    table = _table(
        names,
        ranks,
        named_groups,
        categories=len(values),
        p_value=np.nan if p_value is None else p_value,
        critical_difference=np.nan if critical is None else critical,
        remark=reason,
    )
    without = pd.DataFrame({"detector": unranked, "categories": 0, "not_told_apart": "", "remark": "no value"})
    return Ranking(
        metric,
        size,
        baseline.condition,
        pd.concat([table, without.reindex(columns=COLUMNS)], ignore_index=True) if unranked else table,
        detectors,
        tuple(values.index),
        left_out,
        p_value,
        critical,
        named_groups,
        reason,
    )


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average rank of each detector, 1 for the highest value; equal values share their mean rank.

    Args:
        values: Blocks times detectors (N, K), no NaN.

    Returns:
        Ranks (K,), between 1 and K; NaN without blocks.
    """
    from scipy.stats import rankdata

    if not len(values):
        return np.full(values.shape[1], np.nan)
    return np.asarray(rankdata(-values, axis=1).mean(axis=0))


def friedman_p_value(values: NDArray[np.float64]) -> float:
    """Probability of ranks at least as different among detectors that are all alike (chi-square, ties corrected).

    Args:
        values: Blocks times detectors (N, K), K at least 3, not all of a block equal in every block.
    """
    from scipy.stats import friedmanchisquare

    return float(friedmanchisquare(*values.T).pvalue)


def critical_difference(detectors: int, blocks: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference of two average ranks (Demsar 2006, section 3.2.2).

    Args:
        detectors: Number of detectors K, at least 2.
        blocks: Number of categories N, at least 1.
        alpha: Probability of any false difference among detectors that are all alike.

    Returns:
        ``q sqrt(K (K + 1) / 6 N)``, ``q`` the quantile of the studentized range for K and infinitely many degrees of
        freedom, divided by the root of 2.
    """
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - alpha, detectors, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(detectors * (detectors + 1) / (6 * blocks)))


def groups_not_told_apart(ranks: NDArray[np.float64], reach: float) -> list[list[int]]:
    """Largest sets of two or more detectors whose average ranks all lie less than ``reach`` apart.

    Args:
        ranks: Average ranks (K,).
        reach: The critical difference; infinite where nothing is told apart.

    Returns:
        Places in ``ranks``, each set from the best rank on, the sets in the order of their best.
    """
    order = np.argsort(ranks, kind="stable")
    groups: list[list[int]] = []
    for start in range(len(order)):
        group = [int(place) for place in order[start:] if ranks[place] - ranks[order[start]] < reach]
        if len(group) > 1 and not (groups and set(group) <= set(groups[-1])):
            groups.append(group)
    return groups


def _values(chosen: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Blocks times detectors that have a value; NaN where a cell or one of its seeds has none."""
    if chosen.empty:
        return pd.DataFrame()
    table = category_table(chosen)
    table = table.assign(block=table["dataset"].astype(str) + "/" + table["category"].astype(str))
    # A category that no detector can have, such as one without good images, is no block.
    possible = table[table["not_available"] == ""]
    wide = possible.pivot(index="block", columns="detector", values=metric)
    in_order = wide.loc[list(dict.fromkeys(possible["block"])), list(dict.fromkeys(possible["detector"]))]
    return in_order.dropna(axis="columns", how="all")


def _why_no_test(values: pd.DataFrame) -> str:
    blocks, detectors = values.shape
    several = f"{blocks} categor{'y' if blocks == 1 else 'ies'}"
    reasons = (
        (detectors == 0, "No detector has a value: nothing to rank."),
        (detectors == 1, "One detector only: nothing to compare."),
        (blocks == 0, "No category has a value of every detector: nothing to rank."),
        (detectors < FEWEST_DETECTORS, "Two detectors: no rank test; their difference and its interval say more."),
        (blocks < FEWEST_CATEGORIES, f"{several}: no rank test with fewer than {FEWEST_CATEGORIES}."),
        ((values.nunique(axis="columns") == 1).all(), "All detectors have the same values: nothing to test."),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _table(
    names: Sequence[str], ranks: NDArray[np.float64], groups: Sequence[Sequence[str]], **shared: float | str
) -> pd.DataFrame:
    """One line per ranked detector, the best first; of equal ones the first of the metrics table."""
    lines = []
    for place in np.argsort(ranks, kind="stable"):
        near = {name for group in groups if names[place] in group for name in group} - {names[place]}
        not_told_apart = ", ".join(name for name in names if name in near)
        lines.append(
            {"detector": names[place], "rank": float(ranks[place]), "not_told_apart": not_told_apart, **shared}
        )
    return pd.DataFrame(lines, columns=COLUMNS)
