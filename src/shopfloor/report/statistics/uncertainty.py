"""How much other test images of the same categories would change: bootstrap intervals of the image metrics.

The images of each category are drawn anew, good and bad each to their own number
(:mod:`shopfloor.metrics.bootstrap`), and all cells of the category are given the same draws. Intervals are those of
the percentiles. Means are those of protocol 3: categories, then datasets; seeds have the same weight.

What is compared between detectors is the baseline alone (training condition ``clean``, or else the first of the table;
the full test set): the test sets of other conditions hold other images. Seeds are averaged. Where their test sets
differ, because images were moved into the training, an image that several of them hold is drawn for all of them
together.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shopfloor.metrics import UndefinedMetric, image_metrics
from shopfloor.metrics.bootstrap import bootstrap_image_metrics, draw_counts
from shopfloor.metrics.entries import image_metric_names
from shopfloor.planning.report_settings import BootstrapSettings
from shopfloor.report.tables.baseline import Baseline, baseline_of
from shopfloor.report.tables.value_tables import CELL

INTERVALS = [*CELL, "condition_kind", "test_set", "test_set_kind", "metric", "value", "low", "high", "note"]
MEAN_INTERVALS = ["metric", "image_size", "detector", "value", "low", "high", "missing"]
DIFFERENCES = ["metric", "image_size", "detector_a", "detector_b", "difference", "low", "high", "inside_noise"]

_SCORED = [*CELL, "condition_kind", "test_set", "test_set_kind"]
_CELLS_PER_REMARK = 100
_LOG = logging.getLogger(__name__)

Samples = dict[str, NDArray[np.float64]]
"""For each metric its value and then those of the resamples (1 + B,)."""


def certainty_tables(
    scores: pd.DataFrame,
    settings: BootstrapSettings,
    metrics: pd.DataFrame | None = None,
    group_metrics: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Intervals of cells, of detectors' means and of the differences between detectors, from one bootstrap.

    Args:
        scores: Raw scores of every test image of every cell: the columns of `shopfloor.planning.cell.Cell.scored`,
            ``image, label`` (good or bad), ``defect_type, pred_score``. The order of the lines does not matter, except
            that the baseline is the first condition where none is clean.
        settings: Of the resamples.
        metrics: The metrics table, which knows the cells that have no scores and the test sets that are measured in
            another way (the domains of AeBAD, protocol 4.4, whose scores are left out here). Without it every cell of
            ``scores`` is taken, and a detector lacks what another one has.
        group_metrics: The table of metrics of groups that are measured apart. Where its groups are types of defects
            (LOCO), each is resampled apart and the mean is the value, as in the metrics table (protocol 3.1).

    Returns:
        `INTERVALS`: one line per cell with scores and image metric; ``value`` is that of the metrics table; NaN, and a
        ``note`` why, where the metric is undefined. `MEAN_INTERVALS`: one line per image metric, image size and
        detector of the baseline; NaN where parts of the mean are missing, which ``missing`` names. `DIFFERENCES`: one
        line per image metric, image size and pair of detectors whose means are complete; ``difference`` is a minus b,
        ``inside_noise`` whether the interval holds 0. All values are fractions; all tables are sorted by their names.

    Raises:
        ValueError: Two lines for one image of a cell; or detectors to be compared were tested on different images.
    """
    baseline = baseline_of(scores if metrics is None else metrics)
    planned = (scores if metrics is None else metrics)[_SCORED].drop_duplicates()
    scores = scores.merge(planned, on=_SCORED) if metrics is not None else scores
    of_baseline = baseline.rows_of(planned)[_SCORED]
    keys = set(of_baseline.itertuples(index=False, name=None))
    lines: list[dict[str, Any]] = []
    known: dict[tuple[Any, ...], Samples | None] = {}
    for cell, samples, note in _bootstrap_cells(scores, settings, _groups_apart(group_metrics), baseline):
        lines += _interval_lines(cell, samples, note, settings.level)
        if tuple(cell[name] for name in _SCORED) in keys:
            known[tuple(cell[name] for name in CELL)] = samples
    intervals = _in_order(pd.DataFrame(lines, columns=INTERVALS), [*_SCORED, "metric"])
    means = _Means(of_baseline[CELL], known)
    mean_intervals, differences = _mean_tables(means, settings.level)
    return intervals, mean_intervals, differences


