"""Intervals against slow resampling by hand; means, pairs and holes against worked cases."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from shopfloor.metrics import image_metrics
from shopfloor.planning.report_settings import BootstrapSettings
from shopfloor.report.page.headline import certainty
from shopfloor.report.statistics.uncertainty import certainty_tables, leader
from shopfloor.report.tables.baseline import rows_of
from tests.report.conftest import value_rows, with_kinds

SETTINGS = BootstrapSettings.model_validate({"resamples": 300, "level": 0.95, "seed": 3341})
NAMES = ["image_auroc", "image_f1max", "image_pg2", "image_pb2", "image_pg2_strict", "image_pb2_strict"]


def cell(detector, category="x", dataset="a", n_good=40, n_bad=30, shift=1.5, noise=0.0, **changed):
    """Scores of one cell: a part that belongs to the images, and with ``noise`` one of the detector's own."""
    of_images = np.random.default_rng([len(category), ord(category[0]), ord(dataset[0])])
    of_detector = np.random.default_rng([ord(letter) for letter in detector + category + dataset])
    is_bad = np.repeat([False, True], [n_good, n_bad])
    scores = of_images.normal(is_bad * shift, 1.0) + noise * of_detector.normal(size=len(is_bad))
    names = {"dataset": dataset, "category": category, "detector": detector, "image_size": 256, "condition": "clean"}
    table = pd.DataFrame(
        {
            **names, "seed": 1, "test_set": "full", "image": [f"{place:03d}.png" for place in range(len(is_bad))],
            "label": np.where(is_bad, "bad", "good"), "defect_type": np.where(is_bad, "crack", ""),
            "pred_score": scores, **changed,
        }
    )  # fmt: skip
    return with_kinds(table)


def together(*cells):
    return pd.concat(cells, ignore_index=True)


def three_categories(detector, noise, **changed):
    places = (("x", "a"), ("yy", "a"), ("z", "b"))
    return together(*(cell(detector, category, dataset, noise=noise, **changed) for category, dataset in places))


def values_of(lines):
    return image_metrics(lines["pred_score"].to_numpy(), (lines["label"] == "bad").to_numpy())


def test_one_line_per_cell_and_metric_with_the_value_of_the_metrics_table():
    scores = together(cell("p"), cell("q", noise=1.0), cell("p", condition="noise_4", n_bad=20, seed=7))
    table = certainty_tables(scores, SETTINGS)[0]
    assert len(table) == 3 * len(NAMES)
    for key, lines in scores.groupby(["detector", "condition", "seed"]):
        own = rows_of(table, dict(zip(["detector", "condition", "seed"], key, strict=True)))
        assert list(own["metric"]) == NAMES
        assert dict(zip(own["metric"], own["value"], strict=True)) == values_of(lines)
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert table.loc[table["metric"] == "image_auroc", "low"].max() < 1


def test_interval_is_that_of_slow_resampling():
    scores = cell("p", n_good=60, n_bad=50)
    good, bad = (scores.loc[scores["label"] == label, "pred_score"].to_numpy() for label in ("good", "bad"))
    generator = np.random.default_rng(0)
    is_bad = np.repeat([False, True], [60, 50])
    slow = pd.DataFrame(
        [
            image_metrics(np.concatenate([generator.choice(good, 60), generator.choice(bad, 50)]), is_bad)
            for _ in range(1500)
        ]
    )
    table = certainty_tables(scores, SETTINGS.model_copy(update={"resamples": 4000, "level": 0.8}))[0].set_index(
        "metric"
    )
    for name in ("image_auroc", "image_f1max", "image_pg2", "image_pb2"):
        expected = slow[name].quantile([0.1, 0.9])
        assert [*table.loc[name, ["low", "high"]]] == pytest.approx([*expected], abs=0.25 * np.ptp(expected) + 1e-9)


