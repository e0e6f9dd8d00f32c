"""Pixel metrics of one category: exact, on raw anomaly maps, in bounded memory (protocol 2.1).

All three metrics ask of a normal pixel only where it lies among the scores of the defective pixels, which
are few. So the defective pixels are kept and sorted, and the normal pixels pass by, each counted into its
place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shopfloor.metrics.ranking import Ranking, rank
from shopfloor.metrics.undefined import UndefinedMetric

ImageStack = NDArray | Sequence[NDArray]


def pixel_metrics(
    anomaly_maps: ImageStack,
    gt_masks: ImageStack,
    *,
    aupro_fpr_limit: float = 0.3,
    chunk: int = 1 << 21,
) -> dict[str, float]:
    """AUROC, AUPRO and F1Max over the pooled pixels of all test images of one category.

    - ``pixel_auroc``: probability that a random defective pixel scores higher than a random normal one,
      ties count one half.
    - ``pixel_aupro``: area under the curve of the false positive rate over all normal pixels against the
      mean, over defect regions, of the covered share of the region; up to ``aupro_fpr_limit``, divided by
      it. Regions are the 8-connected components of each mask and weigh the same whatever their size.
    - ``pixel_f1max``: largest F1 over all thresholds ``t`` with the decision "defective if score >= t".

    The maps are read twice, those without a defective pixel once.

    Args:
        anomaly_maps: Raw anomaly maps, (N, H, W) or a sequence of (H, W), any range; memory maps and
            sequences that load on access stay on disk. Compared in their own precision.
        gt_masks: Masks of the same images and sizes, above 0 is defective.
        aupro_fpr_limit: False positive rate up to which AUPRO integrates, in (0, 1].
        chunk: Number of normal pixels held at a time, next to all defective ones. It bounds the memory and
            changes no value.

    Returns:
        The three metrics by name, as fractions in [0, 1].

    Raises:
        UndefinedMetric: No defective or no normal pixel, a NaN or infinite score, or maps and masks that
            differ in number or shape.
    """
    if not 0 < aupro_fpr_limit <= 1:
        raise ValueError(f"aupro_fpr_limit must lie in (0, 1], not {aupro_fpr_limit}.")
    if len(anomaly_maps) != len(gt_masks):
        raise UndefinedMetric(f"There are {len(anomaly_maps)} anomaly maps but {len(gt_masks)} masks.")

    defects = _collect_defects(anomaly_maps, gt_masks)
    ranking = rank(defects.scores, _normal_scores(anomaly_maps, gt_masks), chunk=chunk)
    if ranking.negatives == 0:
        raise UndefinedMetric("There is no normal pixel: the masks cover every image completely.")
    return {
        "pixel_auroc": ranking.auroc(),
        "pixel_aupro": _aupro(ranking, defects, aupro_fpr_limit),
        "pixel_f1max": ranking.f1max(),
    }


@dataclass(frozen=True)
class _Defects:
    """The defective pixels of all images.

    Attributes:
        scores: Score of each defective pixel, shape (P,).
        regions: Index of the region that it belongs to, shape (P,), values in [0, R).
        areas: Number of pixels of each region, shape (R,).
    """

    scores: NDArray
    regions: NDArray[np.integer]
    areas: NDArray[np.integer]


def _collect_defects(anomaly_maps: ImageStack, gt_masks: ImageStack) -> _Defects:
    scores: list[NDArray] = []
    regions: list[NDArray] = []
    count = 0
    for i in range(len(gt_masks)):
        is_defective = np.asarray(gt_masks[i]) > 0
        if not is_defective.any():
            continue
        scores.append(_checked_map(anomaly_maps, i, is_defective.shape)[is_defective])
        labels = cv2.connectedComponents(is_defective.view(np.uint8), connectivity=8)[1][is_defective]
        regions.append(labels - 1 + count)  # label 0 is the background
        count += int(labels.max())
    if not scores:
        raise UndefinedMetric(f"There is no defective pixel in the {len(gt_masks)} masks.")
    pooled = np.concatenate(regions)
    return _Defects(np.concatenate(scores), pooled, np.bincount(pooled))


def _normal_scores(anomaly_maps: ImageStack, gt_masks: ImageStack) -> Iterator[NDArray]:
    """The scores of the normal pixels, image by image."""
    for i in range(len(gt_masks)):
        is_normal = ~(np.asarray(gt_masks[i]) > 0)
        anomaly_map = _checked_map(anomaly_maps, i, is_normal.shape)
        yield anomaly_map.ravel() if is_normal.all() else anomaly_map[is_normal]


def _checked_map(anomaly_maps: ImageStack, i: int, mask_shape: tuple[int, ...]) -> NDArray:
    anomaly_map = np.asarray(anomaly_maps[i])
    if anomaly_map.ndim != 2 or anomaly_map.shape != mask_shape:
        raise UndefinedMetric(
            f"Anomaly map {i} has the shape {anomaly_map.shape}, its mask {mask_shape}; both must be (H, W)."
        )
    if not np.isfinite(anomaly_map).all():
        raise UndefinedMetric(f"Anomaly map {i} holds NaN or infinite scores.")
    return anomaly_map


def _aupro(ranking: Ranking, defects: _Defects, fpr_limit: float) -> float:
    """Normalised area under the PRO curve up to ``fpr_limit``.

    The curve is a mean over regions of means over their pixels, and so is its area. The curve of a single
    pixel is 0 until the threshold falls to its score, 1 from then on. In between, the normal pixels that
    tie with it move the false positive rate, and the curve climbs in a straight line.
    """
    start = (ranking.negatives - ranking.negatives_upto) / ranking.negatives
    end = (ranking.negatives - ranking.negatives_below) / ranking.negatives
    climb = end - start
    climbed = np.clip(fpr_limit, start, end) - start
    under_climb = np.divide(climbed**2, 2 * climb, out=np.zeros_like(climb), where=climb > 0)
    area = (under_climb + np.maximum(fpr_limit - end, 0)) / fpr_limit

    of_pixel = area[np.searchsorted(ranking.scores, defects.scores)]
    of_region = np.bincount(defects.regions, weights=of_pixel) / defects.areas
    return float(of_region.mean())
