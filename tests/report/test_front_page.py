"""The page over all experiments: answers, holes, and names that stay text."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopfloor.pipelines.reporting.nodes import render_front_page as render_node
from shopfloor.report.page.change import change_sentence, points_of
from shopfloor.report.page.front_page import render_front_page
from shopfloor.report.page.headline import certainty
from shopfloor.runners.missing import MissingResult
from tests.report.conftest import FakeRun, change_of, headline_of, summary_of, tables_of, value_rows, with_kinds


def said_of(experiment: str, detectors: dict[str, dict[str, float | None]], **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "experiment": experiment, "title": experiment.title(), "demo_note": "", "finished": "today",
        "answer": "The answer.", "certainty": "How sure.", "training_hours": 0.5, "seeds": [1],
        "cells": {"planned": 2, "finished": 2, "failed": 0, "missing": 0},
        "grid": {"datasets": ["a/x"], "detectors": list(detectors), "image_sizes": ["256"]},
        "versions": {"torch": "2", "anomalib": "2"}, "environment": {"device": "cpu"}, "detectors": detectors,
    }  # fmt: skip
    return said | more


def scoreboard(page: str) -> dict[str, list[str]]:
    """Texts of each detector's line."""
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    lines = [re.findall(r"<td[^>]*>(?:<b>)?([^<]*)", line) for line in body.split("<tr>")[1:]]
    return {name: values for name, *values in lines}


def test_a_detector_has_one_line_over_all_experiments_and_holes_are_no_numbers() -> None:
    page = render_front_page(
        {
            "model_evaluation": said_of(
                "model_evaluation",
                {"patchcore": {"Image AUROC": 91.26, "PG2": None}, "padim": {"Image AUROC": 88.0, "PG2": 10.0}},
            ),
            "input_size": MissingResult("missing", "never run"),
            "data_drift": said_of("data_drift", {"padim": {"AUROC change, drift": -12.34}}),
        }
    )
    assert scoreboard(page) == {"patchcore": ["91.3", "✗ incomplete", "–"], "padim": ["88.0", "10.0", "-12.3"]}
    assert "<b>91.3</b>" in page and "<b>88.0</b>" not in page
    assert page.index("model_evaluation/report.html") < page.index("data_drift/report.html"), "in the order given"
    assert "Not run yet: input_size." in page


def test_what_is_lost_is_said_beside_the_clean_numbers() -> None:
    clean = value_rows(
        [("a", "x", name, 1, "image_auroc", value) for name, value in zip("pqr", (0.9, 0.8, 0.7), strict=True)]
    )
    drifted = with_kinds(clean.assign(test_set="drift_1", value=[0.6, 0.78, np.nan]))
    text = change_sentence(change_of("data_drift", pd.concat([clean, drifted])))
    assert text == "AUROC change, drift (1 not known): -2.0 points with q, the steadiest, -30.0 with p."
    one = pd.concat([clean, drifted]).query("detector == 'q'")
    assert change_sentence(change_of("data_drift", one)) == "AUROC change, drift: -2.0 points with q."
    assert not change_sentence(change_of("data_drift", clean)), "no drift yet"
    assert not change_sentence(change_of("model_evaluation", clean))
    page = render_front_page({"data_drift": said_of("data_drift", {}, change=text)})
    assert text in page
    render_front_page({"data_drift": said_of("data_drift", {})})  # a summary of an earlier version


def test_the_shortest_time_is_the_best() -> None:
    detectors: dict[str, dict[str, float | None]] = {
        name: {"Prediction, ms": time} for name, time in zip("ab", (9.0, 3.0), strict=True)
    }
    page = render_front_page({"model_evaluation": said_of("model_evaluation", detectors)})
    assert "<b>3.0</b>" in page and "<b>9.0</b>" not in page


def test_an_incomplete_experiment_says_so_and_names_stay_text() -> None:
    evil = "<script>alert(1)</script>"
    broken = said_of(evil, {evil: {evil: 1.0}}, title=evil, answer=evil, certainty=evil, demo_note=evil)
    broken |= {"cells": {"planned": 2, "finished": 1, "failed": 1, "missing": 0}}
    page = render_front_page({evil: broken})
    assert evil not in page
    assert "1 cells failed, 0 are missing" in page


