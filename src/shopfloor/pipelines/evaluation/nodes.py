"""Score test images, measure scores and maps, show the worst misses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from PIL.Image import Image

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.metrics import UndefinedMetric, image_metrics, pixel_metrics
from shopfloor.metrics.entries import METRICS
from shopfloor.report.figures.style import Chart

#: An entry of the parameter files, as Kedro hands it to a node.
Entry = Mapping[str, Any]


def predict_maps(
    checkpoint: dict[str, Any], test_images: ImagePart, detector: Entry
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
    checkpoint: dict[str, Any], test_images: ImagePart, detector: Entry
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
    metrics: Sequence[str] = tuple(METRICS),
    apart: Mapping[str, Mapping[str, list[str]]] | None = None,
) -> pd.DataFrame:
    """Compute every metric from raw scores and raw maps (protocol 2).

    Args:
        scores: Raw image scores of the cell's test part.
        test: Table of the test images to measure on: the cell's own, or a part of it that other cells share.
        maps: Raw anomaly maps (N, S, S) in the order of ``scores``; None for a detector that gives none.
        gt_masks: Masks (N, S, S) in the same order.
        coordinates: Columns that name the cell.
        metrics: Names of the metrics. They are bound to the node, so that a new one is measured on old predictions.
        apart: Groups of test images that are measured each for itself, the mean being the value (protocol 3.1): by
            group, a column of ``test`` and the values that belong to it. Of defect types only bad images are chosen;
            every group has all good ones. None or empty measures all images together.

    Returns:
        One line per metric: the coordinates, ``group`` (empty for the value), ``metric``, ``value`` (fraction),
        ``status`` (``ok`` or ``not_available``), ``note`` (why it is not available); and such a line for each group.
    """
    lines_of = partial(_measured, scores, maps, gt_masks, coordinates, metrics)
    if not apart:
        return _table(coordinates, {"": lines_of(test)})
    groups = {name: lines_of(_group(test, chosen)) for name, chosen in apart.items()}
    return _table(coordinates, {"": _means(groups), **groups})


def _group(test: pd.DataFrame, chosen: Mapping[str, list[str]]) -> pd.DataFrame:
    """The images of one group."""
    ((column, values),) = chosen.items()
    belongs = test[column].isin(values)
    if column == "defect_type":
        belongs |= test["label"] == "good"
    return test[belongs]


def _measured(
    scores: pd.DataFrame,
    maps: np.ndarray | None,
    gt_masks: ImagePart | None,
    coordinates: dict[str, Any],
    metrics: Sequence[str],
    test: pd.DataFrame,
) -> list[dict[str, Any]]:
    """Every metric over some of the scored images."""
    chosen = scores["image"].isin(test["image"]).to_numpy()
    if chosen.sum() != len(test):
        raise ValueError(f"{len(test) - chosen.sum()} of {len(test)} test images have no score in cell {coordinates}.")
    of_images = [name for name in metrics if METRICS[name].compute]
    of_pixels = [name for name in metrics if not METRICS[name].compute]
    lines = _lines(of_images, lambda: _image_values(scores[chosen]))
    if maps is None or gt_masks is None:
        return lines + _not_available(of_pixels, "this detector gives no anomaly maps")
    if len(maps) != len(scores) or gt_masks.table["image"].tolist() != scores["image"].tolist():
        raise ValueError(f"Scores, maps and masks of cell {coordinates} are not of the same images.")
    if not test["has_pixel_labels"].any():
        return lines + _not_available(of_pixels, "this dataset has no pixel labels")
    chosen_maps = ImagePart(maps, pd.DataFrame({"row": np.flatnonzero(chosen)}))
    chosen_masks = ImagePart(gt_masks.stack, gt_masks.table[chosen])
    return lines + _lines(of_pixels, lambda: pixel_metrics(chosen_maps, chosen_masks))


def _means(groups: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean of each metric over the groups; not available where it is not in one of them."""
    lines = []
    for parts in zip(*groups.values(), strict=True):
        holes = [f"{name}: {part['note']}" for name, part in zip(groups, parts, strict=True) if part["status"] != "ok"]
        line = {"metric": parts[0]["metric"], "value": float(np.mean([part["value"] for part in parts])), "note": ""}
        if holes:
            # The same reason in every group, such as no pixel labels, is said once.
            notes = {part["note"] for part in parts}
            line |= {"value": float("nan"), "note": notes.pop() if len(notes) == 1 else "; ".join(holes)}
        lines.append({**line, "status": "not_available" if holes else "ok"})
    return lines


def _table(coordinates: dict[str, Any], groups: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    columns = ["group", "metric", "value", "status", "note"]
    lines = [{**coordinates, "group": name, **line} for name, part in groups.items() for line in part]
    return pd.DataFrame(lines)[[*coordinates, *columns]]


def show_examples(
    test_images: ImagePart,
    scores: pd.DataFrame,
    test_masks: ImagePart | None = None,
    maps: np.ndarray | None = None,
) -> tuple[Image, Chart]:
    """Show the cell's worst misses and best catches, and how its scores are distributed.

    Args:
        test_images: Test images (N, S, S, 3).
        scores: Raw scores in the same order.
        test_masks: Masks (N, S, S) in the same order.
        maps: Raw anomaly maps (N, S, S) in the same order; None for a detector that gives none.

    Returns:
        A picture of images, maps over the images and masks; a histogram of the scores.
    """
    from shopfloor.report.figures.scores import score_histogram
    from shopfloor.report.pictures.examples import draw_examples

    if test_masks is not None and not test_masks.table["has_pixel_labels"].any():
        test_masks = None  # all zero, because the dataset has none
    return draw_examples(scores, test_images, maps, test_masks), score_histogram(scores)


def _image_values(scores: pd.DataFrame) -> dict[str, float]:
    return image_metrics(scores["pred_score"].to_numpy(), (scores["label"] == "bad").to_numpy())


def _lines(names: list[str], compute: Any) -> list[dict[str, Any]]:
    try:
        values = compute()
    except UndefinedMetric as error:
        return _not_available(names, str(error))
    return [{"metric": name, "value": values[name], "status": "ok", "note": ""} for name in names]


def _not_available(names: list[str], why: str) -> list[dict[str, Any]]:
    return [{"metric": name, "value": float("nan"), "status": "not_available", "note": why} for name in names]
