"""The runner on small pipelines of plain functions: a failure stays local, a resumed run makes what is outdated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from shopfloor.runners.failures import EmptyGridError, FailedNodesError
from shopfloor.runners.local import LocalRunner
from shopfloor.runners.missing import TOLERANT, MissingResult


class Grid:
    """Two cells of three steps and a summary; counts what runs, and raises where it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.broken: set[str] = set()
        self.interrupted: set[str] = set()

    def step(self, name: str) -> Callable[..., str]:
        def run(*inputs: str) -> str:
            self.ran.append(name)
            if name in self.interrupted:
                self.interrupted = set()
                raise KeyboardInterrupt
            if name in self.broken:
                raise ValueError(f"{name} is broken")
            return f"{name}({','.join(inputs)})"

        return run

    def summary(self, *inputs: str | MissingResult) -> str:
        self.ran.append("summary")
        return " ".join(each if isinstance(each, str) else f"<{each.status}: {each.reason}>" for each in inputs)

    def pipeline(self) -> Pipeline:
        nodes = []
        for cell in "ab":
            names = [f"{cell}.start", f"{cell}.fit", f"{cell}.scores", f"{cell}.metrics"]
            nodes += [
                Node(self.step(output), before if i else None, output, name=output)
                for i, (before, output) in enumerate(zip(["", *names], names, strict=False))
            ]
        nodes.append(Node(self.summary, ["a.metrics", "b.metrics"], "report", name="summary", tags=TOLERANT))
        nodes.append(Node(self.step("page"), "report", "page", name="page"))
        return Pipeline(nodes)

    def run(self, only_missing: bool = False) -> list[str]:
        pipeline = self.pipeline()
        files = {
            name: {"type": "shopfloor.catalog.atomic.TextDataset", "filepath": str(self.file(name))}
            for name in pipeline.all_outputs()
        }
        self.ran = []
        catalog = DataCatalog.from_config(files)
        LocalRunner().run(pipeline, catalog, _create_hook_manager(), only_missing_outputs=only_missing)
        return self.ran

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.txt"


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


ALL = {f"{cell}.{what}" for cell in "ab" for what in ("start", "fit", "scores", "metrics")} | {"summary", "page"}


def test_a_whole_run_makes_everything_and_a_resumed_one_nothing(grid: Grid) -> None:
    assert set(grid.run()) == ALL
    assert grid.run(only_missing=True) == []


def test_a_deleted_file_is_made_again_with_all_that_rests_on_it(grid: Grid) -> None:
    grid.run()
    grid.file("a.fit").unlink()
    assert set(grid.run(only_missing=True)) == {"a.fit", "a.scores", "a.metrics", "summary", "page"}


def test_a_failure_costs_its_own_cell(grid: Grid) -> None:
    grid.broken = {"a.fit"}
    with pytest.raises(FailedNodesError) as error:
        grid.run()
    assert set(grid.ran) == ALL - {"a.scores", "a.metrics"}
    assert "1 step failed" in error.value.message and "a.fit: ValueError: a.fit is broken" in error.value.message
    assert grid.file("b.metrics").exists() and not grid.file("a.metrics").exists()
    report = grid.file("report").read_text()
    assert "<failed: ValueError: a.fit is broken>" in report and "b.metrics(" in report


def test_after_the_cause_is_mended_only_the_hole_and_the_reports_are_made(grid: Grid) -> None:
    grid.broken = {"a.fit"}
    with pytest.raises(FailedNodesError):
        grid.run()
    grid.broken = set()
    assert set(grid.run(only_missing=True)) == {"a.fit", "a.scores", "a.metrics", "summary", "page"}
    assert "<" not in grid.file("report").read_text()


def test_what_is_outdated_is_gone_before_it_is_made_again(grid: Grid) -> None:
    """A run interrupted between a new checkpoint and its metrics must not leave the old metrics as finished."""
    grid.run()
    grid.file("a.fit").unlink()
    grid.broken = {"a.fit"}
    with pytest.raises(FailedNodesError):
        grid.run(only_missing=True)
    assert not grid.file("a.scores").exists() and not grid.file("a.metrics").exists()
    assert grid.file("a.start").exists() and grid.file("b.metrics").exists()


def test_a_plain_run_removes_what_is_outdated_and_nothing_else(grid: Grid) -> None:
    grid.run()
    grid.file("a.scores").unlink()
    grid.broken = {"a.start"}
    with pytest.raises(FailedNodesError):
        grid.run()
    assert grid.file("a.fit").exists(), "finished and not outdated"
    assert not grid.file("a.metrics").exists()


def test_an_interrupted_run_that_made_everything_again_leaves_nothing_outdated(grid: Grid) -> None:
    """What rests on a new file is removed as soon as the file is there, not when its turn comes."""
    grid.run()
    grid.interrupted = {"b.scores"}
    with pytest.raises(KeyboardInterrupt):
        grid.run()
    made_anew = set(grid.ran) - {"b.scores"}
    ran = set(grid.run(only_missing=True))
    assert ran == ALL - made_anew, "everything that rests on a file of the interrupted run, and nothing else"


def test_a_failure_in_a_full_run_is_mended_by_a_resumed_one_though_old_files_are_there(grid: Grid) -> None:
    grid.run()
    grid.broken = {"a.fit"}
    with pytest.raises(FailedNodesError):
        grid.run()
    assert "<failed" in grid.file("report").read_text()
    grid.broken = set()
    assert set(grid.run(only_missing=True)) == {"a.fit", "a.scores", "a.metrics", "summary", "page"}
    assert "<" not in grid.file("report").read_text()


def test_a_damaged_file_is_named(grid: Grid, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("")
    catalog = DataCatalog.from_config(
        {"table": {"type": "shopfloor.catalog.atomic.CSVDataset", "filepath": str(table)}}
    )
    with pytest.raises(FailedNodesError) as error:
        LocalRunner().run(Pipeline([Node(grid.step("use"), "table", "x", name="use")]), catalog, _create_hook_manager())
    assert f"{table}: EmptyDataError" in error.value.message and "delete it" in error.value.message


def test_a_result_of_another_pipeline_that_is_not_there_is_named(grid: Grid, tmp_path: Path) -> None:
    pipeline = Pipeline([Node(grid.step("late"), "training.x.checkpoint", "late", name="late")])
    dataset = {"type": "shopfloor.catalog.atomic.TextDataset", "filepath": str(tmp_path / "x.txt")}
    catalog = DataCatalog.from_config({"training.x.checkpoint": dataset})
    with pytest.raises(FailedNodesError, match="results of the stage training are missing"):
        LocalRunner().run(pipeline, catalog, _create_hook_manager())
    assert grid.ran == []


def test_an_empty_grid_is_an_error(grid: Grid) -> None:
    with pytest.raises(EmptyGridError):
        LocalRunner().run(Pipeline([]), DataCatalog(), _create_hook_manager())