class Leader(NamedTuple):
    """The best detector of a metric, and how sure that is.

    Attributes:
        detector: The one with the highest mean; of equal ones the first by name.
        value: Its mean, a fraction.
        low: Lower end of the interval of the mean.
        high: Upper end.
        inside_noise: Detectors that other test images might put ahead of it, the best first.
        behind: Detectors that are behind by more than the noise, the best first.
        incomplete: Detectors that lack a part of the mean and were not compared, by name.
    """

    detector: str
    value: float
    low: float
    high: float
    inside_noise: list[str]
    behind: list[str]
    incomplete: list[str]


def leader(mean_intervals: pd.DataFrame, differences: pd.DataFrame, metric: str, image_size: int) -> Leader | None:
    """The best detector of a metric at an image size; None where no detector has a complete mean.

    Args:
        mean_intervals: As `certainty_tables` makes them.
        differences: As `certainty_tables` makes them.
        metric: One of the image metrics.
        image_size: Pixels.
    """
    means, pairs = (
        table[(table["metric"] == metric) & (table["image_size"] == image_size)]
        for table in (mean_intervals, differences)
    )
    ranked = means.dropna(subset=["value"]).sort_values(["value", "detector"], ascending=[False, True])
    if ranked.empty:
        return None
    best, *others = ranked.to_dict("records")
    noise = {
        frozenset(pair): bool(inside)
        for *pair, inside in pairs[["detector_a", "detector_b", "inside_noise"]].itertuples(index=False)
    }
    told_apart = {line["detector"]: not noise[frozenset((best["detector"], line["detector"]))] for line in others}
    return Leader(
        best["detector"],
        best["value"],
        best["low"],
        best["high"],
        [name for name, is_behind in told_apart.items() if not is_behind],
        [name for name, is_behind in told_apart.items() if is_behind],
        sorted(means.loc[means["value"].isna(), "detector"]),
    )


def _bootstrap_cells(
    scores: pd.DataFrame, settings: BootstrapSettings, apart: Mapping[str, Sequence[str]], baseline: Baseline
) -> Iterator[tuple[dict[str, Any], Samples | None, str]]:
    """Coordinates of each cell, its samples or None, and why there are none."""
    total, done = scores.groupby(_SCORED).ngroups, 0
    for (dataset, _), unordered in scores.groupby(["dataset", "category"]):
        part = unordered.sort_values("image", kind="stable")
        _check_images(part, baseline)
        groups = apart.get(str(dataset), ())
        draws = _Draws(part, settings, groups)
        for key, lines in part.groupby(_SCORED):
            cell = dict(zip(_SCORED, key, strict=True))
            try:
                yield cell, _samples(lines, draws, groups), ""
            except UndefinedMetric as error:
                yield cell, None, str(error)
            done += 1
            if done % _CELLS_PER_REMARK == 0 or done == total > _CELLS_PER_REMARK:
                _LOG.info("Intervals of %d of %d cells are there.", done, total)


def _check_images(part: pd.DataFrame, baseline: Baseline) -> None:
    """Every image once per cell; those of the baseline the same for all detectors that were given the same seed."""
    twice = part[part.duplicated([*_SCORED, "image"])]
    if not twice.empty:
        raise ValueError(f"Two scores of the same image of a cell: {twice.iloc[0][[*_SCORED, 'image']].to_dict()}.")
    for _, group in baseline.rows_of(part).groupby(["image_size", "seed"]):
        tested = {
            str(name): list(zip(lines["image"], lines["label"], strict=True))
            for name, lines in group.groupby("detector")
        }
        first, *others = sorted(tested)
        for other in others:
            if tested[other] != tested[first]:
                image, label = sorted(set(tested[first]) ^ set(tested[other]))[0]
                cell = group.iloc[0]
                where = f"{cell['dataset']}/{cell['category']}, {cell['image_size']} px, seed {cell['seed']}"
                raise ValueError(
                    f"{first} and {other} were not tested on the same images of {where} and cannot be compared: only "
                    f"one of them has {image!r} labelled {label}. Predict with one of them again."
                )