def test_neither_the_order_of_lines_nor_other_detectors_change_anything():
    scores = together(three_categories("p", 0.3), three_categories("q", 0.6), three_categories("r", 0.9))
    tables = certainty_tables(scores, SETTINGS)
    shuffled = certainty_tables(scores.sample(frac=1, random_state=2), SETTINGS)
    for table, other in zip(tables, shuffled, strict=True):
        pd.testing.assert_frame_equal(table, other, check_exact=True)
    without_r = certainty_tables(scores[scores["detector"] != "r"], SETTINGS)
    for table, other in zip(tables, without_r, strict=True):
        is_there = ~(table.filter(like="detector") == "r").any(axis=1)
        pd.testing.assert_frame_equal(table[is_there].reset_index(drop=True), other)
    other_seed = certainty_tables(scores, SETTINGS.model_copy(update={"seed": 1}))[0]
    pd.testing.assert_series_equal(tables[0]["value"], other_seed["value"])
    assert (tables[0]["low"] != other_seed["low"]).any()


def test_a_mean_counts_every_dataset_once_and_a_difference_is_one_of_means():
    scores = together(three_categories("p", 0.3), three_categories("q", 1.5))
    _, means, pairs = certainty_tables(scores, SETTINGS)
    expected = {}
    for detector, lines in scores.groupby("detector"):
        of = {category: values_of(part)["image_pg2"] for category, part in lines.groupby("category")}
        expected[detector] = ((of["x"] + of["yy"]) / 2 + of["z"]) / 2
    found = means[means["metric"] == "image_pg2"].set_index("detector")["value"]
    assert found.to_dict() == pytest.approx(expected, abs=1e-15)
    pair = pairs[pairs["metric"] == "image_pg2"].iloc[0]
    assert (pair["detector_a"], pair["detector_b"]) == ("p", "q")
    assert pair["difference"] == pytest.approx(expected["p"] - expected["q"], abs=1e-15)
    assert (pairs["inside_noise"] == ((pairs["low"] <= 0) & (pairs["high"] >= 0))).all()
    assert list(pairs.columns) == [
        "metric", "image_size", "detector_a", "detector_b", "difference", "low", "high", "inside_noise"
    ]  # fmt: skip


def test_an_interval_of_a_mean_is_narrower_than_those_of_its_categories():
    """Four independent categories of one dataset: half the width (the images of each are drawn for themselves)."""
    scores = together(*(cell("p", category, n_good=100, n_bad=100) for category in ("x", "yy", "z", "www")))
    single, means, _ = certainty_tables(scores, SETTINGS.model_copy(update={"resamples": 2000}))
    widths = [
        table.assign(width=table["high"] - table["low"]).set_index("metric")["width"] for table in (single, means)
    ]
    of_parts = widths[0].loc["image_auroc"].to_numpy()
    assert widths[1]["image_auroc"] == pytest.approx(np.sqrt((of_parts**2).sum()) / 4, rel=0.1)


def test_categories_are_drawn_for_themselves():
    """Two categories with the same scores: each has its own draws, so the mean is surer than either."""
    single, means, _ = certainty_tables(together(cell("p"), cell("p").assign(category="other")), SETTINGS)
    widths = [(table["high"] - table["low"])[table["metric"] == "image_auroc"].iloc[0] for table in (single, means)]
    assert widths[1] == pytest.approx(widths[0] / np.sqrt(2), rel=0.15)


def test_the_value_itself_is_no_resample():
    line = certainty_tables(cell("p"), SETTINGS.model_copy(update={"resamples": 1}))[0].iloc[0]
    assert line["low"] == line["high"] != line["value"]


def test_detectors_are_given_the_same_draws():
    """The same scores in another unit differ by exactly 0 in every resample; nearly the same ones by very little."""
    same = together(cell("p"), cell("q").assign(pred_score=lambda lines: 10 * lines["pred_score"] - 3))
    pairs = certainty_tables(same, SETTINGS)[2]
    assert (pairs[["difference", "low", "high"]] == 0).all(axis=None)
    assert pairs["inside_noise"].all()
    single, _, near = certainty_tables(together(cell("p"), cell("q", noise=0.1)), SETTINGS)
    widths = [(table["high"] - table["low"])[table["metric"] == "image_auroc"].iloc[0] for table in (single, near)]
    assert widths[1] < 0.3 * widths[0]


def test_a_clear_difference_is_outside_the_noise():
    pairs = certainty_tables(together(cell("p", shift=3.0), cell("q", shift=0.3, noise=2.0)), SETTINGS)[2]
    line = pairs[pairs["metric"] == "image_auroc"].iloc[0]
    assert line["low"] > 0 and not line["inside_noise"]


