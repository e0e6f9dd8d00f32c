"""Thresholds against numpy, what the figures show and how large they are."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from shopfloor.report.figures.costs import COST_TITLES, cost_points, logarithmic_ticks
from shopfloor.report.figures.overview import (
    cost_figure,
    drift_figure,
    metric_by_category,
    noise_figure,
    overview_figures,
    score_histogram,
    score_thresholds,
    size_figure,
    spread_apart,
)
from shopfloor.report.figures.style import OKABE_ITO, detector_styles, readable
from shopfloor.report.tables.value_tables import dataset_table, mean_table
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
    figure = metric_by_category(rows, "image_auroc", 256)
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


def notes_of(figure):
    return {note.text: note for note in figure.layout.annotations}


def test_thresholds_are_named_with_score_and_share_and_apart_where_they_coincide():
    # Both thresholds are 1: good scores 0, 0, 1, 1, 1 end there, bad scores 1, 1, 1, 2 start there.
    scores = scores_of([0, 0, 1, 1, 1], [1, 1, 1, 2])
    names = notes_of(score_histogram(scores))
    assert list(names) == ["<b>PG2</b> at 1<br>40.0 % of good below", "<b>PB2</b> at 1<br>25.0 % of bad above"]
    first, second = names.values()
    height = score_histogram(scores).layout.yaxis.range[1]
    # Two lines of 12 pixels in a plot of about 260 are a tenth of it.
    assert first.y - second.y > 0.12 * height
    tallest_bar = 75
    assert second.y - 0.12 * height > tallest_bar


def test_names_of_thresholds_stand_where_there_is_room():
    names = list(notes_of(score_histogram(scores_of([1, 2, 3], [0, 9, 10]))).values())
    assert [note.xanchor for note in names] == ["left", "left"]
    names = list(notes_of(score_histogram(scores_of([0, 9, 9, 10], [9, 9, 10]))).values())
    assert [note.xanchor for note in names] == ["right", "right"]


def cost_run(costs_by_detector, values_by_detector, **same):
    """One run of each of two categories; a cost is the same for both, or a list of two."""
    detectors = list(values_by_detector)
    values = [
        ("a", category, name, 1, "image_auroc", value)
        for name, value in values_by_detector.items()
        for category in ("x", "y")
    ]
    metrics = value_rows(values)
    names = ["dataset", "category", "detector", "image_size", "condition", "seed"]
    costs = metrics[names].assign(status="ok", device="cpu", peak_gpu_memory_mb=np.nan, parameters=7, **same)
    both = {name: np.broadcast_to(costs_by_detector[name], 2) for name in detectors}
    place = costs["category"].map({"x": 0, "y": 1})
    amount = [both[name][number] for name, number in zip(costs["detector"], place, strict=True)]
    return metrics, costs.assign(fit_seconds=amount, predict_ms_per_image=amount, peak_memory_mb=amount)


def front_of(figure):
    return [trace for trace in figure.data if trace.name == "no other is both cheaper and better"]


def test_front_of_the_costs_by_hand():
    metrics, costs = cost_run(
        {"fast": [1, 3], "slow": 20, "wasteful": 30, "tied": 2},
        {"fast": 0.8, "slow": 0.9, "wasteful": 0.85, "tied": 0.8},
    )
    points, left_out = cost_points(metrics, costs, "fit_seconds")
    by_name = points.set_index("detector")
    assert by_name["on_front"].to_dict() == {"fast": True, "slow": True, "wasteful": False, "tied": True}
    assert [by_name.at["fast", name] for name in ("cost", "low", "high")] == [2, 1, 3]
    assert left_out == []
    figure = cost_figure(metrics, costs, "fit_seconds")
    (front,) = front_of(figure)
    assert (front.line.shape, front.line.dash) == ("hv", "dash")
    assert list(front.x)[:3] == [2, 2, 20] and list(front.y) == [80, 80, 90, 90]
    assert np.log10(front.x[-1]) == pytest.approx(figure.layout.xaxis.range[1], abs=1e-4)
    named = {trace.name: trace.text for trace in figure.data if trace.text}
    assert named == {"fast": ("fast",), "slow": ("slow",), "wasteful": ("",), "tied": ("tied",)}
    assert figure.layout.xaxis.title.text == "training time, s (cpu)"


def test_detectors_without_complete_mean_or_cost_are_left_out_and_named(evaluation_run):
    metrics, costs = evaluation_run.metrics, evaluation_run.costs
    figure = cost_figure(metrics, costs, "fit_seconds")
    assert {trace.name for trace in figure.data if "markers" in trace.mode} == {"patchcore"}
    assert "Left out: student_teacher (no complete mean)." in [note.replace("<br>", " ") for note in notes_of(figure)]
    metrics, costs = cost_run({"p": 1, "q": 2, "none": 3, "free": 0}, {"p": 0.8, "q": 0.9, "none": 0.9, "free": 0.9})
    costs.loc[(costs["detector"] == "none") & (costs["category"] == "x"), "fit_seconds"] = np.nan
    points, left_out = cost_points(metrics, costs, "fit_seconds")
    assert list(points["detector"]) == ["p", "q"]
    assert left_out == ["none (not measured in all runs)", "free (a cost of 0)"]


def test_devices_are_never_on_one_axis():
    metrics, costs = cost_run(dict.fromkeys("pqrs", 5), dict(zip("pqrs", (0.7, 0.8, 0.9, 0.6), strict=True)))
    costs["device"] = costs["detector"].map({"p": "cpu", "q": "cpu", "r": "Some GPU", "s": "cpu"})
    costs.loc[(costs["detector"] == "s") & (costs["category"] == "x"), "device"] = "Some GPU"
    figure = cost_figure(metrics, costs, "predict_ms_per_image")
    titles = [axis.title.text for axis in figure.select_xaxes()]
    assert titles == ["prediction per image, ms (cpu)", "prediction per image, ms (Some GPU)"]
    axes = {trace.name: trace.xaxis for trace in figure.data if "markers" in trace.mode}
    assert axes == {"p": "x", "q": "x", "r": "x2"}  # s was measured on both
    assert [len(front.x) for front in front_of(figure)] == [2, 2]  # each panel has its own
    (note,) = notes_of(figure)
    assert "s (on several devices)" in note
    figure = cost_figure(metrics, costs, "parameters")
    assert [axis.title.text for axis in figure.select_xaxes()] == ["parameters, millions"]
    assert not notes_of(figure)


def test_memory_is_that_of_the_gpu_where_there_is_one():
    metrics, costs = cost_run({"p": 500, "q": 900}, {"p": 0.7, "q": 0.8})
    costs.loc[costs["detector"] == "q", ["device", "peak_gpu_memory_mb"]] = ["Some GPU", 70.0]
    points, _ = cost_points(metrics, costs, "peak_memory_mb")
    assert points[["detector", "cost", "measure"]].values.tolist() == [
        ["p", 500, "peak_memory_mb"],
        ["q", 70, "peak_gpu_memory_mb"],
    ]
    titles = [axis.title.text for axis in cost_figure(metrics, costs, "peak_memory_mb").select_xaxes()]
    assert titles == ["peak memory of the process, MB (cpu)", "peak GPU memory, MB (Some GPU)"]
    without = costs.drop(columns="peak_gpu_memory_mb")
    assert set(cost_points(metrics, without, "peak_memory_mb")[0]["cost"]) == {500, 900}


def test_costs_are_those_of_the_baseline(noisy_run):
    points, _ = cost_points(noisy_run.metrics, noisy_run.costs, "fit_seconds")
    costs = noisy_run.costs[noisy_run.costs["condition"] == "clean"]
    expected = costs.groupby("detector")["fit_seconds"].median()
    assert points.set_index("detector")["cost"].to_dict() == pytest.approx(expected.to_dict())
    means = mean_table(noisy_run.metrics[noisy_run.metrics["metric"] == "image_auroc"])
    means = means[(means["condition"] == "clean") & (means["test_set"] == "full")].set_index("detector")
    assert points.set_index("detector")["value"].to_dict() == pytest.approx(means["image_auroc"].to_dict())


def test_lines_are_named_at_their_ends_where_they_are_few_and_all_get_there(noisy_run):
    figure = noise_figure(noisy_run.metrics, "image_auroc")
    names = [note for note in figure.layout.annotations if note.xanchor == "left"]
    assert [note.text for note in names] == ["patchcore", "student_teacher"] * 3
    assert not any(trace.showlegend for trace in figure.data)
    broken = noisy_run.metrics.copy()
    last = (broken["condition"] == "noise_16") & (broken["detector"] == "patchcore") & (broken["category"] == "rings")
    broken.loc[last, ["value", "status"]] = [np.nan, "failed"]
    figure = noise_figure(broken, "image_auroc")
    assert not [note for note in figure.layout.annotations if note.xanchor == "left"]
    assert [trace.name for trace in figure.data if trace.showlegend] == ["patchcore", "student_teacher"]


def test_size_figure_has_a_step_per_doubling_and_names_at_the_last():
    sizes = [
        value_rows([("a", "x", name, 1, "image_auroc", value)], image_size=size)
        for size, values in ((128, (0.7, 0.8)), (256, (0.8, 0.85)), (512, (0.9, 0.9)))
        for name, value in zip("pq", values, strict=True)
    ]
    figure = size_figure(pd.concat(sizes, ignore_index=True), "image_auroc")
    axis = figure.layout.xaxis
    assert (axis.type, axis.tickvals, axis.ticktext) == ("log", (128, 256, 512), ("128", "256", "512"))
    assert axis.range[0] < np.log10(128) and axis.range[1] > np.log10(512)
    names = [note for note in figure.layout.annotations if note.xanchor == "left"]
    assert [note.x for note in names] == pytest.approx([np.log10(512)] * 2, abs=1e-4)
    # Both end at 90 %: the names stand above and below it.
    low, high = sorted(note.y for note in names)
    assert low + high == pytest.approx(180) and high - low > 1


@pytest.mark.parametrize("heights", [[3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.1, 5.0, 5.2, 9.0], [4.0]])
def test_labels_are_moved_apart_as_little_as_can_be(heights):
    from scipy.optimize import minimize

    placed = np.array(spread_apart(heights, 0.5))
    order = np.argsort(heights, kind="stable")
    assert (np.diff(placed[order]) >= 0.5 - 1e-9).all()
    limits = [
        {"type": "ineq", "fun": lambda found, low=low, high=high: found[high] - found[low] - 0.5}
        for low, high in zip(order[:-1], order[1:], strict=True)
    ]
    best = minimize(lambda found: ((found - heights) ** 2).sum(), np.arange(len(heights)) * 1.0, constraints=limits)
    assert placed == pytest.approx(best.x, abs=1e-3)


def test_detectors_differ_without_colour_and_keep_their_look(noisy_run):
    many = pd.DataFrame({"detector": [f"d{number}" for number in range(16)]})
    styles = detector_styles(many)
    assert len({(style["symbol"], style["dash"]) for style in styles.values()}) == 16
    assert len({style["color"] for style in list(styles.values())[:8]}) == 8
    drawn = [
        noise_figure(noisy_run.metrics, "image_auroc"),
        cost_figure(noisy_run.metrics, noisy_run.costs, "fit_seconds"),
        metric_by_category(noisy_run.metrics, "image_auroc", 256),
    ]
    for detector, style in detector_styles(noisy_run.metrics).items():
        looks = [trace.marker.symbol for figure in drawn for trace in figure.data if trace.name == detector]
        assert len(looks) >= 3 and set(looks) == {style["symbol"]}


def contrast(colour):
    """With white, by WCAG 2.1."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_names_in_the_colours_of_detectors_can_be_read():
    assert all(contrast(readable(colour)) >= 4.5 for colour in OKABE_ITO)
    assert readable("#000000") == "#000000" and readable("#0072B2") == "#0072B2"
    assert min(map(contrast, OKABE_ITO)) > 2  # lines, markers


