"""The metrics of the benchmark, one entry each, in the order of the protocol (2.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from numpy.typing import ArrayLike

from shopfloor.metrics.image import (
    image_auroc,
    image_f1max,
    image_pb2,
    image_pb2_strict,
    image_pg2,
    image_pg2_strict,
)


class Metric(NamedTuple):
    """A metric.

    Attributes:
        label: Its name for readers.
        hint: What it says, in one sentence.
        compute: Its value for raw scores (N,) and ``is_bad`` (N,), a fraction; None for a metric of the pixels, which
            are measured together in one pass (:func:`shopfloor.metrics.pixel.pixel_metrics`).
    """

    label: str
    hint: str
    compute: Callable[[ArrayLike, ArrayLike], float] | None = None


METRICS: dict[str, Metric] = {
    "image_auroc": Metric(
        "Image AUROC", "Probability that a random bad image scores higher than a random good one.", image_auroc
    ),
    "image_f1max": Metric(
        "Image F1max",
        "Largest F1 over all thresholds. Calling everything bad already gives 2p/(1+p), p the share of bad.",
        image_f1max,
    ),
    "image_pg2": Metric(
        "PG2",
        "Share of good images recognised when the threshold misses 2 % of the bad (interpolated quantile).",
        image_pg2,
    ),
    "image_pb2": Metric(
        "PB2",
        "Share of bad images found when the threshold rejects 2 % of the good (interpolated quantile).",
        image_pb2,
    ),
    "image_pg2_strict": Metric("PG2 strict", "As PG2, with at most 2 % of the bad images missed.", image_pg2_strict),
    "image_pb2_strict": Metric("PB2 strict", "As PB2, with at most 2 % of the good images rejected.", image_pb2_strict),
    "pixel_auroc": Metric("Pixel AUROC", "As image AUROC, over the pixels of all test images."),
    "pixel_aupro": Metric(
        "Pixel AUPRO", "Mean share covered of each defect region, averaged over false positive rates up to 0.3."
    ),
    "pixel_f1max": Metric("Pixel F1max", "As image F1max, over pixels."),
}
"""By the names under which they stand in tables. A new image metric is one function and one entry here."""


def image_metric_names() -> list[str]:
    """Give the names of the metrics of images."""
    return [name for name, metric in METRICS.items() if metric.compute]


def label_of(metric: str) -> str:
    """Give a metric's name for readers; one without an entry keeps its own."""
    return METRICS[metric].label if metric in METRICS else metric


def image_metrics(scores: ArrayLike, is_bad: ArrayLike) -> dict[str, float]:
    """Compute all image metrics of one category.

    Args:
        scores: Raw scores of the test images (N,), higher means more anomalous.
        is_bad: True for the bad images (N,).

    Returns:
        Fractions in [0, 1] by name.

    Raises:
        UndefinedMetric: The metrics have no value, see :mod:`shopfloor.metrics.image`.
    """
    return {name: metric.compute(scores, is_bad) for name, metric in METRICS.items() if metric.compute}
