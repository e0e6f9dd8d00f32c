"""Every detector in the experiments that have it, from parameters to scores, maps and reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shopfloor.config import ProjectConfigLoader
from shopfloor.experiments.grid import expand_experiments
from shopfloor.settings import CONFIG_LOADER_ARGS
from tests.conftest import copy_project
from tests.e2e.running import run

#: Detectors that the paper has in one experiment only; they are run there.
ELSEWHERE = {"noisy_labels": {"inreach"}, "supervised": {"feature_classifier", "dra", "devnet"}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("detectors"), all_detectors=True)


def parameters(project: Path) -> dict:
    return ProjectConfigLoader(str(project / "conf"), env="test", **CONFIG_LOADER_ARGS)["parameters"]


def test_the_experiments_have_every_detector(project: Path) -> None:
    planned = expand_experiments(parameters(project))
    of = {name: {cell.detector for cell in experiment.cells} for name, experiment in planned.items()}
    assert of["model_evaluation"] | set().union(*ELSEWHERE.values()) == set(parameters(project)["detectors"])
    for experiment, only_there in ELSEWHERE.items():
        assert only_there <= of[experiment]
        assert not only_there & of["model_evaluation"]


@pytest.mark.parametrize("experiment", ["model_evaluation", "noisy_labels", "supervised"])
def test_every_detector_is_trained_and_measured(project: Path, experiment: str) -> None:
    dataset = {"only": {"datasets": "machined_parts/machined_ring"}}
    run(project, experiment, only_missing=True, params=dataset)
    results = project / f"data/08_reporting/{experiment}"
    metrics = pd.read_csv(results / "metrics.csv").set_index(["detector", "metric"])
    assert not set(metrics["status"]) & {"failed", "missing"}, metrics[["status", "note"]].drop_duplicates()
    assert metrics.loc[(slice(None), "image_auroc"), "value"].between(0, 1).all()
    gives_maps = {name: entry.get("gives_maps", True) for name, entry in parameters(project)["detectors"].items()}
    for detector, lines in metrics.groupby("detector"):
        status = set(lines.loc[(slice(None), "pixel_aupro"), "status"])
        assert status == ({"ok"} if gives_maps[str(detector)] else {"not_available"}), detector
    log = pd.read_csv(results / "training_log.csv")
    assert set(log["detector"]) == set(metrics.index.get_level_values("detector"))
    for detector in set(log["detector"]) - {"patchcore", "padim", "inreach", "feature_classifier"}:
        lines = log[log["detector"] == detector]
        assert np.isfinite(lines[["value", "learning_rate", "seconds"]]).all(axis=None), detector
    report = (results / "report.html").read_text(encoding="utf-8")
    if experiment == "model_evaluation":
        figure = json.loads((results / "training_figure.json").read_text(encoding="utf-8"))
        assert {"simplenet", "msflow", "mmr"} <= {panel["title"] for panel in figure["vconcat"]}
        assert "Loss per epoch" in report
    assert ('id="foreground"' in report) == (experiment == "model_evaluation")