class _Draws:
    """The draws of a category: good images and each group of bad ones have their own, the same for all cells."""

    def __init__(self, part: pd.DataFrame, settings: BootstrapSettings, groups: Sequence[str]) -> None:
        self._settings = settings
        self._category = f"{part['dataset'].iloc[0]}/{part['category'].iloc[0]}"
        self._all = {name: sorted(set(images)) for name, images in _strata(part, groups).items()}
        self._known: dict[tuple[str, bytes], NDArray[np.int32]] = {}

    def counts(self, stratum: str, images: Iterable[str]) -> NDArray[np.int32]:
        """How often each of the images, which are in the order of their names, is in each resample (B, N)."""
        is_there = np.isin(self._all[stratum], list(images))
        key = stratum, is_there.tobytes()
        if key not in self._known:
            code = hashlib.sha256(f"{self._category}/{stratum}".encode()).digest()
            seed = [self._settings.seed, *code]
            self._known[key] = draw_counts(is_there, self._settings.resamples, seed)
        return self._known[key]


def _strata(lines: pd.DataFrame, groups: Sequence[str]) -> dict[str, pd.Series]:
    """Names of the good images and of those of each group of bad ones."""
    is_bad = lines["label"] == "bad"
    if not groups:
        return {"good": lines.loc[~is_bad, "image"], "bad": lines.loc[is_bad, "image"]}
    bad = {f"bad/{name}": lines.loc[is_bad & (lines["defect_type"] == name), "image"] for name in groups}
    return {"good": lines.loc[~is_bad, "image"], **bad}


def _samples(lines: pd.DataFrame, draws: _Draws, groups: Sequence[str]) -> Samples:
    """The value of every metric and what it is in the resamples; the mean over groups that are measured apart.

    Raises:
        UndefinedMetric: The cell has no value.
    """
    good, *parts = _strata(lines, groups).items()
    counts_good = draws.counts(*good)
    samples: list[Samples] = []
    for stratum, images in parts:
        chosen = lines[(lines["label"] == "good") | lines["image"].isin(images)]
        pred_score, is_bad = chosen["pred_score"].to_numpy(dtype=float), (chosen["label"] == "bad").to_numpy()
        value = image_metrics(pred_score, is_bad)
        drawn = bootstrap_image_metrics(pred_score, is_bad, counts_good, draws.counts(stratum, images))
        samples.append({name: np.concatenate([[value[name]], drawn[name]]) for name in image_metric_names()})
    return _mean(samples)


def _groups_apart(group_metrics: pd.DataFrame | None) -> dict[str, tuple[str, ...]]:
    """The types of defects that are measured apart, by dataset: the groups of full test sets."""
    if group_metrics is None:
        return {}
    groups = group_metrics[group_metrics["test_set_kind"] == "full"].groupby("dataset")["group"]
    return {str(dataset): tuple(sorted(set(names))) for dataset, names in groups}


def _interval_lines(cell: dict[str, Any], samples: Samples | None, note: str, level: float) -> list[dict[str, Any]]:
    nothing = np.full(1, np.nan)
    return [
        {**cell, "metric": name, **_interval(nothing if samples is None else samples[name], level), "note": note}
        for name in image_metric_names()
    ]


def _interval(samples: NDArray[np.float64], level: float) -> dict[str, float]:
    """The value, which is the first, and the percentile interval of the others."""
    if len(samples) < 2:
        return dict.fromkeys(("value", "low", "high"), float("nan"))
    low, high = np.quantile(samples[1:], [(1 - level) / 2, (1 + level) / 2])
    return {"value": float(samples[0]), "low": float(low), "high": float(high)}


