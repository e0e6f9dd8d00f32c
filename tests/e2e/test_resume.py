"""Runs that are resumed make what is missing and what rests on it, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from shopfloor.runners.failures import FailedNodesError
from tests.e2e.running import command, results, run, start, unfinished_files


def only_file(project: Path, pattern: str) -> Path:
    (path,) = (project / "data").rglob(pattern)
    return path


def without_digest(names: list[str]) -> set[str]:
    """Node names with the digests of their cells left out."""
    return {".".join(part for part in name.split(".") if not _is_digest(part)) for name in names}


def _is_digest(part: str) -> bool:
    return len(part) == 8 and set(part) <= set("0123456789abcdef")


def test_a_finished_run_is_resumed_by_doing_nothing(finished: Path) -> None:
    before = results(finished)
    assert run(finished, "model_evaluation", only_missing=True) == []
    assert results(finished) == before


def test_a_deleted_checkpoint_that_is_the_same_again_costs_its_fit_and_what_shows_its_time(finished: Path) -> None:
    before = results(finished)
    only_file(finished, "elpv.mono.padim.*.pt").unlink()
    ran = without_digest(run(finished, "model_evaluation", only_missing=True))
    cell = "elpv.mono.padim.64.clean.3341"
    assert {name for name in ran if not name.startswith("reporting.")} == {f"training.{cell}"}
    costs = {f"reporting.model_evaluation.{step}" for step in ("collect_costs", "render_report", "summarise")}
    assert costs < ran, "the training took another time"
    assert not {"reporting.model_evaluation.collect_metrics", "reporting.model_evaluation.measure_certainty"} & ran
    assert results(finished) == before, "the same seed gives the same bits"


def test_a_changed_setting_runs_again_what_it_touches_only(finished: Path) -> None:
    changed = {"detectors": {"padim": {"init_args": {"n_features": 7}}}}
    ran = without_digest(run(finished, "model_evaluation", only_missing=True, params=changed))
    touched = {name for name in ran if not name.startswith("reporting")}
    assert touched and all(".padim." in name for name in touched)
    assert "reporting.model_evaluation.render_report" in ran
    # and back again: nothing is trained, the reports are those of the first setting
    back = run(finished, "model_evaluation", only_missing=True)
    assert back and all(name.startswith("reporting.") for name in back)


def test_a_smaller_grid_makes_the_reports_anew_and_nothing_else(finished: Path) -> None:
    ran = run(finished, "model_evaluation", only_missing=True, params={"only": {"detectors": "padim"}})
    assert ran and all(name.startswith("reporting.") for name in ran)
    metrics = pd.read_csv(finished / "data/08_reporting/model_evaluation/metrics.csv")
    assert set(metrics["detector"]) == {"padim"}


def test_experiments_share_their_cells(noisy: Path) -> None:
    ran = without_digest((noisy / "ran.txt").read_text().splitlines())
    trained = {name for name in ran if name.startswith("training.")}
    assert trained == {f"training.machined_parts.machined_ring.patchcore.64.noise_{p}.3341" for p in (10, 20)}


def test_a_detector_that_raises_costs_its_own_cells(finished: Path) -> None:
    broken = {"detectors": {"padim": {"class_path": "tests.e2e.stub_detectors.Broken", "init_args": {"n_features": 8}}}}
    with pytest.raises(FailedNodesError, match="(?s)2 steps failed.*RuntimeError: the valve is <stuck>") as error:
        run(finished, "model_evaluation", only_missing=True, params=broken)
    assert "--only-missing-outputs" in error.value.message
    metrics = pd.read_csv(finished / "data/08_reporting/model_evaluation/metrics.csv")
    assert set(metrics.loc[metrics["detector"] == "padim", "status"]) == {"failed"}
    assert metrics.loc[metrics["detector"] == "padim", "value"].isna().all()
    assert (
        metrics.loc[(metrics["detector"] == "patchcore") & (metrics["metric"] == "image_auroc"), "value"].notna().all()
    )
    report = (finished / "data/08_reporting/model_evaluation/report.html").read_text()
    assert "the valve is &lt;stuck&gt;" in report and "the valve is <stuck>" not in report


def test_the_exit_code_tells_of_a_failure_and_the_report_is_named(finished: Path) -> None:
    only_file(finished, "elpv.mono.padim.*.pt").unlink()
    code, output = command(
        finished, "run", "--env=test", "--only-missing-outputs",
        "--params=detectors.padim.class_path=tests.e2e.stub_detectors.Broken",
    )  # fmt: skip
    assert code == 1
    assert "the valve is <stuck>" in output
    report = finished / "data/08_reporting/model_evaluation/report.html"
    assert f"Report: {report.resolve()}" in output and report.exists()


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_a_run_killed_at_any_moment_is_resumed_without_loss(finished: Path, project: Path, seed: int) -> None:
    """SIGKILL at a random moment; afterwards all results equal those of a run that was not interrupted."""
    process = start(project, "run", "--env=test")
    while process.poll() is None and not list((project / "data").rglob("*.index.parquet")):
        time.sleep(0.05)
    time.sleep(random.Random(seed).uniform(0, 12))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    fits = {path: path.stat().st_mtime_ns for path in (project / "data" / "06_models").glob("*.fit_record.json")}
    assert all(os.path.getsize(path) for path in (project / "data").rglob("*") if path.is_file())

    run(project, "model_evaluation", only_missing=True)
    assert results(project) == results(finished)
    assert unfinished_files(project) == []
    assert {path: path.stat().st_mtime_ns for path in fits} == fits, "a finished fit was repeated"
    assert run(project, "model_evaluation", only_missing=True) == []
