"""The front against every pair, one by one, and against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.report.statistics.pareto import pareto_front

# Few different numbers, so that ties are common.
NUMBERS = st.one_of(st.integers(0, 4).map(float), st.just(float("nan")))


def slow_front(points):
    """Point by point, in the words of the definition."""
    known = [point for point in points if not any(map(math.isnan, point))]
    return [
        (cost, value) in known and not any((c <= cost and v >= value) and (c < cost or v > value) for c, v in known)
        for cost, value in points
    ]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_equals_the_definition(points):
    cost, value = [cost for cost, _ in points], [value for _, value in points]
    assert pareto_front(cost, value).tolist() == slow_front(points)


def test_by_hand():
    #        cheapest, beaten by it, dearer and better, the same again, dearest and worse, unknown
    cost = [1.0, 2.0, 3.0, 3.0, 9.0, float("nan")]
    value = [0.6, 0.6, 0.9, 0.9, 0.8, 1.0]
    assert pareto_front(cost, value).tolist() == [True, False, True, True, False, False]


def test_the_best_value_and_the_least_cost_are_on_the_front():
    generator = np.random.default_rng(1)
    cost, value = generator.random(200), generator.random(200)
    front = pareto_front(cost, value)
    assert front[cost.argmin()] and front[value.argmax()]
    ascending = np.argsort(cost[front])
    assert (np.diff(value[front][ascending]) > 0).all()  # a staircase


def test_nothing_and_what_does_not_belong_together():
    assert pareto_front([], []).tolist() == []
    with pytest.raises(ValueError, match=r"\(2,\) and values \(3,\)"):
        pareto_front([1, 2], [1, 2, 3])