def test_drift_figure_holds_values_inside_the_axis():
    full = value_rows([("a", "x", "p", 1, "image_auroc", 1.0)])
    drifted = value_rows([("a", "x", "p", 1, "image_auroc", 0.0)], test_set="drift_1")
    low, high = drift_figure(pd.concat([full, drifted]), "image_auroc").layout.yaxis.range
    assert -2 < low < 0 and 100 < high < 102


def test_names_from_disk_are_escaped_and_cut():
    rows = value_rows([("<b onclick=x>", "y" * 300, "<script>", 1, "image_auroc", 0.8)])
    text = metric_by_category(rows, "image_auroc", 256).to_json()
    assert "<script>" not in json.loads(text)["data"][0]["name"]
    assert "<b onclick" not in "".join(json.loads(text)["layout"]["yaxis"]["ticktext"])
    assert "y" * 100 not in text


def test_overview_is_small_and_complete(noisy_run, evaluation_run):
    figures = overview_figures(noisy_run.metrics, noisy_run.costs)
    assert sum("mislabelled" in title for title in figures) == 4
    assert sum(len(figure.to_json()) for figure in figures.values()) < 60_000
    titles = list(overview_figures(evaluation_run.metrics, evaluation_run.costs))
    assert len(titles) == 3 + len(COST_TITLES)
    assert "Image AUROC against peak memory" in titles


