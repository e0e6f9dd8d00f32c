"""What the front page says about one experiment, in few numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from shopfloor.report.baseline import baseline_condition
from shopfloor.report.comparison import (
    MEAN_OVER_DATASETS,
    drift_table,
    noise_levels,
    noise_percent,
    noise_table,
    size_table,
)
from shopfloor.report.headline import certainty, headline
from shopfloor.report.page import Run
from shopfloor.report.results import Results
from shopfloor.report.tables import METRICS, cost_table, count_cells, dataset_table, mean_table

_CLEAN_METRICS = ("image_auroc", "image_pg2", "image_pb2", "pixel_aupro")


def summarise(run: Run, results: Results) -> dict[str, Any]:
    """Sum up an experiment for the page over all of them.

    Args:
        run: What is said about the run itself.
        results: Its tables.

    Returns:
        Plain data for a JSON file: ``experiment``, ``title``, ``demo_note``, ``finished``, ``answer``, ``certainty``,
        ``cells`` (planned, finished, failed, missing), ``training_hours``, ``grid``, ``seeds``, ``versions``,
        ``environment`` and ``detectors``: per detector numbers under the labels that they are printed with, percent
        or points; None stands for a hole.
    """
    count = count_cells(results.metrics)
    return {
        "experiment": run["experiment"],
        "title": run["title"],
        "demo_note": run["demo_note"],
        "finished": run["finished"],
        "answer": headline(results.metrics),
        "certainty": certainty(results.mean_intervals, results.differences),
        "cells": count._asdict(),
        "training_hours": float(results.costs["fit_seconds"].astype(float).sum()) / 3600,
        "grid": {name: list(map(str, values)) for name, values in run["grid"].items()},
        "seeds": [int(seed) for seed in run["seeds"]],
        "versions": dict(run["versions"]),
        "environment": run["environment"],
        "detectors": detector_numbers(run["experiment"], results),
    }


def detector_numbers(experiment: str, results: Results) -> dict[str, dict[str, float | None]]:
    """What an experiment adds to a detector's line on the front page; nothing where it compares other things.

    Args:
        experiment: Name of the pipeline.
        results: Its tables.
    """
    numbers = {
        "model_evaluation": lambda: _clean_numbers(results),
        "input_size": lambda: _size_change(results.metrics),
        "data_drift": lambda: _change(drift_table(results.metrics), "no_drift", "drift", "AUROC change, drift"),
        "noisy_labels": lambda: _noise_change(results.metrics),
        "supervised": lambda: _clean_numbers(results),
    }
    return numbers[experiment]() if experiment in numbers and len(results.metrics) else {}


def _clean_numbers(results: Results) -> dict[str, dict[str, float | None]]:
    """Means of the baseline at the smallest input size that has it, and what the detector costs."""
    metrics = results.metrics
    metrics = metrics[metrics["image_size"] == metrics["image_size"].min()]
    metrics = metrics[(metrics["condition"] == baseline_condition(metrics)) & (metrics["test_set"] == "full")]
    table = (mean_table if metrics["dataset"].nunique() > 1 else dataset_table)(metrics)
    costs = cost_table(results.costs)
    lines: dict[str, dict[str, float | None]] = {}
    for line in table.to_dict("records"):
        measured = {METRICS[name]: _number(100 * line[name]) for name in _CLEAN_METRICS if name in line}
        of_detector = costs[costs["detector"] == line["detector"]]
        latency = _number(of_detector["predict_ms_per_image"].astype(float).mean()) if len(of_detector) else None
        lines[str(line["detector"])] = {**measured, "Prediction per image, ms": latency}
    return lines


def _noise_change(metrics: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    levels = noise_levels(metrics)
    if not levels:
        return {}
    label = f"AUROC change, {noise_percent(levels[-1]):g} % wrong labels"
    return _change(noise_table(metrics), "clean_same_test", f"{levels[-1]}_same_test", label)


def _size_change(metrics: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    sizes = sorted(metrics["image_size"].unique())
    if len(sizes) < 2:
        return {}
    label = f"AUROC change, {sizes[0]} to {sizes[-1]} px"
    return _change(size_table(metrics), str(sizes[0]), str(sizes[-1]), label)


def _change(table: pd.DataFrame, before: str, after: str, label: str) -> dict[str, dict[str, float | None]]:
    """Points of image AUROC from one column of a comparison to another, mean over datasets."""
    lines = table[table["metric"] == "image_auroc"]
    if (lines["dataset"] == MEAN_OVER_DATASETS).any():
        lines = lines[lines["dataset"] == MEAN_OVER_DATASETS]
    lines = lines.drop_duplicates("detector")
    return {
        str(line["detector"]): {label: _number(100 * (line[after] - line[before]))} for line in lines.to_dict("records")
    }


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
