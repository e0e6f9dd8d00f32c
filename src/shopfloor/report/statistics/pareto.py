"""Which of several choices no other beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto_front(cost: ArrayLike, value: ArrayLike) -> NDArray[np.bool_]:
    """Mark the choices of which none else is at least as good in both and better in one.

    Args:
        cost: Cost of each choice ``(N,)``, any unit; lower is better.
        value: Value of each choice ``(N,)``, any unit; higher is better.

    Returns:
        Mask ``(N,)``, True on the front. Of choices that are equal in both all are on it or none; one with a NaN never
        is, and beats none.

    Raises:
        ValueError: Costs and values are not two lists of the same length.
    """
    costs, values = np.asarray(cost, dtype=float), np.asarray(value, dtype=float)
    if costs.ndim != 1 or costs.shape != values.shape:
        raise ValueError(f"Costs {costs.shape} and values {values.shape} must be two lists of the same length.")
    # NaN compares as False and so neither beats nor, thanks to the last line, stays.
    as_good = (costs[:, None] <= costs) & (values[:, None] >= values)
    better = (costs[:, None] < costs) | (values[:, None] > values)
    beaten = (as_good & better).any(axis=0)
    return ~beaten & ~np.isnan(costs) & ~np.isnan(values)
