"""Aggregation against numbers worked by hand (protocol 3)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shopfloor.experiments.noisy_labels import make_noise_table
from shopfloor.report.tables.comparison import MEAN_OVER_DATASETS
from shopfloor.report.tables.value_tables import (
    category_table,
    cost_table,
    count_cells,
    dataset_table,
    display_cells,
    failures_table,
    mean_table,
    unavailable_table,
)
from tests.report.conftest import make_run, value_rows


def two_datasets(**changed):
    """Dataset a with two categories and masks, b with one and none, detector d, seeds 1 and 2."""
    values = {
        ("a", "x", 1, "image_auroc"): 0.90,
        ("a", "x", 2, "image_auroc"): 0.80,
        ("a", "y", 1, "image_auroc"): 0.70,
        ("a", "y", 2, "image_auroc"): 0.50,
        ("b", "z", 1, "image_auroc"): 0.40,
        ("b", "z", 2, "image_auroc"): 0.60,
        ("a", "x", 1, "pixel_aupro"): 0.50,
        ("a", "x", 2, "pixel_aupro"): 0.50,
        ("a", "y", 1, "pixel_aupro"): 0.30,
        ("a", "y", 2, "pixel_aupro"): 0.10,
        ("b", "z", 1, "pixel_aupro"): "not_available",
        ("b", "z", 2, "pixel_aupro"): "not_available",
    } | changed.get("values", {})
    return value_rows([(d, c, "d", seed, metric, value) for (d, c, seed, metric), value in values.items()])


def test_category_value_is_the_mean_over_seeds_with_their_standard_deviation():
    table = category_table(two_datasets()).set_index("category")
    assert table.loc["x", "image_auroc"] == pytest.approx(0.85)
    assert table.loc["x", "image_auroc_sd"] == pytest.approx(0.1 / np.sqrt(2))
    assert table.loc["x", "seeds"] == 2
    assert list(table["status"]) == ["ok", "ok", "ok"]
    assert table.loc["z", "not_available"] == "pixel_aupro"


def test_standard_deviation_of_a_dataset_is_that_of_its_means_per_seed():
    line = dataset_table(two_datasets()).set_index("dataset").loc["a"]
    # seed 1: (0.9 + 0.7) / 2 = 0.8; seed 2: (0.8 + 0.5) / 2 = 0.65
    assert line["image_auroc"] == pytest.approx(0.725)
    assert line["image_auroc_sd"] == pytest.approx(0.15 / np.sqrt(2))
    assert line["categories"] == 2


def test_each_dataset_counts_once_and_one_without_masks_is_left_out_of_pixel_means():
    line = mean_table(two_datasets()).iloc[0]
    assert line["image_auroc"] == pytest.approx((0.725 + 0.5) / 2)
    assert line["image_auroc"] != pytest.approx((0.85 + 0.60 + 0.50) / 3)  # the mean over categories
    assert line["pixel_aupro"] == pytest.approx(0.35)
    assert (line["datasets"], line["datasets_pixel"]) == (2, 1)
    assert line["status"] == "ok"


@pytest.mark.parametrize("hole", ["failed", "outdated", "missing"])
def test_a_hole_is_no_number_and_is_named_up_to_the_mean(hole):
    metrics = two_datasets(values={("a", "y", 2, "image_auroc"): hole, ("a", "y", 2, "pixel_aupro"): hole})
    for table in (category_table(metrics), dataset_table(metrics), mean_table(metrics)):
        line = table[table["missing"] != ""].iloc[0]
        assert np.isnan(line["image_auroc"])
        assert np.isnan(line["image_auroc_sd"])
        assert line["missing"] == f"a/y, seed 2: {hole}"
        assert line["status"] == "incomplete"
    assert dataset_table(metrics).set_index("dataset").loc["b", "image_auroc"] == pytest.approx(0.5)


def test_rows_that_are_absent_are_missing_too():
    metrics = two_datasets()
    metrics = metrics[~((metrics["category"] == "y") & (metrics["seed"] == 2))]
    assert category_table(metrics).set_index("category").loc["y", "missing"] == "a/y, seed 2: missing"
    assert np.isnan(dataset_table(metrics).set_index("dataset").loc["a"]["image_auroc"])
    other = value_rows([("a", "x", "other", seed, "image_auroc", 0.9) for seed in (1, 2)])
    line = mean_table(pd.concat([two_datasets(), other])).set_index("detector").loc["other"]
    assert np.isnan(line["image_auroc"])
    assert "b/z, seed 1: missing" in line["missing"]


def test_an_ok_value_that_is_no_number_counts_as_missing():
    table = category_table(value_rows([("a", "x", "d", 1, "image_auroc", float("nan"))]))
    assert table.loc[0, "status"] == "missing"


def test_a_category_without_the_metric_makes_the_mean_of_its_dataset_incomplete():
    metrics = two_datasets(
        values={("a", "y", 1, "pixel_aupro"): "not_available", ("a", "y", 2, "pixel_aupro"): "not_available"}
    )
    line = dataset_table(metrics).set_index("dataset").loc["a"]
    assert np.isnan(line["pixel_aupro"])
    assert "a/y, seed 1: pixel_aupro not available" in line["missing"]
    assert line["image_auroc"] == pytest.approx(0.725)
    assert np.isnan(mean_table(metrics).iloc[0]["pixel_aupro"])


def test_a_detector_without_maps_has_no_pixel_mean_and_no_hole():
    others = value_rows(
        [("a", category, "no_maps", seed, "pixel_aupro", "not_available") for category in "xy" for seed in (1, 2)]
        + [("a", category, "no_maps", seed, "image_auroc", 0.5) for category in "xy" for seed in (1, 2)]
        + [("b", "z", "no_maps", seed, "pixel_aupro", "not_available") for seed in (1, 2)]
        + [("b", "z", "no_maps", seed, "image_auroc", 0.5) for seed in (1, 2)]
    )
    line = mean_table(pd.concat([two_datasets(), others])).set_index("detector").loc["no_maps"]
    assert np.isnan(line["pixel_aupro"])
    assert line["not_available"] == "pixel_aupro"
    assert (line["status"], line["missing"]) == ("ok", "")
    assert line["image_auroc"] == pytest.approx(0.5)


def test_a_failed_run_of_a_dataset_without_masks_does_not_touch_the_pixel_mean():
    metrics = two_datasets(values={("b", "z", 2, "image_auroc"): "failed", ("b", "z", 2, "pixel_aupro"): "failed"})
    line = mean_table(metrics).iloc[0]
    assert line["pixel_aupro"] == pytest.approx(0.35)
    assert np.isnan(line["image_auroc"])


def test_when_everything_failed_nothing_is_not_available():
    table = mean_table(value_rows([("a", "x", "d", 1, "pixel_aupro", "failed")]))
    assert (table.loc[0, "status"], table.loc[0, "not_available"]) == ("failed", "")


def test_two_values_for_one_run_are_refused():
    metrics = two_datasets()
    with pytest.raises(ValueError, match="Two values for the same run"):
        category_table(pd.concat([metrics, metrics.iloc[:1]]))


def noisy_metrics():
    def rows(value, **same):
        seed = same.pop("seed")
        return value_rows([("a", "x", "d", seed, "image_auroc", value)], **same)

    parts = [rows(0.9, seed=1)]
    parts += [rows(value, seed=1, test_set=f"common_{k}") for k, value in ((1, 0.95), (2, 0.85))]
    for level, values in {"noise_4": (0.8, 0.7), "noise_16": (0.6, 0.5)}.items():
        for seed, value in zip((1, 2), values, strict=True):
            parts.append(rows(value, seed=seed, condition=level))
            parts.append(rows(value - 0.05, seed=seed, condition=level, test_set=f"common_{seed}"))
    return pd.concat(parts, ignore_index=True)


def test_noise_table_holds_own_and_common_test_set():
    table = make_noise_table(noisy_metrics())
    expected = {
        "clean": 0.9,
        "noise_4": 0.75,
        "noise_16": 0.55,
        "clean_same_test": 0.9,  # one clean model, on the common test sets of both seeds
        "noise_4_same_test": 0.70,
        "noise_16_same_test": 0.50,
    }
    assert len(table) == 1
    assert {name: table.loc[0, name] for name in expected} == pytest.approx(expected)
    assert table.loc[0, "clean_same_test_sd"] == pytest.approx(0.1 / np.sqrt(2))
    assert np.isnan(table["clean_sd"].iloc[0])  # one seed has no spread
    assert table.loc[0, "status"] == "ok"


def test_noise_table_names_the_level_that_lacks_a_seed():
    metrics = noisy_metrics()
    lost = (metrics["condition"] == "noise_16") & (metrics["seed"] == 2)
    metrics.loc[lost, ["value", "status"]] = [np.nan, "failed"]
    line = make_noise_table(metrics).iloc[0]
    assert np.isnan(line["noise_16"])
    assert line["noise_4"] == pytest.approx(0.75)
    assert line["missing"].startswith("noise_16: a/x, seed 2: failed")


def test_noise_table_is_empty_without_noise_and_has_a_mean_with_two_datasets(evaluation_run, noisy_run):
    assert make_noise_table(evaluation_run.metrics).empty
    table = make_noise_table(noisy_run.metrics)
    assert list(table["dataset"].unique()) == ["solar_cells", "machined_parts", MEAN_OVER_DATASETS]
    of_patchcore = table[(table["metric"] == "image_pb2") & (table["detector"] == "patchcore")].set_index("dataset")
    parts = of_patchcore.loc[["solar_cells", "machined_parts"], "noise_8"]
    assert of_patchcore.loc[MEAN_OVER_DATASETS, "noise_8"] == pytest.approx(parts.mean())
    pixel = table[(table["metric"] == "pixel_aupro") & (table["detector"] == "patchcore")].set_index("dataset")
    assert pixel["noise_8"][MEAN_OVER_DATASETS] == pixel["noise_8"]["machined_parts"]


def test_failures_and_counts():
    holes = {
        ("a", "x", 1, "image_auroc"): "missing",
        ("a", "y", 1, "image_auroc"): "outdated",
        ("b", "z", 2, "image_auroc"): "failed",
        ("b", "z", 2, "pixel_aupro"): "outdated",
    }
    metrics = two_datasets(values=holes)
    table = failures_table(metrics)
    assert list(table["status"]) == ["failed", "outdated", "missing"], "the gravest first, also of one run"
    assert list(table["reason"]) == ["out of memory; other inputs", "other inputs", ""]
    assert list(table["metrics"]) == ["all", "image_auroc", "image_auroc"]
    assert count_cells(metrics, failures_table(metrics)) == (6, 3, 1, 1, 1)


def test_unavailable_names_reason_once(evaluation_run):
    table = unavailable_table(evaluation_run.metrics)
    assert len(table) == 1
    assert table.loc[0, "metrics"] == "pixel_auroc pixel_aupro pixel_f1max"
    assert table.loc[0, "reason"] == "the dataset has image labels only"


def test_costs_are_medians_over_finished_runs_and_count_them():
    costs = make_run(with_noise=False).costs
    table = cost_table(costs).set_index(["dataset", "detector"])
    counts = table[["cells", "finished"]].to_dict("index")
    assert counts[("solar_cells", "student_teacher")] == {"cells": 2, "finished": 1}
    two = costs[(costs["dataset"] == "solar_cells") & (costs["detector"] == "patchcore")]["fit_seconds"]
    assert table.loc[("solar_cells", "patchcore"), "fit_seconds"] == pytest.approx(np.median(two))


def shown(values, column="image_auroc"):
    """Text and bold of (dataset, detector, value) lines."""
    rows = value_rows([(dataset, "x", detector, 1, column, value) for dataset, detector, value in values])
    table = category_table(rows)
    cells = display_cells(table, [column])
    return {
        (line["dataset"], line["detector"]): (cell[column].text, cell[column].best)
        for line, cell in zip(table.to_dict("records"), cells, strict=True)
    }


def test_bold_marks_all_ties_as_printed_and_never_across_datasets():
    found = shown([("a", "p", 0.9432), ("a", "q", 0.9428), ("a", "r", 0.93), ("b", "p", 0.5), ("b", "q", 0.4)])
    assert found == {
        ("a", "p"): ("94.3", True),
        ("a", "q"): ("94.3", True),
        ("a", "r"): ("93.0", False),
        ("b", "p"): ("50.0", True),
        ("b", "q"): ("40.0", False),
    }


def test_holes_are_words_and_a_lone_value_is_not_bold():
    holes = [("a", "q", "failed"), ("a", "r", "missing"), ("a", "s", "outdated"), ("b", "p", "not_available")]
    assert shown([("a", "p", 0.0), *holes]) == {
        ("a", "p"): ("0.0", False),
        ("a", "q"): ("✗ failed", False),
        ("a", "r"): ("missing", False),
        ("a", "s"): ("outdated", False),
        ("b", "p"): ("–", False),
    }


def test_conditions_and_sizes_do_not_compete():
    rows = pd.concat(
        [
            value_rows([("a", "x", "p", 1, "image_auroc", 0.9), ("a", "x", "q", 1, "image_auroc", 0.8)]),
            value_rows([("a", "x", "p", 1, "image_auroc", 0.5)], image_size=512),
            value_rows([("a", "x", "q", 1, "image_auroc", 0.7)], image_size=512),
        ]
    )
    cells = [line["image_auroc"] for line in display_cells(category_table(rows), ["image_auroc"])]
    assert [cell.text for cell in cells if cell.best] == ["90.0", "70.0"]


def test_spread_is_shown_in_points():
    line = display_cells(category_table(two_datasets()), ["image_auroc"])[0]["image_auroc"]
    assert (line.text, line.spread) == ("85.0", "± 7.1")


def test_tables_survive_csv(tmp_path):
    table = dataset_table(two_datasets(values={("a", "y", 2, "image_auroc"): "failed"}))
    table.to_csv(tmp_path / "table.csv", index=False)
    again = pd.read_csv(tmp_path / "table.csv")
    columns = ["image_auroc", "pixel_aupro"]
    assert display_cells(again, columns) == display_cells(table, columns)


def test_tables_of_no_runs_are_empty(evaluation_run):
    nothing = evaluation_run.metrics.iloc[:0]
    for function in (category_table, dataset_table, mean_table, make_noise_table, failures_table, unavailable_table):
        assert function(nothing).empty
