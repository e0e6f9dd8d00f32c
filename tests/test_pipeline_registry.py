"""The registered pipelines: their names, their shape, and that no test data reaches training."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from kedro.pipeline import Pipeline

STAGES = ["data_prep", "perturbation", "training", "evaluation", "reporting"]
EXPERIMENTS = ["model_evaluation", "input_size", "data_drift", "noisy_labels", "supervised", "validation"]
PROJECT = Path(__file__).resolve().parents[1]


def test_experiments_and_stages_are_registered(registered: dict[str, Pipeline]) -> None:
    assert set(registered) == {"__default__", *EXPERIMENTS, *STAGES}
    assert registered["__default__"].nodes == registered["model_evaluation"].nodes


def test_an_experiment_is_its_five_stages(registered: dict[str, Pipeline]) -> None:
    for experiment in EXPERIMENTS:
        assert {node.namespace for node in registered[experiment].nodes} == set(STAGES)
    for stage in STAGES:
        every = set(registered[stage].nodes)
        assert {node.namespace for node in every} == {stage}
        for experiment in EXPERIMENTS:
            of_stage = {node for node in registered[experiment].nodes if node.namespace == stage}
            # Textures are no dataset: `data_prep` alone checks and prepares these, without them.
            assert {node for node in of_stage if "textures" not in node.tags} <= every


def test_an_experiment_needs_nothing_but_parameters(registered: dict[str, Pipeline]) -> None:
    summaries = {f"reporting.{experiment}.summary" for experiment in EXPERIMENTS}
    for experiment in EXPERIMENTS:
        for name in registered[experiment].inputs():
            # Other experiments' summaries, for the page over all of them; at first there are none.
            assert name.startswith(("params:", "reference.")) or name in summaries - {f"reporting.{experiment}.summary"}


def test_every_node_of_a_cell_carries_its_tags(registered: dict[str, Pipeline]) -> None:
    for node in registered["training"].nodes:
        if "fit_detector" in node.func.__name__:
            _, dataset, category, detector, _, condition, seed, _ = node.name.split(".")
            assert {"gpu", dataset, category, detector, condition, f"seed_{seed}"} == node.tags


def test_planning_imports_neither_torch_nor_anomalib() -> None:
    code = (
        "import sys, shopfloor.pipeline_registry; print(*{'torch', 'anomalib', 'timm', 'lightning'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip() == ""


def test_the_registry_is_listed_quickly(project: Path) -> None:
    start = time.perf_counter()
    listed = subprocess.run(
        [sys.executable, "-m", "kedro", "registry", "list"], capture_output=True, text=True, check=True, cwd=project
    )
    seconds = time.perf_counter() - start
    assert set(EXPERIMENTS) < set(listed.stdout.replace("-", " ").split())
    assert seconds < 10  # under 2 s on a quiet machine, see docs/performance.md
