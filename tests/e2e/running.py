"""Run the project's pipelines as a user does, in this process or by the command."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import traceback
from contextlib import chdir
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.hooks import hook_impl
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol

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


@lru_cache
def catalog_of(project: Path) -> CatalogProtocol:
    """The catalog of the environment ``test``, to load results as a notebook does."""
    bootstrap_project(project)
    with ShopfloorSession.create(project_path=project, env="test") as session:
        assert isinstance(session, ShopfloorSession)
        return session.load_context().catalog


class _Terminal(logging.Handler):
    """Prints what is logged, as conf/logging.yml has it, to where this moment's standard error goes."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def command(project: Path, *arguments: str) -> tuple[int, str]:
    """Run ``kedro <arguments>`` in this process, which spares it its imports; exit code, and all printed and logged."""
    terminal, root = _Terminal(), logging.getLogger()
    root.addHandler(terminal)
    try:
        with chdir(project), patch.object(sys, "argv", ["kedro", *arguments]):
            result = CliRunner().invoke(KedroCLI(project), arguments)
    finally:
        root.removeHandler(terminal)
    error = result.exception
    is_raw = error is not None and not isinstance(error, SystemExit)
    return result.exit_code, result.output + ("".join(traceback.format_exception(error)) if is_raw else "")


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start ``kedro <arguments>`` in the project."""
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    command = [sys.executable, "-m", "kedro", *arguments]
    return subprocess.Popen(
        command, cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def kedro(project: Path, *arguments: str, timeout: float = 300) -> tuple[int, str]:
    """Run ``kedro <arguments>`` in a process of its own; exit code and all output."""
    process = start(project, *arguments)
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def results(project: Path) -> dict[str, bytes]:
    """Content of every file of results by its path below ``data``, leaving out what holds times and the pages."""
    data = project / "data"
    left_out = (
        "record.json", "costs.csv", "cost_table.csv", "report.html", "index.html", "summary.json",
        "_log.parquet", "_log.csv",
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
