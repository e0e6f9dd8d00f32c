"""Conditions side by side, against numbers worked by hand (protocol 4.2 to 4.4 and 4.7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopfloor.experiments.data_drift import draw_drift_figure, make_drift_tables
from shopfloor.experiments.data_drift import sections as drift_sections
from shopfloor.experiments.input_size import draw_size_figure, make_size_table
from shopfloor.experiments.validation import make_stopping_table
from shopfloor.report.figures.style import is_empty
from shopfloor.report.page.pictures import PagePictures
from shopfloor.report.page.report import render_page
from shopfloor.report.tables.comparison import MEAN_OVER_DATASETS
from shopfloor.report.tables.value_tables import dataset_table
from tests.report.conftest import FakeRun, summary_of, tables_of, value_rows, with_kinds


def metrics_of(values: dict[tuple[str, str, str], float | str], **same: object) -> pd.DataFrame:
    """Image AUROC of (dataset, category, detector), the rest the same for all."""
    return value_rows([(*names, 3341, "image_auroc", value) for names, value in values.items()], **same)


SIZES = pd.concat(
    [
        metrics_of({("a", "x", "d"): 0.6, ("a", "y", "d"): 0.8, ("b", "z", "d"): 0.9}, image_size=128),
        metrics_of({("a", "x", "d"): 0.7, ("a", "y", "d"): 0.9, ("b", "z", "d"): 1.0}, image_size=256),
    ]
)


def drifting() -> pd.DataFrame:
    """One training, measured as it is and under two drift seeds; dataset b has no drift."""
    return pd.concat(
        [
            metrics_of({("a", "x", "d"): 0.9, ("b", "z", "d"): 0.8}),
            metrics_of({("a", "x", "d"): 0.7}, test_set="drift_3341"),
            metrics_of({("a", "x", "d"): 0.5}, test_set="drift_1954"),
        ],
        ignore_index=True,
    )


def test_sizes_stand_side_by_side_and_each_dataset_counts_once() -> None:
    table: Any = make_size_table(SIZES).set_index("dataset")
    assert table.loc["a", ["128", "256"]].tolist() == pytest.approx([0.7, 0.8])
    assert table.loc[MEAN_OVER_DATASETS, ["128", "256"]].tolist() == pytest.approx([0.8, 0.9])
    assert "image_size" not in table, "it is what the columns differ in"
    assert make_size_table(SIZES[SIZES["image_size"] == 128]).empty


def test_a_size_that_lacks_a_category_is_a_hole_with_its_reason() -> None:
    lost: Any = SIZES.reset_index(drop=True)
    lost.loc[1, ["value", "status", "note"]] = [np.nan, "failed", "out of memory"]
    line: Any = make_size_table(lost).set_index("dataset").loc["a"]
    assert np.isnan(line["128"]) and line["256"] == pytest.approx(0.8)
    assert line["missing"].startswith("128: a/y, seed 3341: failed")


def test_an_outdated_part_is_a_hole_of_its_size() -> None:
    lost: Any = SIZES.reset_index(drop=True)
    lost.loc[lost["image_size"] == 128, ["value", "status", "note"]] = [np.nan, "outdated", "other images"]
    line: Any = make_size_table(lost).set_index("dataset").loc["a"]
    assert np.isnan(line["128"]) and line["256"] == pytest.approx(0.8)
    assert line["status"] == "outdated"
    assert line["missing"] == "128: a/x, seed 3341: outdated; a/y, seed 3341: outdated"


def test_drift_is_the_mean_over_its_seeds_on_datasets_that_drift() -> None:
    table: Any = make_drift_tables(drifting())[0]
    assert table["dataset"].tolist() == ["a"], "b does not drift"
    assert table.loc[0, ["no_drift", "drift"]].tolist() == pytest.approx([0.9, 0.6])
    assert table.loc[0, "drift_sd"] == pytest.approx(0.2 / np.sqrt(2))
    assert make_drift_tables(drifting().query("test_set == 'full'"))[0].empty


def test_domains_are_columns() -> None:
    metrics = pd.concat(
        [metrics_of({("a", "x", "d"): 0.9}, test_set="same"), metrics_of({("a", "x", "d"): 0.6}, test_set="shifted")]
    )
    table: Any = make_drift_tables(pd.concat([metrics, drifting()]))[1]
    assert table.loc[0, ["same", "shifted"]].tolist() == pytest.approx([0.9, 0.6])
    assert make_drift_tables(drifting())[1].empty


def stopped() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two rules, two seeds."""
    lines, costs = [], []
    for rule, epochs in (("full_length", [(20, 20), (20, 20)]), ("early_stop", [(12, 2), (16, 6)])):
        for seed, (stopped_epoch, best_epoch) in zip((1, 2), epochs, strict=True):
            value = {"full_length": 0.8, "early_stop": 0.9}[rule] + 0.1 * (seed - 1)
            lines.append(value_rows([("a", "x", "d", seed, "image_auroc", value)], condition=rule))
            names = {"dataset": "a", "category": "x", "detector": "d", "image_size": 256, "condition": rule}
            names["condition_kind"] = "holdout"
            costs.append({**names, "seed": seed, "stopped_epoch": stopped_epoch, "best_epoch": best_epoch})
    return pd.concat(lines, ignore_index=True), pd.DataFrame(costs)