def test_an_outdated_experiment_is_named_with_its_reason_and_without_numbers() -> None:
    summaries: dict[str, Any] = {
        "model_evaluation": said_of("model_evaluation", {"patchcore": {"Image AUROC": 91.26}}),
        "data_drift": MissingResult("outdated", "made from <other> images"),
        "noisy_labels": MissingResult("missing", "never run"),
        "supervised": MissingResult("failed", "no disk"),
    }
    page = render_node(*summaries.values(), experiments=list(summaries))
    drift = page[page.index('href="data_drift/report.html"') :]
    drift = drift[: drift.index("</article>")]
    assert "outdated" in drift and "made from &lt;other&gt; images" in drift
    assert not re.search(r"\d", re.sub("<[^>]*>", "", drift)), "no number"
    assert "no disk" in page and "failed" in page
    assert "noisy_labels/report.html" not in page and "never run" not in page
    assert "Not run yet: noisy_labels." in page
    assert scoreboard(page) == {"patchcore": ["91.3"]}


def test_outdated_cells_of_an_experiment_are_counted() -> None:
    said = said_of("data_drift", {})
    said["cells"] = {"planned": 4, "finished": 2, "failed": 0, "outdated": 2, "missing": 0}
    assert "0 cells failed, 2 are outdated, 0 are missing" in render_front_page({"data_drift": said})
    rows = [("a", "x", "p", 1, "image_auroc", 0.9), ("a", "y", "p", 1, "image_auroc", "outdated")]
    assert headline_of(value_rows(rows)).endswith("1 of 2 cells finished, 0 failed, 1 outdated.")


def test_the_summary_is_plain_data_with_the_means_of_the_tables(evaluation_run: FakeRun) -> None:
    run: Any = evaluation_run
    said = json.loads(json.dumps(summary_of(run.plan, tables_of(run.metrics, run.costs))))
    rows = run.metrics.query("detector == 'patchcore' and metric == 'image_pg2'")
    expected = 100 * rows.groupby("dataset")["value"].mean().mean()
    assert said["detectors"]["patchcore"]["PG2"] == pytest.approx(expected)
    assert said["detectors"]["student_teacher"]["PG2"] is None, "a category failed: no mean"
    assert said["cells"] == {"planned": 8, "finished": 7, "failed": 1, "outdated": 0, "missing": 0}
    assert said["training_hours"] == pytest.approx(run.costs["fit_seconds"].sum() / 3600)


def test_what_an_experiment_changes_is_told_in_points() -> None:
    clean = value_rows([("a", "x", "p", 1, "image_auroc", 0.9), ("b", "y", "p", 1, "image_auroc", 0.7)])
    drifted = with_kinds(clean.assign(test_set="drift_1", value=clean["value"] - [0.1, 0.3]))
    numbers = points_of(change_of("data_drift", pd.concat([clean, drifted])))
    assert numbers == {"p": {"AUROC change, drift": pytest.approx(-20.0)}}
    larger = clean.assign(image_size=512, value=[0.95, np.nan], status=["ok", "failed"])
    numbers = points_of(change_of("input_size", pd.concat([clean, larger])))
    assert numbers == {"p": {"AUROC change, 256 to 512 px": None}}, "one part failed: no change is told"


MEANS = pd.DataFrame(
    {"metric": "image_auroc", "image_size": 256, "detector": ["p", "q", "r"], "value": [0.9, 0.88, 0.7]}
).assign(low=lambda table: table["value"] - 0.02, high=lambda table: table["value"] + 0.02)


def difference(a: str, b: str, inside: bool) -> dict[str, Any]:
    return {"metric": "image_auroc", "image_size": 256, "detector_a": a, "detector_b": b, "inside_noise": inside}


def test_certainty_names_those_that_may_be_as_good() -> None:
    differences = pd.DataFrame([difference("q", "p", True), difference("p", "r", False), difference("q", "r", True)])
    text = certainty(MEANS, differences)
    assert text == (
        "How sure: p has 90.0 % (88.0 to 92.0 over other test images); the difference to q lies inside the noise of "
        "the test images."
    )
    alone = certainty(MEANS, differences.assign(inside_noise=False))
    assert alone.endswith("ahead of the others by more than the noise of the test images.")
    assert "all others" in certainty(MEANS, differences.assign(inside_noise=True))
    assert "no interval" in certainty(MEANS.iloc[:0], differences)
    assert "no other detector" in certainty(MEANS.iloc[:1], differences.iloc[:0])
