"""The page of a report shows every curve and every foreground, and no name on it is run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from shopfloor.pipelines.reporting.nodes import draw_training, render_report
from shopfloor.report.tables.collecting import collect_training_log
from shopfloor.runners.missing import MissingResult
from tests.report.conftest import summary_of, tables_of

KEYS = ["dataset", "category", "detector", "image_size", "condition", "seed"]


def cell(detector="flow", category="ring", seed=1, **more):
    values = {"dataset": "parts", "category": category, "image_size": 64, "condition": "clean", "test_set": "full"}
    kinds = {"condition_kind": "clean", "condition_amount": np.nan, "test_set_kind": "full", "test_set_seed": np.nan}
    return {**values, **kinds, "detector": detector, "seed": seed, **more}


def log(**columns):
    """A log of as many epochs as each column is long."""
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"epoch": range(1, n + 1), "seconds": [0.5] * n, "learning_rate": [0.1] * n, **columns})


def collect(*logs_of_cells):
    logs, cells = zip(*logs_of_cells, strict=True)
    return collect_training_log(*logs, cells=cells)


EVIL = "<script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(1)>"


def page(training_log, **more):
    """A page of an experiment of which nothing else is known."""
    metrics = pd.DataFrame([{**cell(), "metric": "image_auroc", "value": 0.9, "status": "ok", "note": ""}])
    names = {key: cell()[key] for key in (*KEYS, "condition_kind")}
    costs = pd.DataFrame([{**names, "status": "ok", "note": "", "device": "cpu"}])
    costs = costs.assign(fit_seconds=1.0, predict_ms_per_image=1.0, peak_memory_mb=1.0, peak_gpu_memory_mb=None)
    costs = costs.assign(parameters=1, epochs=1, stopped_epoch=None, best_epoch=None, n_train=1, n_train_bad=0)
    costs = costs.assign(n_validation=None, n_test=1, libraries="torch 1.2.3")
    categories = pd.DataFrame([{"dataset": "parts", "category": "ring", "image_size": 64}])
    grid = {"datasets": ["parts/ring"], "detectors": ["flow"], "image_sizes": [64], "conditions": ["clean"]}
    plan = {"experiment": "model_evaluation", "title": "T", "demo_note": "", "seeds": [1], "grid": grid}
    plan |= {"experiment_settings": {"holdout_percent": 10}, "dataset_settings": {"parts": {"reader": "folder"}}}
    plan["settings"] = {"flow": {"class_path": "some.Flow", "init_args": {}, "networks": {}}}
    tables = tables_of(metrics, costs, categories=categories)
    foregrounds = more.get("foregrounds", {})
    titles = {f"foregrounds_{place}": ("foregrounds", title) for place, title in enumerate(foregrounds)}
    return render_report(
        plan,
        summary_of(plan, tables),
        experiment="model_evaluation",
        tables=list(tables),
        figures={"training": "Loss per epoch"},
        pictures=titles,
        paper_tables=[],
        training_figure=draw_training(training_log),
        **tables,
        **dict(zip(titles, foregrounds.values(), strict=True)),
    )


def test_page_shows_the_curves_and_no_name_is_run():
    logs = log(**{f"{EVIL}_loss": [2.0, 1.0]})
    html = page(collect((logs, cell(category=IMAGE)), (log(train_loss=[2.0, 1.0]), cell("tree"))))
    assert "Loss per epoch" in html and "tree" in html
    assert EVIL not in html and IMAGE not in html


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8))


def pictures_in(html):
    return html.count("data:image/")


def test_page_shows_every_foreground():
    logs = collect((log(train_loss=[1.0]), cell()))
    both = page(logs, foregrounds={"ring · 64 px": noise(0), "bolt · 64 px": noise(1)})
    assert pictures_in(both) - pictures_in(page(logs)) == 2


def test_page_shows_no_name_of_a_foreground_as_a_tag():
    html = page(collect((log(train_loss=[1.0]), cell())), foregrounds={IMAGE: noise(0)})
    assert IMAGE not in html
    assert "&lt;img src=x" in html


def test_foreground_that_could_not_be_made_is_left_out():
    logs = collect((log(train_loss=[1.0]), cell()))
    html = page(logs, foregrounds={"ring": MissingResult("failed", "no mask"), "bolt": noise(1)})
    assert pictures_in(html) - pictures_in(page(logs)) == 1