class _Means:
    """Means over the datasets of the baseline, per image size and detector.

    Attributes:
        lines: Image size and detector of every line of the baseline, in order.
    """

    def __init__(self, planned: pd.DataFrame, samples: Mapping[tuple[Any, ...], Samples | None]) -> None:
        """Take the planned cells of the baseline and the samples of those that have scores, None where undefined."""
        self._samples = samples
        self._planned = planned
        self._condition = planned["condition"].iloc[0] if len(planned) else ""
        pairs = planned[["dataset", "category"]].drop_duplicates().sort_values(["dataset", "category"])
        self._categories = {
            str(dataset): list(part["category"])
            for dataset, part in pairs.groupby("dataset")
            if self._can_have_a_value(dataset)
        }
        self.lines = sorted(set(zip(planned["image_size"], planned["detector"], strict=True)))

    def _can_have_a_value(self, dataset: Any) -> bool:
        """Not where the metrics were found to be undefined and are a number nowhere (protocol 3.3)."""
        found = [samples for key, samples in self._samples.items() if key[0] == dataset]
        return not found or any(samples is not None for samples in found)

    def of(self, image_size: int, detector: str) -> tuple[Samples | None, str]:
        """The samples of a mean, or None and the parts that are missing."""
        own = (self._planned["image_size"] == image_size) & (self._planned["detector"] == detector)
        seeds = sorted(set(self._planned.loc[own, "seed"]))
        cells = {
            dataset: [
                [(dataset, category, detector, image_size, self._condition, seed) for seed in seeds]
                for category in categories
            ]
            for dataset, categories in self._categories.items()
        }
        lacking = [
            f"{key[0]}/{key[1]}, seed {key[-1]}"
            for categories in cells.values()
            for keys in categories
            for key in keys
            if self._samples.get(key) is None
        ]
        if lacking or not cells:
            return None, "; ".join(lacking)
        return _mean(
            [_mean([_mean([self._samples[key] for key in keys]) for keys in part]) for part in cells.values()]
        ), ""


def _mean(parts: Sequence[Samples | None]) -> Samples:
    """Plain mean of each metric over parts that are all there."""
    return {name: np.mean([part[name] for part in parts if part is not None], axis=0) for name in image_metric_names()}


def _mean_tables(means: _Means, level: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`MEAN_INTERVALS` and `DIFFERENCES`."""
    mean_lines: list[dict[str, Any]] = []
    pair_lines: list[dict[str, Any]] = []
    complete: dict[int, dict[str, Samples]] = {}
    for size, detector in means.lines:
        samples, missing = means.of(size, detector)
        names = {"image_size": size, "detector": detector, "missing": missing}
        mean_lines += [{**line, **names} for line in _interval_lines({}, samples, "", level)]
        if samples is not None:
            complete.setdefault(size, {})[detector] = samples
    for size, detectors in complete.items():
        for (a, of_a), (b, of_b) in combinations(detectors.items(), 2):
            names = {"image_size": size, "detector_a": a, "detector_b": b}
            gaps = {name: of_a[name] - of_b[name] for name in image_metric_names()}
            pair_lines += [
                {**line, **names, "difference": line["value"], "inside_noise": line["low"] <= 0 <= line["high"]}
                for line in _interval_lines({}, gaps, "", level)
            ]
    return (
        _in_order(pd.DataFrame(mean_lines, columns=MEAN_INTERVALS), MEAN_INTERVALS[:3]),
        _in_order(pd.DataFrame(pair_lines, columns=DIFFERENCES), DIFFERENCES[:4]),
    )


def _in_order(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Sorted by these names; metrics have the order of the protocol."""
    places = {name: place for place, name in enumerate(image_metric_names())}
    order = table.assign(metric=table["metric"].map(places)).sort_values(names, kind="stable").index
    return table.loc[order].reset_index(drop=True)