def test_an_incomplete_detector_is_left_out_and_named():
    lacking = three_categories("q", 0.6)
    lacking = lacking[lacking["category"] != "yy"]
    _, means, pairs = certainty_tables(together(three_categories("p", 0.3), lacking), SETTINGS)
    assert pairs.empty
    of_q = means[means["detector"] == "q"]
    assert of_q[["value", "low", "high"]].isna().all(axis=None)
    assert set(of_q["missing"]) == {"a/yy, seed 1"}
    assert (means.loc[means["detector"] == "p", "missing"] == "").all()


def test_an_undefined_cell_is_no_number_and_makes_its_detector_incomplete():
    broken = three_categories("q", 0.6)
    broken.loc[broken.index[broken["category"] == "z"][0], "pred_score"] = np.nan
    single, means, pairs = certainty_tables(together(three_categories("p", 0.3), broken), SETTINGS)
    line = single[(single["detector"] == "q") & (single["category"] == "z")].iloc[0]
    assert np.isnan(line["value"]) and "NaN or infinite" in line["note"]
    assert set(means.loc[means["detector"] == "q", "missing"]) == {"b/z, seed 1"}
    assert pairs.empty


def test_a_dataset_without_good_images_is_left_out_of_all_means():
    """It cannot have the metrics (protocol 3.3), as in the table of means."""
    only_bad = together(*(cell(detector, "v", "c", n_good=0) for detector in "pq"))
    whole = together(three_categories("p", 0.3), three_categories("q", 0.6))
    _, means, pairs = certainty_tables(together(whole, only_bad), SETTINGS)
    _, expected_means, expected_pairs = certainty_tables(whole, SETTINGS)
    pd.testing.assert_frame_equal(means, expected_means)
    pd.testing.assert_frame_equal(pairs, expected_pairs)


def test_cells_that_have_no_scores_are_known_from_the_metrics_table():
    planned = value_rows(
        [(dataset, category, detector, 1, "image_auroc", 0.5 if category != "w" else "failed")
         for detector in "pq" for dataset, category in (("a", "x"), ("a", "yy"), ("b", "z"), ("b", "w"))]
    )  # fmt: skip
    scores = together(three_categories("p", 0.3), three_categories("q", 0.6))
    _, means, pairs = certainty_tables(scores, SETTINGS, planned)
    assert set(means["missing"]) == {"b/w, seed 1"}
    assert pairs.empty
    # Scores of a dataset that is measured by domain stand under the full test set, which has no value there.
    domains = cell("p", "part", "domains")
    single, means, _ = certainty_tables(together(scores, domains), SETTINGS, planned[planned["category"] != "w"])
    assert "domains" not in set(single["dataset"])
    assert (means["missing"] == "").all()


def test_groups_that_are_measured_apart_have_the_mean_of_their_values():
    scores = cell("p", "box", "loco", n_bad=40)
    scores.loc[40:59, "defect_type"] = "logical"
    scores.loc[60:, "defect_type"] = "structural"
    scores.loc[60:, "pred_score"] += 2
    groups = pd.DataFrame({"dataset": "loco", "test_set_kind": ["full"] * 2, "group": ["structural", "logical"]})
    table = certainty_tables(scores, SETTINGS)[0].set_index("metric")
    apart = certainty_tables(scores, SETTINGS, group_metrics=groups)[0].set_index("metric")
    is_good = scores["label"] == "good"
    parts = [values_of(scores[is_good | (scores["defect_type"] == name)]) for name in ("logical", "structural")]
    assert apart["value"].to_dict() == pytest.approx({name: (parts[0][name] + parts[1][name]) / 2 for name in NAMES})
    assert apart["value"]["image_pg2"] != pytest.approx(table["value"]["image_pg2"])
    assert (apart["low"] <= apart["value"]).all() and (apart["value"] <= apart["high"]).all()
    assert (apart["low"] < apart["high"])["image_auroc"]


def test_seeds_are_averaged_on_the_same_draws():
    """A second training with the same scores changes nothing: its images are no new ones."""
    once = together(cell("p"), cell("q", noise=1.0))
    twice = together(once, once.assign(seed=2))
    for one, two in zip(certainty_tables(once, SETTINGS)[1:], certainty_tables(twice, SETTINGS)[1:], strict=True):
        pd.testing.assert_frame_equal(one, two)