def test_overview_of_a_run_that_failed_throughout_is_empty(evaluation_run):
    metrics = evaluation_run.metrics.assign(value=np.nan, status="failed")
    assert overview_figures(metrics, evaluation_run.costs.assign(status="failed")) == {}


def test_importing_the_report_is_light():
    code = """
import sys
from shopfloor.report.figures import overview, print_figure
from shopfloor.report.page import report
from shopfloor.report.pictures import examples, side_by_side
from shopfloor.report.tables import value_tables
heavy = {"plotly", "matplotlib", "jinja2", "torch"} & set(sys.modules)
sys.exit(str(heavy) if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "values", [[823.0, 964.0], [1000.0], [1001.0, 1002.0], [20.0, 30.0], [3.0, 900.0], [0.02, 0.021]]
)
def test_a_logarithmic_axis_has_ticks_where_its_values_are(values):
    low, high = min(values) / 1.35, max(values) * 1.35
    assert len([tick for tick in logarithmic_ticks(values) if low <= tick <= high]) >= 2


def test_the_spread_of_a_point_without_neighbours_is_drawn():
    rows = [value_rows([("a", "x", "p", 1, "image_auroc", 0.9)])]
    rows += [value_rows([("a", "x", "p", 1, "image_auroc", value)], test_set=f"drift_{seed}")
             for seed, value in ((1, 0.5), (2, 0.7))]  # fmt: skip
    (line,) = [trace for trace in drift_figure(pd.concat(rows), "image_auroc").data if trace.mode == "lines+markers"]
    assert list(line.y) == pytest.approx([90, 60])
    assert list(line.error_y.array) == pytest.approx([0, np.std([50, 70], ddof=1)], abs=1e-3)
