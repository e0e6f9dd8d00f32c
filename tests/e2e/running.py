"""Run the project's pipelines as a user does, in this process or by the command."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from contextlib import chdir
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.hooks import hook_impl
from kedro.framework.startup import bootstrap_project

from shopfloor.session import ShopfloorSession

PROJECT = Path(__file__).resolve().parents[2]


class _Recorder:
    """Writes down the nodes that run."""

    def __init__(self) -> None:
        self.nodes: list[str] = []

    @hook_impl
    def before_node_run(self, node: Any) -> None:
        self.nodes.append(node.name)


def run(
    project: Path, pipeline: str, *, only_missing: bool = False, params: dict[str, Any] | None = None, **filters: Any
) -> list[str]:
    """Run a pipeline of the environment ``test`` in this process; filters are those of the session's ``run``.

    Returns:
        Names of the nodes that ran.
    """
    bootstrap_project(project)
    recorder = _Recorder()
    with ShopfloorSession.create(project_path=project, env="test", runtime_params=params) as session:
        assert isinstance(session, ShopfloorSession)
        session._hook_manager.register(recorder)
        session.run(pipeline_names=[pipeline], only_missing_outputs=only_missing, **filters)
    return recorder.nodes


def command(project: Path, *arguments: str) -> tuple[int, str]:
    """Run ``kedro <arguments>`` in this process, for what ends early; exit code and what is printed."""
    with chdir(project):
        result = CliRunner().invoke(KedroCLI(project), arguments)
    error = result.exception
    is_raw = error is not None and not isinstance(error, SystemExit)
    return result.exit_code, result.output + ("".join(traceback.format_exception(error)) if is_raw else "")


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start ``kedro <arguments>`` in the project."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "kedro", *arguments]
    return subprocess.Popen(
        command, cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def kedro(project: Path, *arguments: str, timeout: float = 300) -> tuple[int, str]:
    """Run ``kedro <arguments>``; exit code and all output."""
    process = start(project, *arguments)
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def results(project: Path) -> dict[str, bytes]:
    """Content of every file of results by its path below ``data``, leaving out what holds times and the pages."""
    data = project / "data"
    left_out = (
        "record.json", "costs.csv", "report.html", "index.html", "summary.json", "_log.parquet", "_log.csv",
        *(f"{cost}_figure.{suffix}" for cost in ("latency", "fit_time", "memory") for suffix in ("json", "png")),
    )  # fmt: skip
    return {
        path.relative_to(data).as_posix(): path.read_bytes()
        for path in sorted(data.rglob("*"))
        if path.is_file()
        and not path.name.endswith(left_out)
        and path.name != ".gitkeep"
        and ".traces" not in path.parts
    }


def unfinished_files(project: Path) -> list[str]:
    """Files that were being written when a run ended."""
    return [path.name for path in (project / "data").rglob(".partial-*")]
