"""Thresholds against numpy, what the figures show and how large they are."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from shopfloor.report.figures import (
    cost_figure,
    metric_by_category,
    noise_figure,
    overview_figures,
    score_histogram,
    score_thresholds,
)
from shopfloor.report.tables import dataset_table
from tests.report.conftest import cell_scores, value_rows


def scores_of(good, bad):
    return pd.DataFrame({"label": ["good"] * len(good) + ["bad"] * len(bad), "pred_score": [*good, *bad]})


def test_thresholds_of_the_protocols_example():
    # Protocol 2.1: 50 good scores evenly over [0, 1], 20 bad of which one is 0.10, the next 0.90, the rest above 1.1.
    good = np.linspace(0, 1, 50)
    bad = np.array([0.10, 0.90, *np.linspace(1.2, 2, 18)])
    found = score_thresholds(scores_of(good, bad))
    assert found.pg2 == pytest.approx(0.10 + 0.38 * 0.80)  # position 0.02 * 19
    assert found.good_below_pg2 == pytest.approx(0.40)
    assert found.pb2 == pytest.approx(np.quantile(good, 0.98))
    assert found.bad_above_pb2 == pytest.approx(18 / 20)


def test_a_tie_with_the_threshold_is_not_recognised():
    found = score_thresholds(scores_of([1.0, 1.0, 1.0], [1.0, 1.0]))
    assert (found.good_below_pg2, found.bad_above_pb2) == (0.0, 0.0)


def test_one_class_has_no_threshold_and_still_a_histogram():
    scores = scores_of([1.0, 2.0], [])
    assert all(np.isnan(value) for value in score_thresholds(scores))
    assert [trace.name for trace in score_histogram(scores).data] == ["good (2)"]
    assert not score_histogram(scores_of([], [])).data


def test_histogram_holds_every_image_once_and_draws_both_thresholds():
    scores = cell_scores(3, n_good=5000, n_bad=3000)
    figure = score_histogram(scores)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [sum(bar.y) for bar in bars] == pytest.approx([100, 100], abs=0.01)
    found = score_thresholds(scores)
    lines = [trace.x[0] for trace in figure.data if trace.type == "scatter"]
    assert lines == pytest.approx([found.pg2, found.pb2])
    assert len(figure.to_json()) < 6_000


def test_metric_figure_shows_the_values_and_skips_holes():
    rows = value_rows(
        [
            ("a", "x", "p", 1, "image_auroc", 0.8),
            ("a", "x", "p", 2, "image_auroc", 0.9),
            ("a", "x", "q", 1, "image_auroc", 0.7),
            ("a", "x", "q", 2, "image_auroc", "failed"),
        ]
    )
    figure = metric_by_category(rows, "image_auroc", 256, "clean")
    assert [trace.name for trace in figure.data] == ["p"]
    assert figure.data[0].x == (85.0,)
    assert figure.data[0].error_x.array[0] == pytest.approx(10 / np.sqrt(2), abs=1e-4)


def test_noise_figure_uses_the_common_test_set_and_leaves_gaps(noisy_run):
    metrics = noisy_run.metrics
    figure = noise_figure(metrics, "image_auroc")
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(lines) == 2 * 3  # detectors, two datasets and their mean
    first = dataset_table(metrics[metrics["metric"] == "image_auroc"])
    first = first[(first["dataset"] == "solar_cells") & (first["detector"] == "patchcore")]
    values = first[first["test_set"] == "common"].set_index("condition")["image_auroc"]
    expected = [100 * values[name] for name in ("clean", "noise_4", "noise_8", "noise_16")]
    assert list(lines[0].x) == [0, 4, 8, 16]
    assert list(lines[0].y) == pytest.approx(expected)
    broken = next(line for line in lines if None in line.y)
    assert (broken.name, list(broken.y).index(None)) == ("student_teacher", 2)


def test_cost_figure_leaves_failed_runs_out(evaluation_run):
    figure = cost_figure(evaluation_run.metrics, evaluation_run.costs, "fit_seconds")
    assert [len(trace.x) for trace in figure.data] == [4, 3]


def test_names_from_disk_are_escaped_and_cut():
    rows = value_rows([("<b onclick=x>", "y" * 300, "<script>", 1, "image_auroc", 0.8)])
    text = metric_by_category(rows, "image_auroc", 256, "clean").to_json()
    assert "<script>" not in json.loads(text)["data"][0]["name"]
    assert "<b onclick" not in "".join(json.loads(text)["layout"]["yaxis"]["ticktext"])
    assert "y" * 100 not in text


def test_overview_is_small_and_complete(noisy_run, evaluation_run):
    figures = overview_figures(noisy_run.metrics, noisy_run.costs)
    assert sum("mislabelled" in title for title in figures) == 4
    assert sum(len(figure.to_json()) for figure in figures.values()) < 60_000
    assert len(overview_figures(evaluation_run.metrics, evaluation_run.costs)) == 5


def test_overview_of_a_run_that_failed_throughout_is_empty(evaluation_run):
    metrics = evaluation_run.metrics.assign(value=np.nan, status="failed")
    assert overview_figures(metrics, evaluation_run.costs.assign(status="failed")) == {}


def test_importing_the_report_is_light():
    code = """
import sys
from shopfloor.report import examples, figures, page, tables
heavy = {"plotly", "matplotlib", "jinja2", "torch"} & set(sys.modules)
sys.exit(str(heavy) if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