def test_seeds_with_different_test_images_are_paired_detector_by_detector():
    scores = together(
        *(cell(name, noise=noise, n_good=500, n_bad=60, seed=seed).drop(index=range(500, 500 + 3 * seed))
          for name, noise in (("p", 0.0), ("q", 0.1)) for seed in (1, 2, 3))
    )  # fmt: skip
    single, means, pairs = certainty_tables(scores, SETTINGS)
    assert (means["missing"] == "").all()
    width = {
        name: (table["high"] - table["low"])[table["metric"] == "image_auroc"].iloc[0]
        for name, table in (("cell", single), ("mean", means), ("pair", pairs))
    }
    assert width["mean"] > 0.85 * width["cell"]  # nearly the same images: three seeds are no three test sets
    assert width["pair"] < 0.4 * width["cell"]


def test_different_images_cannot_be_compared():
    with pytest.raises(
        ValueError, match="p and q were not tested on the same images of a/x, 256 px, seed 1.*'070.png'"
    ):
        certainty_tables(together(cell("p"), cell("q", n_bad=31)), SETTINGS)
    swapped = cell("q")
    swapped.loc[3, "label"] = "bad"
    with pytest.raises(ValueError, match="'003.png'"):
        certainty_tables(together(cell("p"), swapped), SETTINGS)
    with pytest.raises(ValueError, match="Two scores of the same image"):
        certainty_tables(together(cell("p"), cell("p").iloc[:1]), SETTINGS)


def test_only_the_baseline_is_compared():
    noisy = together(cell("p", condition="noise_4", n_bad=25), cell("q", condition="noise_4", n_bad=26))
    drifted = together(cell("p", test_set="drift_1", shift=0), cell("q", test_set="drift_1", shift=0))
    clean = together(cell("p"), cell("q", noise=1.0))
    _, means, pairs = certainty_tables(together(noisy, drifted, clean), SETTINGS)
    _, expected_means, expected_pairs = certainty_tables(clean, SETTINGS)
    pd.testing.assert_frame_equal(means, expected_means)
    pd.testing.assert_frame_equal(pairs, expected_pairs)


def test_image_sizes_are_compared_apart():
    scores = together(cell("p"), cell("q", noise=1.0), cell("p", image_size=128), cell("q", noise=1.0, image_size=128))
    pairs = certainty_tables(scores, SETTINGS)[2]
    assert list(pairs.loc[pairs["metric"] == "image_auroc", "image_size"]) == [128, 256]


def test_leader_and_those_inside_its_noise():
    scores = together(cell("p", noise=0.1), cell("q", noise=0.11), cell("r", shift=0.1, noise=4.0))
    scores = together(scores, cell("p", "yy"), cell("q", "yy"), cell("r", "yy", shift=0.1, noise=4.0), cell("s", "yy"))
    _, means, pairs = certainty_tables(scores, SETTINGS)
    found = leader(means, pairs, "image_auroc", 256)
    assert found is not None
    assert {found.detector, *found.inside_noise} == {"p", "q"}
    assert (found.behind, found.incomplete) == (["r"], ["s"])
    assert found.low < found.value < found.high
    assert leader(means, pairs, "image_auroc", 128) is None
    assert "inside the noise" in certainty(means, pairs)  # the page's sentence reads the same tables


def test_no_scores_are_empty_tables():
    for table in certainty_tables(cell("p").iloc[:0], SETTINGS):
        assert table.empty
    planned = value_rows([("a", "x", "p", 1, "image_auroc", "failed")])
    _, means, _ = certainty_tables(cell("p").iloc[:0], SETTINGS, planned)
    assert set(means["missing"]) == {"a/x, seed 1"}


def test_long_grids_say_how_far_they_are(caplog):
    scores = together(*(cell("p", seed=seed, n_good=3, n_bad=3) for seed in range(101)))
    with caplog.at_level(logging.INFO, logger="shopfloor.report.statistics.uncertainty"):
        certainty_tables(scores, SETTINGS.model_copy(update={"resamples": 2}))
    assert [record.getMessage() for record in caplog.records] == [
        "Intervals of 100 of 101 cells are there.", "Intervals of 101 of 101 cells are there."
    ]  # fmt: skip
