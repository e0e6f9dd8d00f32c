"""The metrics of the benchmark: exact, in double precision, from raw scores and maps (protocol 2)."""

from shopfloor.metrics.entries import image_metrics
from shopfloor.metrics.image import (
    image_auroc,
    image_f1max,
    image_pb2,
    image_pb2_strict,
    image_pg2,
    image_pg2_strict,
)
from shopfloor.metrics.pixel import pixel_metrics
from shopfloor.metrics.undefined import UndefinedMetric

__all__ = [
    "UndefinedMetric",
    "image_auroc",
    "image_f1max",
    "image_metrics",
    "image_pb2",
    "image_pb2_strict",
    "image_pg2",
    "image_pg2_strict",
    "pixel_metrics",
]
