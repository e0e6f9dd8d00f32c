"""What the front page says about one experiment, in few numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from shopfloor.report.page.change import change_sentence, changes
from shopfloor.report.page.headline import certainty, headline
from shopfloor.report.page.report import Run
from shopfloor.report.page.results import Results
from shopfloor.report.tables.baseline import baseline_of
from shopfloor.report.tables.value_tables import METRICS, cost_table, count_cells, dataset_table, mean_table

_CLEAN_METRICS = ("image_auroc", "image_pg2", "image_pb2", "pixel_aupro")


def summarise(run: Run, results: Results) -> dict[str, Any]:
    """Sum up an experiment for the page over all of them.

    Args:
        run: What is said about the run itself.
        results: Its tables.

    Returns:
        Plain data for a JSON file: ``experiment``, ``title``, ``demo_note``, ``finished``, ``answer``, ``certainty``,
        ``change``, ``cells`` (planned, finished, failed, outdated, missing), ``training_hours``, ``grid``, ``seeds``,
        ``versions``, ``environment`` and ``detectors``: per detector numbers under the labels that they are printed
        with, percent or points; None stands for a hole.
    """
    count = count_cells(results.metrics)
    return {
        "experiment": run["experiment"],
        "title": run["title"],
        "demo_note": run["demo_note"],
        "finished": run["finished"],
        "answer": headline(results.metrics),
        "certainty": certainty(results.mean_intervals, results.differences),
        "change": change_sentence(run["experiment"], results.metrics),
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
    if experiment in {"model_evaluation", "supervised"} and len(results.metrics):
        return _clean_numbers(results)
    return changes(experiment, results.metrics)


def _clean_numbers(results: Results) -> dict[str, dict[str, float | None]]:
    """Means of the baseline at the smallest input size that has it, and what the detector costs."""
    metrics = results.metrics
    metrics = metrics[metrics["image_size"] == metrics["image_size"].min()]
    metrics = baseline_of(metrics).rows_of(metrics)
    table = (mean_table if metrics["dataset"].nunique() > 1 else dataset_table)(metrics)
    costs = cost_table(results.costs)
    lines: dict[str, dict[str, float | None]] = {}
    for line in table.to_dict("records"):
        measured = {METRICS[name]: _number(100 * line[name]) for name in _CLEAN_METRICS if name in line}
        of_detector = costs[costs["detector"] == line["detector"]]
        latency = _number(of_detector["predict_ms_per_image"].astype(float).mean()) if len(of_detector) else None
        lines[str(line["detector"])] = {**measured, "Prediction per image, ms": latency}
    return lines


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