def stopping_table_of(metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    return make_stopping_table(dataset_table(metrics), costs)


def test_rules_of_stopping_have_their_metrics_and_epochs() -> None:
    table: Any = stopping_table_of(*stopped()).set_index("condition")
    assert table["image_auroc"].to_dict() == pytest.approx({"full_length": 0.85, "early_stop": 0.95})
    assert table["stopped_epoch"].to_dict() == {"full_length": 20, "early_stop": 14}
    assert table["best_epoch"].to_dict() == {"full_length": 20, "early_stop": 4}
    metrics, costs = (part.assign(condition_kind="clean") for part in stopped())
    assert stopping_table_of(metrics, costs).empty, "nothing was held out"


def test_epochs_of_a_part_are_no_mean() -> None:
    metrics, costs = stopped()
    costs.loc[3, ["stopped_epoch", "best_epoch"]] = np.nan
    table: Any = stopping_table_of(metrics, costs).set_index("condition")
    assert table.loc["full_length", "stopped_epoch"] == 20
    assert table.loc["early_stop", ["stopped_epoch", "best_epoch"]].isna().all()


def points_of(figure: Any) -> list[Any]:
    """Dataset, place and value of every point of a comparison."""
    spec = figure.to_dict()
    named = [(panel["title"], (panel.get("data") or spec["data"])["name"]) for panel in spec["vconcat"]]
    lines = [(title, line) for title, name in named for line in spec["datasets"][name]]
    return [(title, line["x"], pytest.approx(line["value"])) for title, line in lines]


def test_figures_draw_every_column() -> None:
    first, *_ = draw_size_figure(SIZES, make_size_table(SIZES))
    expected = [("a", 128, 70), ("a", 256, 80), ("b", 128, 90), ("b", 256, 100)]
    assert points_of(first) == [*expected, (MEAN_OVER_DATASETS, 128, 80), (MEAN_OVER_DATASETS, 256, 90)]
    first, *others = draw_drift_figure(drifting(), make_drift_tables(drifting())[0])
    assert points_of(first) == [("a", 0, 90), ("a", 1, 60)]
    assert len(others) == 3 and all(map(is_empty, others)), "only image AUROC was measured"


def test_the_page_shows_drift_with_its_counts_and_gallery(evaluation_run: FakeRun) -> None:
    from PIL import Image

    run: Any = evaluation_run
    full = run.metrics[run.metrics["test_set"] == "full"]
    drifted = full.assign(test_set="drift_3341", value=full["value"] - 0.1)
    metrics = pd.concat([full, with_kinds(drifted)], ignore_index=True)
    counts = pd.DataFrame({"dataset": ["odd<name"], "transform": ["rotation"], "images": [7], "emptied": [1]})
    pictures = PagePictures({}, galleries={"odd<name · x": Image.new("RGB", (40, 30))})
    costs = run.costs.assign(stopped_epoch=np.nan, best_epoch=np.nan)
    tables = tables_of(metrics, costs, "data_drift", drift_counts=counts, categories=run.categories)
    plan = run.plan | {"experiment": "data_drift"}
    page = render_page(plan, summary_of(plan, tables), tables, drift_sections(tables), {}, {}, pictures, [])
    assert 'id="drift"' in page and "Drawn transforms" in page and "rotation" in page
    assert "odd&lt;name · x" in page and "odd<name" not in page
    assert 'id="sizes"' not in page and 'id="stopping"' not in page
