"""The alarm on scores without drift, with a shift, and with a slow repetition by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from shopfloor.planning.report_settings import DriftAlarmSettings
from shopfloor.report.statistics.drift_alarm import alarm_summary, batch_statistics, drift_alarm
from tests.report.conftest import with_kinds

SETTINGS = DriftAlarmSettings.model_validate(
    {"batch_sizes": [8, 32], "repetitions": 500, "false_alarms": 0.05, "seed": 3341}
)


def cell(n_good=100, shift=0.0, scale=1.0, test_sets=("drift_1",), n_bad=30, **changed):
    """Good and bad images without and with drift: the same images, their scores shifted and scaled."""
    generator = np.random.default_rng(n_good)
    clean = generator.normal(0, 1, n_good + n_bad)
    clean[n_good:] += 5
    names = {"dataset": "a", "category": "x", "detector": "p", "image_size": 256, "condition": "clean", "seed": 1}
    images = {
        "image": [f"{place:03d}.png" for place in range(n_good + n_bad)],
        "label": ["good"] * n_good + ["bad"] * n_bad,
    }
    parts = [
        pd.DataFrame({**names, "test_set": name, **images, "pred_score": values, **changed})
        for name, values in (("full", clean), *((name, scale * clean + shift) for name in test_sets))
    ]
    return with_kinds(pd.concat(parts, ignore_index=True))


def line_of(scores, **settings):
    """The values of a cell that has one drift test set, those of batches under names such as ``batch_8_auroc``."""
    table = drift_alarm(scores, SETTINGS.model_copy(update={**settings}))
    assert list(table["batch_size"]) == [8, 32]
    assert (table["auroc"] == table["auroc"].iloc[0]).all()
    batches = {
        f"batch_{line['batch_size']}_{kind}": line[f"batch_{kind}"]
        for line in table.to_dict("records")
        for kind in ("auroc", "found")
    }
    notes = "; ".join(filter(None, table["note"]))
    return pd.Series({**table.iloc[0][["auroc", "good_images"]], **batches, "note": notes})


def test_no_drift_is_told_by_nothing():
    line = line_of(cell(n_good=200))
    assert line["auroc"] == 0.5
    for size in (8, 32):
        assert line[f"batch_{size}_auroc"] == pytest.approx(0.5, abs=0.06)
        assert line[f"batch_{size}_found"] == pytest.approx(0.05, abs=0.04)
    assert (line["good_images"], line["note"]) == (200, "")


def test_lower_scores_are_found_too():
    """Single images have an AUROC below 0.5; that of batches is above, because the alarm has two sides."""
    down, up = line_of(cell(n_good=200, shift=-1.0)), line_of(cell(n_good=200, shift=1.0))
    assert down["auroc"] < 0.3
    assert up["auroc"] > 0.7
    for line in (down, up):
        assert line["batch_8_auroc"] > 0.9
        assert line["batch_8_found"] > 0.5
        assert line["batch_32_auroc"] > line["batch_8_auroc"]


@pytest.mark.parametrize("shift", [-50.0, 50.0])
def test_a_strong_shift_is_always_found(shift):
    line = line_of(cell(shift=shift))
    assert line["auroc"] == (shift > 0)
    values = ["batch_8_auroc", "batch_8_found", "batch_32_auroc", "batch_32_found"]
    assert list(line[values]) == pytest.approx([1, 1, 1, 1], abs=0.01)


def test_bad_images_and_the_unit_of_the_scores_do_not_matter():
    scores = cell(shift=-0.4)
    other = scores.assign(pred_score=np.exp(scores["pred_score"]) + 1000)
    other.loc[other["label"] == "bad", "pred_score"] = -1
    pd.testing.assert_frame_equal(drift_alarm(scores, SETTINGS), drift_alarm(other, SETTINGS))


def test_single_image_auroc_is_the_mann_whitney_statistic():
    scores = cell(n_good=50, shift=0.5, scale=1.4)
    good = scores[scores["label"] == "good"]
    clean, drifted = (good.loc[good["test_set"] == name, "pred_score"] for name in ("full", "drift_1"))
    assert line_of(scores)["auroc"] == pytest.approx(mannwhitneyu(drifted, clean).statistic / 2500, abs=1e-12)


@pytest.mark.parametrize("number", [20, 21])
def test_repetitions_equal_to_slow_ones(number):
    """Every image has a score of its own, many of them tied with its drifted one; the draws are told by the scores."""
    generator = np.random.default_rng(3)
    clean = generator.permutation(number).astype(float)
    drifted = clean + generator.integers(-4, 5, number)
    of_clean, of_drifted = batch_statistics(clean, drifted, 6, 40, 17)
    splits, batches = np.random.default_rng(17).spawn(2)
    orders = splits.permuted(np.tile(np.arange(number), (40, 1)), axis=1)
    half = number // 2
    drawn = [batches.permuted(orders[:, :half], axis=1)[:, :6] for _ in range(2)]
    for repetition in range(40):
        reference = clean[orders[repetition, half:]]
        for scores, batch, found in ((clean, drawn[0], of_clean), (drifted, drawn[1], of_drifted)):
            assert not set(batch[repetition]) & set(orders[repetition, half:])
            assert len(set(batch[repetition])) == 6
            shares = [
                (np.sum(reference < score) + np.sum(reference <= score)) / 2 / len(reference)
                for score in scores[batch[repetition]]
            ]
            assert found[repetition] == pytest.approx(abs(np.mean(shares) - 0.5), abs=1e-12)


def test_clipped_scores_raise_no_alarm_by_themselves():
    of_clean, of_drifted = batch_statistics(np.ones(40), np.ones(40), 8, 100, 1)
    assert (of_clean == 0).all() and (of_drifted == 0).all()
    line = line_of(cell().assign(pred_score=1.0))
    assert (line["auroc"], line["batch_8_auroc"], line["batch_8_found"]) == (0.5, 0.5, 0.0)


def test_the_share_of_false_alarms_is_kept():
    """With the rule on ten times the false alarms more is found, and drift is found no less often than these."""
    few, many = (line_of(cell(n_good=200, shift=0.3), false_alarms=share)["batch_8_found"] for share in (0.05, 0.5))
    assert 0.05 < few < many


def test_too_few_images_say_how_many_are_needed():
    line = line_of(cell(n_good=63))
    assert np.isnan(line["batch_32_auroc"]) and np.isnan(line["batch_32_found"])
    assert line["note"] == "batches of 32 need 64 good images, there are 63"
    assert np.isfinite(line["batch_8_auroc"]) and np.isfinite(line["auroc"])
    assert np.isfinite(line_of(cell(n_good=64))["batch_32_auroc"])


def test_order_of_lines_does_not_matter_and_the_seed_does():
    scores = pd.concat([cell(shift=0.3, detector=name, category=category) for name in "pq" for category in "xy"])
    table = drift_alarm(scores, SETTINGS)
    pd.testing.assert_frame_equal(table, drift_alarm(scores.sample(frac=1, random_state=1), SETTINGS))
    assert list(zip(table["category"], table["batch_size"], strict=True)) == [
        ("x", 8), ("x", 32), ("x", 8), ("x", 32), ("y", 8), ("y", 32), ("y", 8), ("y", 32),
    ]  # fmt: skip
    p, q = (table[table["detector"] == name].drop(columns="detector").reset_index(drop=True) for name in "pq")
    pd.testing.assert_frame_equal(p, q)  # the same images are drawn for all detectors
    assert (drift_alarm(scores, SETTINGS.model_copy(update={"seed": 1}))["batch_auroc"] != table["batch_auroc"]).any()


def test_datasets_without_synthetic_drift_are_left_out():
    natural = cell(dataset="domains", test_sets=())
    shifted = natural.assign(test_set="drift_1", test_set_kind="domains")
    table = drift_alarm(pd.concat([cell(), natural, shifted]), SETTINGS)
    assert list(table["dataset"].unique()) == ["a"]
    none = drift_alarm(natural, SETTINGS)
    assert none.empty and list(none.columns) == list(table.columns)
    assert alarm_summary(none).empty
    assert drift_alarm(natural.iloc[:0], SETTINGS).empty


def test_what_cannot_be_computed_says_why():
    lacking = cell(detector="q", test_sets=("drift_1",))
    only_drift = cell(detector="r", test_sets=("drift_1", "drift_2")).query("test_set != 'full'")
    broken = cell(detector="s", test_sets=("drift_1", "drift_2"))
    broken.loc[broken.index[0], "pred_score"] = np.nan
    other_images = cell(detector="t", test_sets=("drift_1", "drift_2"))
    other_images = other_images[~((other_images["test_set"] == "drift_2") & (other_images["image"] == "003.png"))]
    whole = cell(test_sets=("drift_1", "drift_2"))
    table = drift_alarm(pd.concat([whole, lacking, only_drift, broken, other_images]), SETTINGS)
    assert len(table) == 20
    notes = table[table["batch_size"] == 32].set_index(["detector", "test_set"])["note"]
    assert notes["q", "drift_2"] == "no scores of good images with this drift"
    assert notes["r", "drift_1"] == "no scores of good images without this drift"
    assert notes["s", "drift_1"] == "1 scores are NaN or infinite"
    assert notes["t", "drift_2"] == "the good images with drift are not those without"
    assert (table["auroc"].isna() == (table["note"] != "")).all()
    elsewhere = drift_alarm(pd.concat([whole, lacking, cell(category="y", test_sets=("drift_1",))]), SETTINGS)
    missing = alarm_summary(elsewhere).set_index("detector")["missing"]["q"]
    assert "a/y, seed 1, drift_1: no scores of good images without this drift" in missing
    with pytest.raises(ValueError, match="Two scores of the same image"):
        drift_alarm(pd.concat([whole, whole.iloc[:1]]), SETTINGS)


def test_summary_counts_every_dataset_once_and_names_what_is_missing():
    values = {("a", "x"): 0.2, ("a", "y"): 0.4, ("b", "z"): 0.9}
    alarms = pd.DataFrame(
        [
            {
                "dataset": dataset, "category": category, "detector": detector, "image_size": 256,
                "condition": "clean", "seed": 1, "test_set": test_set, "good_images": 20,
                "auroc": value + 0.1 * (test_set == "drift_2"), "batch_size": size,
                "batch_auroc": value - size / 100, "batch_found": value, "note": "",
            }
            for (dataset, category), value in values.items()
            for detector in ("p", "q") for test_set in ("drift_1", "drift_2") for size in (8, 16)
        ]
    )  # fmt: skip
    hole = (alarms["detector"] == "q") & (alarms["category"] == "y") & (alarms["test_set"] == "drift_2")
    hole &= alarms["batch_size"] == 16
    alarms.loc[hole, "batch_found"] = np.nan
    alarms.loc[hole, "note"] = "batches of 16 need 32 good images, there are 20"
    table = alarm_summary(alarms).set_index("detector")
    assert table.loc["p", "auroc"] == pytest.approx((0.3 + 0.9) / 2 + 0.05)
    assert table.loc["p", "missing"] == ""
    assert table["batch_8_auroc"].to_list() == pytest.approx([0.52, 0.52])
    assert table["batch_16_auroc"].to_list() == pytest.approx([0.44, 0.44])
    assert table["batch_16_found"].isna().to_list() == [False, True]
    assert table["batch_8_found"].to_list() == pytest.approx([0.6, 0.6])
    assert table.loc["q", "missing"] == "a/y, seed 1, drift_2: batches of 16 need 32 good images, there are 20"


def test_a_table_of_any_batch_size_reads_back_as_numbers(tmp_path):
    alarms = drift_alarm(cell(shift=0.5), SETTINGS.model_copy(update={"batch_sizes": [16]}))
    alarms.to_csv(tmp_path / "alarms.csv", index=False)
    again = pd.read_csv(tmp_path / "alarms.csv", keep_default_na=False)
    assert again["batch_auroc"].to_list() == pytest.approx(alarms["batch_auroc"].to_list())
    assert list(alarm_summary(again).filter(like="batch_")) == ["batch_16_auroc", "batch_16_found"]
