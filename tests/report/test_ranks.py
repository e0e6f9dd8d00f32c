"""Ranks by hand, the test against Demsar's worked example, the diagram's content."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from shopfloor.report.figures.ranks import rank_figure
from shopfloor.report.figures.style import is_empty
from shopfloor.report.statistics.ranks import (
    average_ranks,
    critical_difference,
    friedman_p_value,
    groups_not_told_apart,
    rank_detectors,
)
from tests.report import charts
from tests.report.conftest import value_rows

# Demsar 2006, Table 2 (without the column of ranks): AUC of four variants of C4.5 on 14 data sets, and in Table 5 the
# quantiles of Nemenyi's test.
DEMSAR_RANKS = [3.143, 2.000, 2.893, 1.964]
DEMSAR_AUC = [
    [0.763, 0.768, 0.771, 0.798],
    [0.599, 0.591, 0.590, 0.569],
    [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898],
    [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685],
    [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000],
    [0.940, 0.962, 0.965, 0.962],
    [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975],
    [0.957, 0.978, 0.946, 0.970],
]
DEMSAR_Q = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


def rows(values, detectors="pqrs", **same):
    """One category per line of values, one detector per column; a text in place of a value is its status."""
    return value_rows(
        [
            ("a" if place % 2 else "b", f"c{place}", detector, 1, "image_auroc", value)
            for place, line in enumerate(values)
            for detector, value in zip(detectors, line, strict=True)
        ],
        **same,
    )


def test_demsars_worked_example():
    values = np.array(DEMSAR_AUC)
    assert average_ranks(values) == pytest.approx(DEMSAR_RANKS, abs=0.0006)
    # Section 3.2.2: Friedman's chi-square is 9.28 without the correction for ties; the critical difference 1.25.
    n, k = values.shape
    chi_square = 12 * n / (k * (k + 1)) * (np.sum(np.square(DEMSAR_RANKS)) - k * (k + 1) ** 2 / 4)
    assert chi_square == pytest.approx(9.28, abs=0.02)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert 0.01 < friedman_p_value(values) < 0.0257  # chi-square of 9.28 with 3 degrees of freedom; ties sharpen it


@pytest.mark.parametrize(("detectors", "q"), DEMSAR_Q.items())
def test_quantiles_of_demsars_table(detectors, q):
    blocks = detectors * (detectors + 1) / 6  # makes the root 1
    assert critical_difference(detectors, blocks) == pytest.approx(q, abs=0.0012)


def test_table_groups_and_verdict():
    metrics = rows(DEMSAR_AUC)
    ranking = rank_detectors(metrics)
    assert list(ranking.table["detector"]) == ["s", "q", "r", "p"]
    assert ranking.table["rank"].to_list() == pytest.approx(sorted(DEMSAR_RANKS), abs=0.0006)
    assert (ranking.table["categories"] == 14).all()
    # 3.143 - 1.964 < 1.25: the test of all pairs tells none of them apart (Demsar, section 3.2.2: not powerful enough)
    assert ranking.groups == (("s", "q", "r", "p"),)
    assert ranking.table["not_told_apart"].to_list() == ["p, q, r", "p, r, s", "p, q, s", "q, r, s"]
    assert (ranking.reason, ranking.left_out) == ("", ())
    assert "Friedman test: p = 0.0" in ranking.verdict and "1.25 or more apart" in ranking.verdict
    shuffled = rank_detectors(metrics.sample(frac=1, random_state=0)).table
    pd.testing.assert_frame_equal(ranking.table, shuffled.assign(not_told_apart=ranking.table["not_told_apart"]))


def test_detectors_that_are_told_apart():
    generator = np.random.default_rng(0)
    values = np.array([0.9, 0.89, 0.6, 0.3]) + generator.normal(0, 0.01, (20, 4))
    ranking = rank_detectors(rows(values))
    # Critical difference 1.05; r and s always have the ranks 3 and 4.
    assert ranking.groups == (("p", "q"), ("r", "s"))
    assert ranking.table["not_told_apart"].to_list() == ["q", "p", "s", "r"]
    assert ranking.p_value is not None and ranking.p_value < 1e-8


def test_alike_detectors_are_one_group_whatever_their_ranks():
    """Nemenyi's test follows only where Friedman's found a difference."""
    values = [np.roll([0.9, 0.8, 0.7, 0.6], place % 4) for place in range(16)]
    ranking = rank_detectors(rows(values))
    assert ranking.p_value == pytest.approx(1)
    assert ranking.groups == (("p", "q", "r", "s"),)
    assert "no detectors apart" in ranking.verdict


def test_far_ranks_say_nothing_where_friedmans_test_finds_nothing():
    values = np.random.default_rng(47).normal([0.4, 0.0, 0.0, -0.4], 1, (20, 4))
    ranking = rank_detectors(rows(values))
    assert ranking.p_value is not None and ranking.critical_difference is not None
    assert np.ptp(ranking.table["rank"]) > ranking.critical_difference
    assert ranking.p_value > 0.05
    assert ranking.groups == (("p", "r", "q", "s"),)


def test_groups_are_the_largest_and_differ_strictly():
    assert groups_not_told_apart(np.array([1.0, 2.0, 3.0, 4.5]), 1.0) == []
    assert groups_not_told_apart(np.array([4.5, 3.0, 2.0, 1.0]), 1.01) == [[3, 2], [2, 1]]
    assert groups_not_told_apart(np.array([1.0, 1.5, 2.0, 4.0]), 1.2) == [[0, 1, 2]]


def test_ties_share_their_rank():
    assert average_ranks(np.array([[0.5, 0.5, 0.1], [0.9, 0.9, 0.9]])).tolist() == [1.75, 1.75, 2.5]


def test_holes_leave_out_their_category_and_detectors_without_any_value():
    values = [[0.9, 0.8, 0.7, "failed"]] * 6
    values[2] = [0.9, "failed", 0.7, "missing"]
    ranking = rank_detectors(rows(values))
    assert ranking.left_out == ("b/c2",)
    assert len(ranking.blocks) == 5
    assert ranking.table["rank"].to_list()[:3] == [1.0, 2.0, 3.0]
    last = ranking.table.iloc[3]
    assert (last["detector"], last["remark"], last["categories"]) == ("s", "no value", 0)
    assert np.isnan(last["rank"])


def test_a_category_that_nobody_can_have_is_no_block():
    ranking = rank_detectors(rows([[0.9, 0.8, 0.7]] * 6 + [["not_available"] * 3], "pqr"))
    assert len(ranking.blocks) == 6
    assert ranking.left_out == ()


def test_baseline_smallest_size_and_mean_over_seeds():
    first, second = [[0.9, 0.8, 0.7]] * 6, [[0.5, 0.7, 0.9]] * 6  # means 0.7, 0.75, 0.8
    metrics = pd.concat(
        [
            rows(first, "pqr", image_size=512),
            rows(first, "pqr", condition="noise_4"),
            rows(first, "pqr", test_set="drift_1"),
            rows(first, "pqr"),
            rows(second, "pqr", seed=2),
        ]
    )
    ranking = rank_detectors(metrics)
    assert (ranking.image_size, ranking.condition) == (256, "clean")
    assert list(ranking.table["detector"]) == ["r", "q", "p"]
    assert list(rank_detectors(metrics, image_size=512).table["detector"]) == ["p", "q", "r"]


@pytest.mark.parametrize(
    ("values", "detectors", "reason", "ranks"),
    [
        ([[0.9, 0.8]] * 9, "pq", "Two detectors: no rank test; their difference", [1, 2]),
        ([[0.9]] * 9, "p", "One detector only", [1]),
        ([[0.9, 0.8, 0.7]] * 4, "pqr", "4 categories: no rank test with fewer than 5", [1, 2, 3]),
        ([[0.9, 0.8, 0.7]], "pqr", "1 category: no", [1, 2, 3]),
        ([[0.9, 0.9, 0.9]] * 6, "pqr", "same values", [2, 2, 2]),
        ([[0.9, "failed"], ["failed", 0.9]], "pq", "No category has a value of every detector", [np.nan] * 2),
        ([["failed", "failed"]] * 6, "pq", "No detector has a value", [np.nan] * 2),
    ],
)  # fmt: skip
def test_no_test_says_why(values, detectors, reason, ranks):
    ranking = rank_detectors(rows(values, detectors))
    assert reason in ranking.reason and ranking.verdict == ranking.reason
    assert (ranking.p_value, ranking.critical_difference, ranking.groups) == (None, None, ())
    assert ranking.table["rank"].to_list() == pytest.approx(ranks, nan_ok=True)
    figure = rank_figure(ranking)
    assert reason in " ".join(text.text for text in charts.drawn(figure).iter() if text.text)
    assert is_empty(figure) == all(np.isnan(ranks)) and not any(charts.edges(figure).values())


def test_empty_table():
    ranking = rank_detectors(rows([[0.9]], "p").iloc[:0])
    assert ranking.table.empty and "nothing to rank" in ranking.reason
    assert is_empty(rank_figure(ranking))


def test_figure_has_every_detector_bar_and_the_critical_difference():
    generator = np.random.default_rng(0)
    values = np.array([0.9, 0.86, 0.8, 0.3]) + generator.normal(0, 0.05, (20, 4))
    evil = ["<b>bold</b>", "q & co", "r", "s"]
    ranking = rank_detectors(rows(values, evil))
    figure = rank_figure(ranking)
    ranks = ranking.table.set_index("detector")["rank"]
    assert {mark["detector"]: mark["rank"] for mark in charts.values(figure)} == pytest.approx(
        ranks.to_dict(), rel=1e-5
    )
    assert [mark["row"] for mark in charts.values(figure)] == list(range(4))
    assert {f"{rank:.2f}" for rank in ranks} | {*evil} <= set(charts.texts(figure))
    low, high = charts.marks(figure, "point")[0]["encoding"]["x"]["scale"]["domain"]
    assert low < 1 and high > 4  # best on the left
    bars = [line for line in charts.values(figure, "rule") if "names" in line]
    assert len(bars) == len(ranking.groups) > 0
    for bar, group in zip(bars, ranking.groups, strict=True):
        assert bar["low"] < min(ranks[list(group)]) < max(ranks[list(group)]) < bar["high"]
        assert bar["names"] == ", ".join(group)
    (line,) = [line for line in charts.values(figure, "rule") if "length" in line]
    assert line["end"] - line["rank"] == pytest.approx(ranking.critical_difference, rel=1e-4)
    assert any(re.search(r"critical difference \d\.\d\d", text) for text in charts.texts(figure))
    assert len(charts.shapes(figure, "point")) == 4 and not any(charts.edges(figure).values())
