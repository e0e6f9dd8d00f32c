"""The parts that anomalib puts around the network of any detector."""

from __future__ import annotations

from typing import TypedDict

from anomalib.metrics import Evaluator
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from torch import nn


class AnomalibParts(TypedDict, total=False):
    """What every detector passes on to :class:`anomalib.models.AnomalibModule`.

    Attributes:
        pre_processor: Brings the images to the form that the network wants.
        post_processor: Makes thresholds and labels of raw scores.
        evaluator: Computes anomalib's metrics.
        visualizer: Draws pictures. Each of the four is anomalib's own where it is left out, and none where it is False.
    """

    pre_processor: nn.Module | bool
    post_processor: PostProcessor | bool
    evaluator: Evaluator | bool
    visualizer: Visualizer | bool
