"""The error of a metric that has no value."""

from __future__ import annotations


class UndefinedMetric(ValueError):
    """The scores and labels do not determine the metric; the text says why (protocol 2.1).

    Raised instead of returning a number when a class is missing, a score is NaN or infinite, or scores
    and labels do not belong together.
    """
