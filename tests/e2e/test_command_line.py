"""Options of ``kedro run`` that name nothing, or that have no effect here, are answered in one line."""

from __future__ import annotations

import logging
import runpy
import sys
from pathlib import Path

import click
import pytest
from kedro.framework.startup import bootstrap_project
from kedro.runner import SequentialRunner

from shopfloor.session import ShopfloorSession
from tests.conftest import copy_project
from tests.e2e.running import command


class ForeignRunner(SequentialRunner):
    """A user's own runner, which runs nothing of the project's."""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that no test changes."""
    return copy_project(tmp_path_factory.mktemp("planned"))


def the_line(code: int, output: str) -> str:
    """The one line of an error; usage errors of Click have two lines of usage before."""
    assert code in (1, 2) and "Traceback" not in output, output
    *before, line = output.strip().splitlines()
    assert line.startswith("Error: ") and (not before or before[0].startswith("Usage: ")), output
    return line


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--runner=ThreadRunner"], ["ThreadRunner would train detectors side by side", "Leave --runner out"]),
        (
            ["--runner=ParallelRunner", "--runner-params=max_workers=2"],
            ["ParallelRunner", "lock", "--runner=shopfloor.runners.DaskRunner --runner-params=workers=2"],
        ),
        ([f"--runner={__name__}.ForeignRunner"], ["ForeignRunner", "shopfloor.runners.grid_runner.GridRunner"]),
        (["--runner=LocalRuner"], ["'LocalRuner' is unknown", "shopfloor.runners.LocalRunner"]),
        (["--runner=shopfloor.runners.Daskrunner"], ["unknown", "Did you mean shopfloor.runners.DaskRunner"]),
        (["--runner=no.such.Runner"], ["'no.such.Runner' is unknown"]),
        (["--runner=pathlib.Path"], ["pathlib.Path is no runner"]),
        (["--runner-params=shards=1/2"], ["unexpected keyword argument 'shards'", "is_async, shard"]),
        (
            ["--runner=shopfloor.runners.DaskRunner", "--runner-params=worker=2"],
            ["unexpected keyword argument 'worker'", "workers"],
        ),
        (["--env=tset"], ["'tset' is unknown. Did you mean test?"]),
        (["--conf-source=/no/such"], ["--conf-source", "/no/such"]),
        (["--params=a=[1"], ["Invalid value for '--params'", "expected ',' or ']'"]),
        (["--params=only.datasets=elpv,machined_parts"], ["`machined_parts`", "only.datasets=a+b"]),
    ],
)
def test_what_is_wrong_is_told_before_the_grid_is_planned(
    planned: Path, arguments: list[str], texts: list[str]
) -> None:
    line = the_line(*command(planned, "run", "--pipelines=data_prep", *arguments))
    for text in texts:
        assert text in line


@pytest.mark.parametrize(
    ("option", "name", "like"),
    [
        ("pipelines", "noisy_label", "noisy_labels"),
        ("pipeline", "nothing_like_it", "data_drift"),
        ("nodes", "reporting.model_evaluation.collect_categorie", "reporting.model_evaluation.collect_categories"),
        ("from-nodes", "reporting.model_evaluation.collect_categorie", "reporting.model_evaluation.collect_categories"),
        ("to-nodes", "collect_categories", "reporting.model_evaluation.collect_categories"),
        ("from-inputs", "reporting.model_evaluation.metric", "reporting.model_evaluation.metrics"),
        ("to-outputs", "reporting.model_evaluation.metric", "reporting.model_evaluation.metrics"),
        ("namespaces", "trainings", "training"),
        ("tags", "patchcor", "patchcore"),
    ],
)
def test_an_unknown_name_is_told_with_the_closest_known_ones(planned: Path, option: str, name: str, like: str) -> None:
    line = the_line(*command(planned, "run", "--env=test", f"--{option}={name}"))
    assert f"{name!r} is unknown" in line and like in line
    assert f"--{option.removesuffix('s')}" in line


def test_one_unknown_tag_among_known_ones_is_told(planned: Path) -> None:
    assert "--tags: 'mon' is unknown" in the_line(*command(planned, "run", "--env=test", "--tags=elpv,mon"))


def test_filters_that_leave_nothing_are_told(planned: Path) -> None:
    code, output = command(planned, "run", "--env=test", "--tags=elpv", "--namespaces=reporting")
    assert "no step meets all filters" in the_line(code, output)


def new_session(project: Path) -> ShopfloorSession:
    bootstrap_project(project)
    session = ShopfloorSession.create(project_path=project, env="test")
    assert isinstance(session, ShopfloorSession)
    return session


def test_a_session_refuses_a_foreign_runner(planned: Path) -> None:
    with pytest.raises(click.ClickException, match="ForeignRunner knows neither the lock"):
        new_session(planned).run(runner=ForeignRunner(), pipeline_names=["data_prep"])


def test_a_session_says_that_a_sequential_runner_is_not_async(planned: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(click.ClickException, match="'nothing_like_it' is unknown"):
        new_session(planned).run(runner=SequentialRunner(is_async=True), node_names=["nothing_like_it"])
    assert "is_async has no effect" in caplog.text


def run_module(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int | str | None:
    """Run ``python -m shopfloor <arguments>`` in this process; its exit code."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["shopfloor", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("shopfloor", run_name="__main__")
    return ended.value.code


def test_the_module_runs_and_options_without_effect_are_told_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = project / "run.yml"
    options.write_text("run: {env: test, pipeline: data_prep}\n", encoding="utf-8")
    arguments = ("--params=only.datasets=machined_parts", "--async", "--load-versions=nothing:2026-01-01")
    with caplog.at_level(logging.WARNING):
        assert run_module(monkeypatch, project, f"--config={options}", *arguments) == 0
    warnings = [record.getMessage() for record in caplog.records if "no effect" in record.getMessage()]
    assert [text.split(" has ")[0] for text in warnings] == ["is_async", "load_versions"]
    assert (project / "data/08_reporting/datasets/datasets.csv").is_file()


def test_the_module_has_the_options_of_kedro_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_module(monkeypatch, project, "--help") == 0
    assert "--only-missing-outputs" in capsys.readouterr().out
    assert run_module(monkeypatch, project, "--env=test", "--nodes=nothing_like_it") == 1
    assert "'nothing_like_it' is unknown" in the_line(1, capsys.readouterr().err)


def test_the_module_says_that_there_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_module(monkeypatch, tmp_path, "--env=test") == 1
    assert "is not in a Shopfloor project" in the_line(1, capsys.readouterr().err)
