"""Score test images, measure scores and maps, show the worst misses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from PIL.Image import Image

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.metrics import UndefinedMetric, image_metrics, pixel_metrics
from shopfloor.metrics.names import IMAGE_METRICS, PIXEL_METRICS

Settings = dict[str, Any]


def predict_maps(
    checkpoint: dict[str, Any], test_images: ImagePart, detector: Settings
) -> tuple[np.ndarray, pd.DataFrame, dict[str, Any]]:
    """Score the test images with a detector that gives anomaly maps.

    Args:
        checkpoint: A fitted detector.
        test_images: Test images (N, S, S, 3), uint8.
        detector: The detector's entry.

    Returns:
        Raw anomaly maps (N, S, S), float32; the table of raw scores, one line per image; the record of the prediction
        (milliseconds per image, device).

    Raises:
        DetectorError: The detector gives no maps, or a score that is not finite.
    """
    from shopfloor.detectors.building import DetectorError
    from shopfloor.detectors.predict import predict

    scores, maps, record = predict(checkpoint, test_images, detector["batch_size"])
    if maps is None:
        raise DetectorError(f"{checkpoint['class_path']} gives no anomaly maps. Set gives_maps: false in its entry.")
    return maps, scores, record


def predict_scores(
    checkpoint: dict[str, Any], test_images: ImagePart, detector: Settings
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score the test images with a detector that gives image scores only; as :func:`predict_maps` without maps."""
    from shopfloor.detectors.predict import predict

    scores, _, record = predict(checkpoint, test_images, detector["batch_size"])
    return scores, record


def measure(
    scores: pd.DataFrame,
    test: pd.DataFrame,
    maps: np.ndarray | None = None,
    gt_masks: ImagePart | None = None,
    *,
    coordinates: dict[str, Any],
) -> pd.DataFrame:
    """Compute every metric from raw scores and raw maps (protocol 2).

    Args:
        scores: Raw image scores of the cell's test part.
        test: Table of the test images to measure on: the cell's own, or a part of it that other cells share.
        maps: Raw anomaly maps (N, S, S) in the order of ``scores``; None for a detector that gives none.
        gt_masks: Masks (N, S, S) in the same order.
        coordinates: Columns that name the cell.

    Returns:
        One line per metric: the coordinates, ``metric``, ``value`` (fraction), ``status`` (``ok`` or
        ``not_available``), ``note`` (why it is not available).
    """
    chosen = scores["image"].isin(test["image"]).to_numpy()
    if chosen.sum() != len(test):
        raise ValueError(f"{len(test) - chosen.sum()} of {len(test)} test images have no score in cell {coordinates}.")
    lines = _lines(IMAGE_METRICS, lambda: _image_values(scores[chosen]))
    if maps is None or gt_masks is None:
        lines += _not_available(PIXEL_METRICS, "this detector gives no anomaly maps")
    elif not test["has_pixel_labels"].any():
        lines += _not_available(PIXEL_METRICS, "this dataset has no pixel labels")
    else:
        chosen_maps = ImagePart(maps, pd.DataFrame({"row": np.flatnonzero(chosen)}))
        chosen_masks = ImagePart(gt_masks.stack, gt_masks.table[chosen])
        lines += _lines(PIXEL_METRICS, lambda: pixel_metrics(chosen_maps, chosen_masks))
    return pd.DataFrame([{**coordinates, **line} for line in lines])


def show_examples(
    test_images: ImagePart,
    scores: pd.DataFrame,
    test_masks: ImagePart | None = None,
    maps: np.ndarray | None = None,
) -> Image:
    """Picture of the cell's worst misses and best catches: image, map over the image, mask.

    Args:
        test_images: Test images (N, S, S, 3).
        scores: Raw scores in the same order.
        test_masks: Masks (N, S, S) in the same order.
        maps: Raw anomaly maps (N, S, S) in the same order; None for a detector that gives none.

    Returns:
        The picture.
    """
    from shopfloor.report.examples import draw_examples

    return draw_examples(scores, test_images, maps, test_masks)


def _image_values(scores: pd.DataFrame) -> dict[str, float]:
    return image_metrics(scores["pred_score"].to_numpy(), (scores["label"] == "bad").to_numpy())


def _lines(names: tuple[str, ...], compute: Any) -> list[dict[str, Any]]:
    try:
        values = compute()
    except UndefinedMetric as error:
        return _not_available(names, str(error))
    return [{"metric": name, "value": values[name], "status": "ok", "note": ""} for name in names]


def _not_available(names: tuple[str, ...], why: str) -> list[dict[str, Any]]:
    return [{"metric": name, "value": float("nan"), "status": "not_available", "note": why} for name in names]
