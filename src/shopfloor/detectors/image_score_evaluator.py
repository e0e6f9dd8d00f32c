"""anomalib's metrics for detectors that give image scores and no maps."""

from __future__ import annotations

from anomalib.metrics import AUROC, Evaluator, F1Score


def image_score_evaluator() -> Evaluator:
    """AUROC and F1 of image scores, for use of a detector as a plain anomalib module."""
    auroc = AUROC(fields=["pred_score", "gt_label"], prefix="image_")
    f1_score = F1Score(fields=["pred_label", "gt_label"], prefix="image_")
    return Evaluator(test_metrics=[auroc, f1_score])
