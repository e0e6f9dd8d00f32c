"""Thresholds against numpy, what the figures show, how they look and how large they are."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO, StringIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shopfloor.experiments import EXPERIMENTS
from shopfloor.experiments.data_drift import draw_drift_figure, make_drift_tables
from shopfloor.experiments.input_size import draw_size_figure, make_size_table
from shopfloor.experiments.noisy_labels import draw_noise_figure, make_noise_table
from shopfloor.pipelines.reporting.nodes import DRAWN_COSTS, DRAWN_METRICS, draw_categories, draw_costs
from shopfloor.report.figures.by_category import metric_by_category
from shopfloor.report.figures.comparison import Tick, comparison_figure
from shopfloor.report.figures.costs import baseline_runs, cost_figures, cost_points
from shopfloor.report.figures.ranks import rank_figure
from shopfloor.report.figures.rendering import below_one_another, pdf, png, print_picture, svg
from shopfloor.report.figures.scores import score_histogram, score_thresholds
from shopfloor.report.figures.style import OKABE_ITO, empty_figure, is_empty, look
from shopfloor.report.figures.training import training_figure
from shopfloor.report.statistics.ranks import rank_detectors
from shopfloor.report.tables.value_tables import category_table, dataset_table, mean_table
from tests.report.charts import drawn, edges, marks, panels, pixels, shapes, texts, values
from tests.report.conftest import cell_scores, tables_of, value_rows, with_kinds


def noise_figure(metrics):
    return draw_noise_figure(metrics, make_noise_table(metrics))[0]


def size_figure(metrics):
    return draw_size_figure(metrics, make_size_table(metrics))[0]


def drift_figure(metrics):
    return draw_drift_figure(metrics, make_drift_tables(metrics)[0])[0]


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
    figure = score_histogram(scores)
    assert {bar["class"] for bar in values(figure, "bar")} == {"good (2)"}
    assert "good (2)" in texts(figure) and "bad (0)" not in texts(figure)
    assert is_empty(score_histogram(scores_of([], [])))


def test_histogram_holds_every_image_once_and_draws_both_thresholds():
    scores = cell_scores(3, n_good=5000, n_bad=3000)
    figure = score_histogram(scores)
    bars = pd.DataFrame(values(figure, "bar"))
    assert bars.groupby("class")["share"].sum().to_dict() == pytest.approx(
        {"good (5000)": 100, "bad (3000)": 100}, abs=0.01
    )
    good = scores.loc[scores["label"] == "good", "pred_score"]
    first = bars.iloc[0]
    assert first["share"] == pytest.approx(100 * np.mean((good >= first["start"]) & (good < first["end"])), abs=0.03)
    found = score_thresholds(scores)
    lines = [line["start"] for line in values(figure, "rule")]
    assert lines == pytest.approx([found.pg2, found.pb2], rel=1e-5)
    assert len(figure.to_json(indent=None)) < 14_000  # binned, whatever the number of images


def test_bars_and_thresholds_are_told_apart_without_colour():
    figure = score_histogram(cell_scores(3))
    (bars,) = marks(figure, "bar")
    filled, hollow = bars["encoding"]["fillOpacity"]["scale"]["range"]
    assert filled > 3 * hollow
    dashes = [rule["mark"]["strokeDash"] for rule in marks(figure, "rule")]
    assert len(dashes) == 2 and dashes[0] != dashes[1]


def test_thresholds_are_named_with_score_and_share_and_apart_where_they_coincide():
    # Both thresholds are 1: good scores 0, 0, 1, 1, 1 end there, bad scores 1, 1, 1, 2 start there.
    figure = score_histogram(scores_of([0, 0, 1, 1, 1], [1, 1, 1, 2]))
    names = {line["name"]: line for line in values(figure, "rule")}
    assert [line["text"] for line in names.values()] == [
        "PG2 at 1\n40.0 % of good below",
        "PB2 at 1\n25.0 % of bad above",
    ]
    height = panels(figure)[0]["layer"][0]["encoding"]["y"]["scale"]["domain"][1]
    # Two lines of 12 pixels in a plot of 260 are a tenth of it.
    assert names["PG2"]["share"] - names["PB2"]["share"] > 0.12 * height
    tallest_bar = 75
    assert names["PB2"]["share"] - 0.12 * height > tallest_bar
    assert {"PG2 at 1", "40.0 % of good below"} <= set(lines_of(figure))


def lines_of(figure):
    return [text.text for text in drawn(figure).iter() if text.text]


@pytest.mark.parametrize(
    ("scores", "side"), [(scores_of([1, 2, 3], [0, 9, 10]), "left"), (scores_of([0, 9, 9, 10], [9, 9, 10]), "right")]
)
def test_names_of_thresholds_stand_where_there_is_room(scores, side):
    figure = score_histogram(scores)
    assert {text["mark"]["align"] for text in marks(figure, "text")} == {side}
    assert not any(edges(figure).values())


def test_metric_figure_shows_the_values_and_skips_holes():
    rows = value_rows(
        [
            ("a", "x", "p", 1, "image_auroc", 0.8),
            ("a", "x", "p", 2, "image_auroc", 0.9),
            ("a", "x", "q", 1, "image_auroc", 0.7),
            ("a", "x", "q", 2, "image_auroc", "failed"),
            ("a", "y", "p", 1, "image_auroc", 0.6),
            ("a", "y", "p", 2, "image_auroc", "missing"),
        ]
    )
    figure = metric_by_category(category_table(rows), "image_auroc")
    (dot,) = values(figure)
    assert (dot["detector"], dot["category"], dot["value"]) == ("p", "x", 85.0)
    spread = 10 / np.sqrt(2)
    assert [dot["low"], dot["high"]] == pytest.approx([85 - spread, 85 + spread], abs=1e-3)
    assert dot["says"] == "85.0 ± 7.1 %"
    assert len(shapes(figure, "point")) == 1
    assert {"x\na", "y\na"} == set(panels(figure)[0]["layer"][0]["encoding"]["y"]["scale"]["domain"])


def test_a_metric_that_is_not_available_has_no_line_in_the_figure(evaluation_run):
    figure = metric_by_category(category_table(evaluation_run.metrics), "pixel_aupro")
    assert {dot["dataset"] for dot in values(figure)} == {"machined_parts"}
    assert not [text for text in texts(figure) if "solar" in text]


def test_metric_figure_has_a_panel_per_size_and_the_baseline_only(evaluation_run):
    clean = evaluation_run.metrics
    sizes = [clean.assign(image_size=size, value=clean["value"] - 10 / size) for size in (128, 256)]
    failed = clean.assign(image_size=512, value=np.nan, status="failed")
    noisy = with_kinds(clean.assign(condition="noise_4"))
    table = category_table(pd.concat([*sizes, failed, noisy], ignore_index=True))
    figure = metric_by_category(table, "image_auroc")
    assert [panel["title"] for panel in panels(figure)] == ["128 px", "256 px"]
    wanted = table[(table["condition"] == "clean") & table["image_auroc"].notna()]
    assert sorted(dot["value"] for dot in values(figure)) == pytest.approx(
        sorted(100 * wanted["image_auroc"]), abs=1e-3
    )
    from_csv = pd.read_csv(StringIO(table.to_csv(index=False)))
    assert values(metric_by_category(from_csv, "image_auroc")) == values(figure)


def test_noise_figure_uses_the_common_test_set_and_leaves_gaps(noisy_run):
    metrics = noisy_run.metrics
    figure = noise_figure(metrics)
    assert [panel["title"] for panel in panels(figure)] == ["solar_cells", "machined_parts", "mean over datasets"]
    first = dataset_table(metrics[metrics["metric"] == "image_auroc"])
    first = first[(first["dataset"] == "solar_cells") & (first["test_set"] == "common")]
    points = pd.DataFrame(panels(figure)[0]["data"]["values"])
    for detector in ("patchcore", "student_teacher"):
        of_detector = first[first["detector"] == detector].set_index("condition")["image_auroc"]
        expected = [100 * of_detector[name] for name in ("clean", "noise_4", "noise_8", "noise_16")]
        line = points[points["detector"] == detector]
        assert line["x"].tolist() == [0, 4, 8, 16]
        assert line["value"].tolist() == pytest.approx(expected, nan_ok=True, rel=1e-5)
    assert points.loc[points["value"].isna(), ["detector", "x"]].values.tolist() == [["student_teacher", 8]]


def test_a_hole_is_no_point_and_no_line_leads_over_it():
    table = pd.DataFrame(
        {"dataset": "a", "detector": "p", "metric": "image_auroc", "one": [0.5], "two": [np.nan], "three": [0.9]}
    )
    ticks = [Tick("one", 1), Tick("two", 2), Tick("three", 3)]
    with_hole = comparison_figure(table, "image_auroc", ticks, "x")
    assert len(shapes(with_hole, "point")) == 2
    (line,) = shapes(with_hole, "line mark")
    path = str(line.get("d"))
    assert path.count("M") == 2 and "L" not in path
    whole = comparison_figure(table.assign(two=0.7), "image_auroc", ticks, "x")
    (line,) = shapes(whole, "line mark")
    assert str(line.get("d")).count("L") == 2 and len(shapes(whole, "point")) == 3


def test_comparison_has_panels_for_sizes_and_conditions_that_stand_in_lines_of_their_own(noisy_run):
    metrics = noisy_run.metrics
    metrics = pd.concat([metrics, metrics.assign(image_size=512, value=metrics["value"] / 2)], ignore_index=True)
    titles = [panel["title"] for panel in panels(noise_figure(metrics))]
    assert titles[:2] == ["solar_cells, 256 px", "solar_cells, 512 px"] and len(titles) == 6


def test_bands_are_one_standard_deviation(noisy_run):
    table = make_noise_table(noisy_run.metrics)
    figure = comparison_figure(table, "image_auroc", [Tick("clean_same_test", 0), Tick("noise_4_same_test", 4)], "x")
    line = table[(table["metric"] == "image_auroc") & (table["dataset"] == "machined_parts")].iloc[0]
    point = panels(figure)[1]["data"]["values"][1]
    ends = [
        line["noise_4_same_test"] - line["noise_4_same_test_sd"],
        line["noise_4_same_test"] + line["noise_4_same_test_sd"],
    ]
    assert [point["low"], point["high"]] == pytest.approx([100 * end for end in ends], rel=1e-5)
    assert len(marks(figure, "area")) == 3


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


def x_titles(figure):
    return [panel["layer"][-1]["encoding"]["x"]["title"] for panel in panels(figure)]


def notes_of(figure):
    return " ".join(figure.to_dict()["title"]["text"])


def test_front_of_the_costs_by_hand():
    metrics, costs = cost_run(
        {"fast": [1, 3], "slow": 20, "wasteful": 30, "tied": 2},
        {"fast": 0.8, "slow": 0.9, "wasteful": 0.85, "tied": 0.8},
    )
    points, left_out = cost_points(baseline_runs(metrics, costs), "fit_seconds")
    by_name = points.set_index("detector")
    assert by_name["on_front"].to_dict() == {"fast": True, "slow": True, "wasteful": False, "tied": True}
    assert [by_name.at["fast", name] for name in ("cost", "low", "high")] == [2, 1, 3]
    assert left_out == []
    figure = cost_figures(metrics, costs, ["fit_seconds"])[0]
    (front,) = marks(figure, "line")
    assert front["mark"]["interpolate"] == "step-after" and front["mark"]["strokeDash"]
    steps = front["data"]["values"]
    assert [step["value"] for step in steps] == [80, 80, 90, 90]
    assert [step["cost"] for step in steps[:3]] == [2, 2, 20]
    scale = front["encoding"]["x"]["scale"]
    assert scale["type"] == "log" and steps[-1]["cost"] == scale["domain"][1]
    named = {point["detector"]: point["front"] for point in values(figure)}
    assert named == {"fast": "fast", "slow": "slow", "wasteful": "", "tied": "tied"}
    assert x_titles(figure) == ["training time, s (cpu)"]
    assert not [text for text in texts(figure) if text in ("null", "undefined", "NaN")]


def test_detectors_without_complete_mean_or_cost_are_left_out_and_named(evaluation_run):
    metrics, costs = evaluation_run.metrics, evaluation_run.costs
    figure = cost_figures(metrics, costs, ["fit_seconds"])[0]
    assert {point["detector"] for point in values(figure)} == {"patchcore"}
    assert "Left out: student_teacher (no complete mean)." in notes_of(figure)
    metrics, costs = cost_run({"p": 1, "q": 2, "none": 3, "free": 0}, {"p": 0.8, "q": 0.9, "none": 0.9, "free": 0.9})
    costs.loc[(costs["detector"] == "none") & (costs["category"] == "x"), "fit_seconds"] = np.nan
    points, left_out = cost_points(baseline_runs(metrics, costs), "fit_seconds")
    assert list(points["detector"]) == ["p", "q"]
    assert left_out == ["none (not measured in all runs)", "free (a cost of 0)"]


def test_devices_are_never_on_one_axis():
    metrics, costs = cost_run(dict.fromkeys("pqrs", 5), dict(zip("pqrs", (0.7, 0.8, 0.9, 0.6), strict=True)))
    costs["device"] = costs["detector"].map({"p": "cpu", "q": "cpu", "r": "Some GPU", "s": "cpu"})
    costs.loc[(costs["detector"] == "s") & (costs["category"] == "x"), "device"] = "Some GPU"
    figure = cost_figures(metrics, costs, ["predict_ms_per_image"])[0]
    assert x_titles(figure) == ["prediction per image, ms (cpu)", "prediction per image, ms (Some GPU)"]
    shown = [{point["detector"] for point in panel["data"]["values"]} for panel in panels(figure)]
    assert shown == [{"p", "q"}, {"r"}]  # s was measured on both
    assert [len(front["data"]["values"]) for front in marks(figure, "line")] == [2, 2]  # each panel has its own
    assert "s (on several devices)" in notes_of(figure)
    figure = cost_figures(metrics, costs, ["parameters"])[0]
    assert x_titles(figure) == ["parameters, millions"]
    assert "Left out" not in notes_of(figure)


def test_memory_is_that_of_the_gpu_where_there_is_one():
    metrics, costs = cost_run({"p": 500, "q": 900}, {"p": 0.7, "q": 0.8})
    costs.loc[costs["detector"] == "q", ["device", "peak_gpu_memory_mb"]] = ["Some GPU", 70.0]
    points, _ = cost_points(baseline_runs(metrics, costs), "peak_memory_mb")
    assert points[["detector", "cost", "measure"]].values.tolist() == [
        ["p", 500, "peak_memory_mb"],
        ["q", 70, "peak_gpu_memory_mb"],
    ]
    titles = x_titles(cost_figures(metrics, costs, ["peak_memory_mb"])[0])
    assert titles == ["peak memory of the process, MB (cpu)", "peak GPU memory, MB (Some GPU)"]
    without = costs.drop(columns="peak_gpu_memory_mb")
    assert set(cost_points(baseline_runs(metrics, without), "peak_memory_mb")[0]["cost"]) == {500, 900}


def test_costs_are_those_of_the_baseline(noisy_run):
    points, _ = cost_points(baseline_runs(noisy_run.metrics, noisy_run.costs), "fit_seconds")
    costs = noisy_run.costs[noisy_run.costs["condition"] == "clean"]
    expected = costs.groupby("detector")["fit_seconds"].median()
    assert points.set_index("detector")["cost"].to_dict() == pytest.approx(expected.to_dict())
    means = mean_table(noisy_run.metrics[noisy_run.metrics["metric"] == "image_auroc"])
    means = means[(means["condition"] == "clean") & (means["test_set"] == "full")].set_index("detector")
    assert points.set_index("detector")["value"].to_dict() == pytest.approx(means["image_auroc"].to_dict())


def test_size_figure_has_a_step_per_doubling():
    sizes = [
        value_rows([("a", "x", name, 1, "image_auroc", value)], image_size=size)
        for size, of_size in ((128, (0.7, 0.8)), (256, (0.8, 0.85)), (512, (0.9, 0.9)))
        for name, value in zip("pq", of_size, strict=True)
    ]
    figure = size_figure(pd.concat(sizes, ignore_index=True))
    x = panels(figure)[0]["layer"][0]["encoding"]["x"]
    assert x["axis"]["values"] == [128, 256, 512] and x["scale"]["type"] == "log"
    low, high = x["scale"]["domain"]
    assert low < 128 and high > 512
    assert {"128", "256", "512"} <= set(texts(figure))


def looks_of(figure):
    """Marker and dash of each detector that a figure says anything of."""
    found: dict[tuple[str, str], set[str]] = {}
    for view in [*marks(figure, "point"), *marks(figure, "line")]:
        for channel in ("shape", "strokeDash"):
            scale = view["encoding"].get(channel, {}).get("scale", {})
            for name, value in zip(scale.get("domain", ()), scale.get("range", ()), strict=True):
                found.setdefault((name, channel), set()).add(str(value))
        assert view["encoding"].get("color", {}).get("scale", {}).get("domain", ["patchcore", "student_teacher"])[
            :2
        ] == [
            "patchcore",
            "student_teacher",
        ]
    return found


def test_a_detector_looks_the_same_in_all_figures_of_a_run(noisy_run):
    costs = cost_figures(noisy_run.metrics, noisy_run.costs, ["fit_seconds"])[0]
    by_category = metric_by_category(category_table(noisy_run.metrics), "image_auroc")
    ranks = rank_figure(rank_detectors(noisy_run.metrics))
    noise = looks_of(noise_figure(noisy_run.metrics))
    assert len(noise) == 4 and all(len(looks) == 1 for looks in noise.values())
    for figure in (costs, by_category, ranks):
        found = looks_of(figure)
        assert found and found == {name: noise[name] for name in found}


def test_a_detector_keeps_its_look_where_others_are_not_compared(noisy_run):
    table = make_noise_table(noisy_run.metrics)
    table = table[table["detector"] == "student_teacher"]
    everyone = list(noisy_run.metrics["detector"].unique())
    figure = comparison_figure(table, "image_auroc", [Tick("clean", 0), Tick("noise_4", 4)], "x", detectors=everyone)
    drawn_now = looks_of(figure)
    assert drawn_now == looks_of(noise_figure(noisy_run.metrics))
    assert "patchcore" not in texts(figure) and "student_teacher" in texts(figure)


def many_detectors(count=11):
    rows = [
        value_rows([("a", "x", f"d{number}", 1, "image_auroc", 0.9 - number / 50)], image_size=size)
        for number in range(count)
        for size in (128, 256)
    ]
    return pd.concat(rows, ignore_index=True)


def test_eleven_detectors_differ_without_colour_and_eight_in_colour():
    figure = size_figure(many_detectors())
    looks: dict[str, list[str]] = {}
    for (name, _), look_of in sorted(looks_of_any(figure).items()):
        looks.setdefault(name, []).append(look_of)
    assert len(looks) == len({tuple(look_of) for look_of in looks.values()}) == 11
    colours = [line.get("stroke") for line in shapes(figure, "line mark")]
    assert colours[:8] == list(OKABE_ITO)
    grey = [
        round(np.dot([int(colour[place : place + 2], 16) for place in (1, 3, 5)], [0.3, 0.59, 0.11]))
        for colour in OKABE_ITO
    ]
    assert len(set(grey)) == 8
    assert [f"d{number}" for number in range(11)] == [text for text in texts(figure) if text.startswith("d")]


def looks_of_any(figure):
    scales = [view["encoding"][channel]["scale"] for view, channel in
              ((marks(figure, "point")[0], "shape"), (marks(figure, "line")[0], "strokeDash"))]  # fmt: skip
    return {
        (name, place): str(value)
        for place, scale in enumerate(scales)
        for name, value in zip(scale["domain"], scale["range"], strict=True)
    }


def contrast(colour, ground):
    """By WCAG 2.1."""
    found = []
    for code in (colour, ground):
        channels = [int(code[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        found.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(found) + 0.05) / (min(found) + 0.05)


@pytest.mark.parametrize("is_dark", [False, True])
def test_texts_and_lines_have_contrast(is_dark):
    found = look(is_dark)
    ground = found["background"]
    for part in ("axis", "legend"):
        assert contrast(found[part]["labelColor"], ground) >= 7
    assert contrast(found["text"]["color"], ground) >= 7 and contrast(found["title"]["color"], ground) >= 7
    assert min(contrast(colour, ground) for colour in found["range"]["category"]) >= (3 if is_dark else 2)


def test_drift_figure_holds_values_inside_the_axis():
    full = value_rows([("a", "x", "p", 1, "image_auroc", 1.0)])
    drifted = value_rows([("a", "x", "p", 1, "image_auroc", 0.0)], test_set="drift_1")
    figure = drift_figure(pd.concat([full, drifted]))
    low, high = panels(figure)[0]["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert -2 < low < 0 and 100 < high < 102
    assert {"no drift", "drift"} <= set(texts(figure))


def test_the_spread_of_a_point_without_neighbours_is_drawn():
    rows = [value_rows([("a", "x", "p", 1, "image_auroc", 0.9)])]
    rows += [value_rows([("a", "x", "p", 1, "image_auroc", value)], test_set=f"drift_{seed}")
             for seed, value in ((1, 0.5), (2, 0.7))]  # fmt: skip
    figure = drift_figure(pd.concat(rows))
    points = panels(figure)[0]["data"]["values"]
    assert [point["value"] for point in points] == pytest.approx([90, 60])
    assert [point["alone"] for point in points] == [False, True]
    assert points[1]["high"] - points[1]["value"] == pytest.approx(np.std([50, 70], ddof=1), abs=1e-3)
    assert len(marks(figure, "rule")) == 1


EVIL = ["<img src=x onerror=alert(1)>", "'+alert(1)+'", "datum['x']", "a.b[0]", "line\nbreak\x00"]


@pytest.mark.parametrize("name", ["; ".join(EVIL), EVIL[0] * 12])
def test_names_are_data_and_nothing_else(name):
    """No name gets into an expression, a field, a title with markup or an address; a browser test runs the rest."""
    rows = [(name, name, name, seed, "image_auroc", 0.8) for seed in (1, 2)]
    rows += [(name, name + "2", name + "2", 1, "image_auroc", 0.7)]
    metrics = value_rows(rows)
    costs = metrics[["dataset", "category", "detector", "image_size", "condition", "seed"]].drop_duplicates()
    costs = costs.assign(status="ok", device=name, peak_gpu_memory_mb=np.nan, fit_seconds=3.0)
    log = costs.assign(epoch=1, loss=name, value=1.0)
    log = pd.concat([log, log.assign(epoch=2)], ignore_index=True)
    drifted = pd.concat([metrics, with_kinds(metrics.assign(test_set="drift_1"))], ignore_index=True)
    for figure in (
        metric_by_category(category_table(metrics), "image_auroc"),
        drift_figure(drifted),
        cost_figures(metrics, costs, ["fit_seconds"])[0],
        rank_figure(rank_detectors(metrics)),
        training_figure(log),
        below_one_another({name: score_histogram(cell_scores(1))}),
    ):
        content = figure.to_dict()
        fixed = {key: value for key, value in content.items() if key != "datasets"}
        for key, value in everything_in(fixed):
            if isinstance(value, str) and "onerror" in value:
                assert key in ("title", "text", "domain", "values", "range"), (key, value)
        assert not any(edges(figure).values())


def everything_in(part, key=""):
    if isinstance(part, dict):
        for name, value in part.items():
            yield from everything_in(value, name)
    elif isinstance(part, list):
        for value in part:
            yield from everything_in(value, key)
    else:
        yield key, part


def page_figures(run, **changed):
    """The figures of a made-up run by title, as the nodes draw them; those with nothing to see are left out."""
    experiment, metrics = run.plan["experiment"], changed.get("metrics", run.metrics)
    costs = changed.get("costs", run.costs)
    tables = tables_of(metrics, costs, experiment)
    drawn = dict(zip(DRAWN_METRICS, draw_categories(tables["category_table"]), strict=True))
    for step in EXPERIMENTS[experiment].steps:
        if step.figures:
            drawn |= zip(step.figures.values(), step.function(*map(tables.get, step.inputs)), strict=True)
    drawn |= zip(DRAWN_COSTS, draw_costs(metrics, costs), strict=True)
    return {title: figure for title, figure in drawn.items() if not is_empty(figure)}


def test_the_figures_of_a_page_are_small_and_complete(noisy_run, evaluation_run):
    figures = page_figures(noisy_run)
    assert sum("mislabelled" in title for title in figures) == 4
    assert sum(len(figure.to_json(indent=None)) for figure in figures.values()) < 120_000
    assert list(page_figures(evaluation_run)) == [*DRAWN_METRICS, *DRAWN_COSTS]


def test_a_run_that_failed_throughout_has_nothing_to_draw(evaluation_run):
    metrics = evaluation_run.metrics.assign(value=np.nan, status="failed")
    assert page_figures(evaluation_run, metrics=metrics, costs=evaluation_run.costs.assign(status="failed")) == {}


def test_an_empty_figure_says_why(evaluation_run):
    metrics = evaluation_run.metrics.assign(value=np.nan, status="failed")
    (of_fit,) = cost_figures(metrics, evaluation_run.costs, ["fit_seconds"])
    figures = {
        "No detector has a value of Pixel AUPRO.": metric_by_category(category_table(metrics), "pixel_aupro"),
        "No detector has Image AUROC and training time.": of_fit,
        "No detector has a value of Image AUROC to": drift_figure(metrics),
        "No image has a score.": score_histogram(scores_of([], [])),
    }
    for words, figure in figures.items():
        assert is_empty(figure) and is_empty(figure.to_dict())
        assert words in lines_of(figure)
        assert (pixels(figure) < 128).any()
    assert not is_empty(score_histogram(cell_scores(1)))


def all_figures(noisy_run, evaluation_run):
    """Every kind of figure of the report."""
    yield "noise", noise_figure(noisy_run.metrics)
    yield from page_figures(evaluation_run).items()
    yield "scores", score_histogram(cell_scores(1))
    yield "below", below_one_another({name: score_histogram(cell_scores(2)) for name in "ab"})
    yield "ranks", rank_figure(rank_detectors(noisy_run.metrics))
    yield "sizes", size_figure(many_detectors())
    yield "one", metric_by_category(category_table(many_detectors(1)), "image_auroc")
    yield "empty", empty_figure("Nothing " * 30)


def test_every_figure_is_drawn_whole_in_every_format(noisy_run, evaluation_run):
    for title, figure in all_figures(noisy_run, evaluation_run):
        picture = print_picture(figure)
        assert picture.mode == "RGB" and 1000 < picture.width < 2200, title
        assert not any(edges(figure).values()), title  # nothing is cut
        assert (pixels(figure) < 200).any(), title
        assert Image.open(BytesIO(png(figure))).width == pytest.approx(picture.width / 2.5, abs=1)
        assert "<svg" in svg(figure)[:200] and pdf(figure).startswith(b"%PDF")


def test_equal_input_gives_equal_bytes(noisy_run, evaluation_run):
    twice = [
        [(title, json.dumps(figure.to_dict()), svg(figure)) for title, figure in all_figures(noisy_run, evaluation_run)]
        for _ in range(2)
    ]
    assert twice[0] == twice[1]


def test_figures_below_one_another_have_all_their_pixels_and_names():
    tables = {name: score_histogram(cell_scores(seed)) for seed, name in enumerate(("patchcore", "<b>padim"))}
    one = print_picture(score_histogram(cell_scores(0)))
    sheet = below_one_another(tables)
    assert pixels(sheet).shape[0] > 1.8 * one.height and abs(pixels(sheet).shape[1] - one.width) < 60
    assert {"patchcore", "<b>padim"} <= set(texts(sheet))
    assert len([text for text in texts(sheet) if text.startswith("good (")]) == 2  # a legend each, no third
    noted = below_one_another({"ranks": rank_figure(rank_detectors(many_detectors(3)))})
    assert "ranks" in texts(noted) and any("categor" in text for text in lines_of(noted))


def test_importing_the_report_is_light():
    code = """
