"""A new experiment is one module and one entry, a new image metric one function and one entry: nothing else changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kedro.io import CatalogProtocol
from numpy.typing import ArrayLike

from shopfloor.experiments import EXPERIMENTS
from shopfloor.metrics.entries import METRICS, Metric
from shopfloor.planning.errors import GridError
from tests.conftest import copy_project, parameters_of
from tests.e2e.running import catalog_of, run
from tests.experiments import half_training

BLOCK = {
    "title": "Half the training",
    "datasets": ["machined_parts/machined_ring"],
    "detectors": ["padim"],
    "image_sizes": [64],
    "seeds": [3341],
    "kept_percent": 50,
}


def median_gap(scores: ArrayLike, is_bad: ArrayLike) -> float:
    """Share of bad images that score above every good one's median."""
    values, bad = np.asarray(scores, dtype=float), np.asarray(is_bad, dtype=bool)
    return float(np.mean(values[bad] > np.median(values[~bad])))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A project in which the new experiment was run, with the new metric."""
    project = copy_project(tmp_path_factory.mktemp("toy"))
    block = yaml.safe_dump({"half_training": BLOCK})
    (project / "conf" / "base" / "parameters_half_training.yml").write_text(block, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXPERIMENTS, "half_training", half_training.EXPERIMENT)
        patch.setitem(METRICS, "image_median_gap", Metric("Median gap", "Bad above the median good.", median_gap))
        steps = run(project, "half_training")
        yield project, catalog_of(project), steps


def loaded(made: tuple[Path, CatalogProtocol, list[str]], what: str) -> Any:
    return made[1].load(f"reporting.half_training.{what}")


def test_the_new_experiment_has_its_own_split(made: Any) -> None:
    project, catalog, steps = made
    (split,) = [step for step in steps if step.endswith(".split") and "half_50" in step]
    key = split.removeprefix("perturbation.").removesuffix(".split")
    train, draw = (catalog.load(f"perturbation.{key}.{table}") for table in ("train", "draw"))
    assert len(train) == len(draw) == 6 and set(train["image"]).isdisjoint(draw["image"])
    costs = loaded(made, "costs").set_index("condition")["n_train"]
    assert costs.to_dict() == {"clean": 12, "half": 6}


def test_its_comparison_figure_sentence_and_section_are_in_the_report(made: Any) -> None:
    project, _, _ = made
    metrics = loaded(made, "metrics")
    values = metrics[metrics["metric"] == "image_auroc"].set_index("condition")["value"]
    line = loaded(made, "half_table").iloc[0]
    assert (line["clean"], line["half"]) == (values["clean"], values["half"])
    folder = project / "data" / "08_reporting" / "half_training"
    assert (folder / "half_figure.png").stat().st_size > 1000
    points = [point for rows in loaded(made, "half_figure").to_dict()["datasets"].values() for point in rows]
    assert sorted(point["value"] for point in points) == pytest.approx(sorted(100 * values))
    page = (folder / "report.html").read_text(encoding="utf-8")
    points_lost = f"{100 * (values['half'] - values['clean']):+.1f}"
    sentence = f"AUROC change, half the images: {points_lost} points with padim."
    assert sentence in page and '<section id="half">' in page and "half of them" in page
    assert "Image AUROC against kept images" in page
    front = (project / "data" / "08_reporting" / "index.html").read_text(encoding="utf-8")
    assert "Half the training" in front and sentence in front


def test_the_new_metric_is_measured_bounded_and_shown(made: Any) -> None:
    project, catalog, steps = made
    metrics, scores = loaded(made, "metrics"), loaded(made, "scores")
    found = metrics[metrics["metric"] == "image_median_gap"].set_index("condition")
    for condition, lines in scores.groupby("condition"):
        expected = median_gap(lines["pred_score"], lines["label"] == "bad")
        assert found.loc[str(condition), "value"] == expected and found.loc[str(condition), "status"] == "ok"
    assert "image_median_gap" in loaded(made, "mean_table")
    intervals = loaded(made, "intervals")
    bounded = intervals[intervals["metric"] == "image_median_gap"]
    assert len(bounded) == 2 and ((bounded["low"] <= bounded["value"]) & (bounded["value"] <= bounded["high"])).all()
    page = (project / "data" / "08_reporting" / "half_training" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<button[^>]*>Median gap</button>", page) and "Bad above the median good." in page


def test_a_new_block_is_checked_as_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from shopfloor.experiments.grid import expand_experiments

    monkeypatch.setitem(EXPERIMENTS, "half_training", half_training.EXPERIMENT)
    for changed, text in (
        ({"kept_percent": 120}, "half_training.kept_percent: 120 is not a percentage between 0 and 100."),
        ({"kept": 3}, "half_training: unknown key kept."),
    ):
        with pytest.raises(GridError, match=re.escape(text)):
            expand_experiments({**parameters_of("test"), "half_training": {**BLOCK, **changed}})
