"""What the front page says about one experiment, in few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from shopfloor.metrics.entries import METRICS
from shopfloor.report.page.change import Change, change_sentence, points_of
from shopfloor.report.page.headline import certainty, headline
from shopfloor.report.tables.baseline import baseline_of
from shopfloor.report.tables.value_tables import count_cells

_CLEAN_METRICS = ("image_auroc", "image_pg2", "image_pb2", "pixel_aupro")
Numbers = dict[str, dict[str, float | None]]


def summarise(
    plan: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], change: Change | None, shows_detectors: bool
) -> dict[str, Any]:
    """Sum up an experiment for its own page and for the page over all of them.

    Args:
        plan: Its plan.
        tables: Its tables by name, as the reporting stage makes them.
        change: What it changes.
        shows_detectors: Whether its means are the detectors' own line, see
            :class:`shopfloor.experiments.experiment.Experiment`.

    Returns:
        Plain data for a JSON file: ``experiment``, ``title``, ``demo_note``, ``answer``, ``certainty``, ``change``,
        ``cells`` (planned, finished, failed, outdated, missing), ``training_hours``, ``grid``, ``seeds`` and
        ``detectors``: per detector numbers under the labels that they are printed with, percent or points; None stands
        for a hole.
    """
    metrics = tables["metrics"]
    count = count_cells(metrics, tables["failures_table"])
    return {
        "experiment": plan["experiment"],
        "title": plan["title"],
        "demo_note": plan["demo_note"],
        "answer": headline(metrics, tables["mean_table"], count),
        "certainty": certainty(tables["mean_intervals"], tables["differences"]),
        "change": change_sentence(change),
        "cells": count._asdict(),
        "training_hours": float(tables["costs"]["fit_seconds"].astype(float).sum()) / 3600,
        "grid": {name: list(map(str, values)) for name, values in plan["grid"].items()},
        "seeds": [int(seed) for seed in plan["seeds"]],
        "detectors": _clean_numbers(tables) if shows_detectors and len(metrics) else points_of(change),
    }


def _clean_numbers(tables: Mapping[str, pd.DataFrame]) -> Numbers:
    """Means of the baseline at the smallest input size that has it, and what the detector costs."""
    metrics, costs = tables["metrics"], tables["cost_table"]
    smallest = metrics["image_size"].min()
    means = tables["mean_table" if metrics["dataset"].nunique() > 1 else "dataset_table"]
    means = baseline_of(metrics[metrics["image_size"] == smallest]).rows_of(means[means["image_size"] == smallest])
    lines: Numbers = {}
    for line in means.to_dict("records"):
        measured = {METRICS[name].label: _number(100 * line[name]) for name in _CLEAN_METRICS if name in line}
        of_detector = costs[costs["detector"] == line["detector"]]
        latency = _number(of_detector["predict_ms_per_image"].astype(float).mean()) if len(of_detector) else None
        lines[str(line["detector"])] = {**measured, "Prediction per image, ms": latency}
    return lines


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