import sys
from shopfloor.pipelines.reporting import nodes
from shopfloor.report.figures import by_category, comparison, costs, ranks, rendering, scores, training
from shopfloor.report.page import report
from shopfloor.report.pictures import examples, side_by_side
from shopfloor.report.tables import value_tables
heavy = {"altair", "vl_convert", "plotly", "matplotlib", "jinja2", "torch"} & set(sys.modules)
sys.exit(str(heavy) if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "costs_of", [[823.0, 964.0], [1000.0, 1000.0], [1001.0, 1002.0], [20.0, 30.0], [3.0, 900.0], [0.02, 0.021]]
)
def test_a_logarithmic_axis_has_ticks_where_its_values_are(costs_of):
    metrics, costs = cost_run(dict(zip("pq", costs_of, strict=True)), {"p": 0.8, "q": 0.9})
    figure = cost_figures(metrics, costs, ["fit_seconds"])[0]
    low, high = panels(figure)[0]["layer"][0]["encoding"]["x"]["scale"]["domain"]
    (axis,) = [part for part in shapes(figure, "axis") if part.get("aria-label", "").startswith("X-axis")]
    written = [text.text.replace(",", "") for text in axis.iter() if text.text and text.text[0].isdigit()]
    assert len([text for text in written if low <= float(text) <= high]) >= 2, written
