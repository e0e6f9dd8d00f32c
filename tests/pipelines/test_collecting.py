"""The nodes that collect over the cells: a damaged or outdated result costs its own cell and is named."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from shopfloor.metrics.entries import METRICS
from shopfloor.report.tables import collecting
from shopfloor.report.tables.value_tables import count_cells, dataset_table, failures_table
from shopfloor.runners.missing import MissingResult

OUTDATED = MissingResult("outdated", "made from other images than those there now")


def cell(category: str) -> dict[str, Any]:
    return {
        "dataset": "parts", "category": category, "detector": "padim", "image_size": 64, "condition": "clean",
        "condition_kind": "clean", "condition_amount": math.nan, "seed": 1, "test_set": "full",
        "test_set_kind": "full", "test_set_seed": math.nan,
    }  # fmt: skip


CELLS = [cell("ring"), cell("bolt")]


def metrics_of(category: str) -> pd.DataFrame:
    names = list(METRICS)
    lines = [
        {**cell(category), "group": "", "metric": name, "value": 0.5, "status": "ok", "note": ""} for name in names
    ]
    return pd.DataFrame(lines)


FIT = {"fit_seconds": 2.5, "device": "cpu", "epochs": 1, "versions": {"torch": "2"}}
PREDICT = {"predict_ms_per_image": 7.0, "device": "cpu", "n_test": 3}
SCORES = pd.DataFrame({"image": ["a"], "label": ["good"], "defect_type": [""], "pred_score": [0.5]})
LOG = pd.DataFrame({"epoch": [1], "seconds": [2.0], "learning_rate": [0.1], "train_loss": [3.0]})
COUNTS = pd.DataFrame({"transform": ["crop"], "images": [2], "emptied": [0]})
CATEGORY = pd.DataFrame([{"dataset": "parts", "category": "bolt", "image_size": 64, "test_good": 4}])


@pytest.mark.parametrize("damaged", [None, [1, 2], "text", {}, {"device": "cpu"}])
def test_a_damaged_record_costs_its_own_training(damaged: Any) -> None:
    table = collecting.collect_costs(damaged, FIT, PREDICT, PREDICT, cells=CELLS)
    assert table["status"].tolist() == ["failed", "ok"]
    assert math.isnan(table["fit_seconds"][0]) and table["fit_seconds"][1] == 2.5
    for fact in ("record of the training", "dataset parts", "category ring", "detector padim", "seed 1", "Delete"):
        assert fact in table["note"][0]
    other = collecting.collect_costs(FIT, FIT, PREDICT, damaged, cells=CELLS)
    assert other["status"].tolist() == ["ok", "failed"]
    assert "record of the prediction" in other["note"][1] and "category bolt" in other["note"][1]


def test_versions_that_are_none_are_left_out() -> None:
    table = collecting.collect_costs(FIT | {"versions": None}, FIT, PREDICT, PREDICT, cells=CELLS)
    assert table["libraries"].tolist()[1] == "torch 2" and table["libraries"][0] == ""
    assert set(table["status"]) == {"ok"}


@pytest.mark.parametrize("lacking", ["value", "status", "group", "test_set_kind"])
def test_metrics_that_lack_a_column_are_a_hole_of_their_cell(lacking: str) -> None:
    damaged = metrics_of("ring").drop(columns=lacking)
    table, groups = collecting.collect_metrics(damaged, metrics_of("bolt"), cells=CELLS)
    assert groups.empty
    (hole,) = failures_table(table).to_dict("records")
    assert (hole["category"], hole["status"], hole["metrics"]) == ("ring", "failed", "all")
    assert f"no {lacking} in it" in hole["reason"] and "category ring" in hole["reason"]
    assert table.loc[table["category"] == "bolt", "value"].tolist() == [0.5] * 9


@pytest.mark.parametrize(
    ("collect", "whole", "column"),
    [
        (collecting.collect_scores, SCORES, "pred_score"),
        (collecting.collect_training_log, LOG, "epoch"),
        (collecting.collect_drift_counts, COUNTS, "images"),
    ],
)
def test_a_damaged_table_is_left_out_and_said(
    collect: Callable[..., pd.DataFrame], whole: pd.DataFrame, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = collect(whole.drop(columns=column), whole, cells=CELLS)
    assert table["category"].tolist() == ["bolt"] and table[column].tolist() == whole[column].tolist()
    assert "category ring" in caplog.text and "category bolt" not in caplog.text
    assert f"no {column} in it" in caplog.text


def test_a_damaged_summary_of_images_leaves_the_names_of_its_category() -> None:
    table = collecting.collect_categories(CATEGORY.drop(columns="category"), CATEGORY, cells=CELLS)
    assert table["category"].tolist() == ["ring", "bolt"] and table["test_good"].isna().tolist() == [True, False]
    assert set(table) == {"dataset", "category", "image_size", "test_good"}


def test_an_outdated_result_is_no_number_and_says_why() -> None:
    table, _ = collecting.collect_metrics(OUTDATED, metrics_of("bolt"), cells=CELLS)
    assert table.loc[table["category"] == "ring", "value"].isna().all()
    line = dataset_table(table).iloc[0]
    assert math.isnan(line["image_auroc"]) and line["status"] == "incomplete"
    assert line["missing"] == "parts/ring, seed 1: outdated"
    (hole,) = failures_table(table).to_dict("records")
    assert (hole["status"], hole["reason"]) == ("outdated", OUTDATED.reason)
    assert count_cells(table, failures_table(table))._asdict() == {
        "planned": 2,
        "finished": 1,
        "failed": 0,
        "outdated": 1,
        "missing": 0,
    }
    costs = collecting.collect_costs(OUTDATED, FIT, OUTDATED, PREDICT, cells=CELLS)
    assert costs[["status", "note"]].to_numpy().tolist() == [["outdated", OUTDATED.reason], ["ok", ""]]
    assert costs["fit_seconds"].isna().tolist() == [True, False]
    assert collecting.collect_scores(OUTDATED, SCORES, cells=CELLS)["category"].tolist() == ["bolt"]
