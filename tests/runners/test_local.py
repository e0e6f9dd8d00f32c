"""The runner on small pipelines of plain functions: a failure stays local, a resumed run makes what is outdated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from shopfloor.planning.binding import bind
from shopfloor.runners.failures import EmptyGridError, FailedNodesError
from shopfloor.runners.local import LocalRunner
from shopfloor.runners.missing import TOLERANT, MissingResult
from shopfloor.runners.refusals import Accepted, OutdatedError, UntracedError


def traces(folder: Path) -> dict[str, dict[str, str]]:
    """The catalog's entry for traces."""
    return {"traces": {"type": "shopfloor.catalog.traces.TracesDataset", "path": str(folder / ".traces")}}


class Grid:
    """Two cells of four steps and a summary; counts what runs, and raises where it is told to.

    Every run of a step gives another result, unless ``steady`` is set.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.steady = False
        self.count = 0
        self.seed = 1
        self.accepted = Accepted()
        self.broken: set[str] = set()
        self.interrupted: set[str] = set()

    def step(self, name: str) -> Callable[..., str]:
        def run(*inputs: str, seed: int = 0) -> str:
            self.ran.append(name)
            if name in self.interrupted:
                self.interrupted = set()
                raise KeyboardInterrupt
            if name in self.broken:
                raise ValueError(f"{name} is broken")
            self.count += not self.steady
            return f"{name}({','.join(inputs)})#{self.count}"

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
                if output != "b.fit"
                else Node(bind(self.step(output), seed=self.seed), before, output, name=output)
                for i, (before, output) in enumerate(zip(["", *names], names, strict=False))
            ]
        nodes.append(Node(self.summary, ["a.metrics", "b.metrics"], "report", name="summary", tags=TOLERANT))
        nodes.append(Node(self.step("page"), "report", "page", name="page"))
        return Pipeline(nodes)

    def run(self, only_missing: bool = False, nodes: list[str] | None = None) -> list[str]:
        pipeline = self.pipeline()
        files = {
            name: {"type": "shopfloor.catalog.atomic.TextDataset", "filepath": str(self.file(name))}
            for name in pipeline.all_outputs()
        }
        self.ran = []
        catalog = DataCatalog.from_config({**files, **traces(self.folder)})
        runner = LocalRunner()
        runner.accepted = self.accepted
        runner.registered = lambda: {"__default__": pipeline}
        part = pipeline.filter(node_names=nodes) if nodes else pipeline
        runner.run(part, catalog, _create_hook_manager(), only_missing_outputs=only_missing)
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


def test_what_is_made_again_and_is_the_same_costs_nothing_more(grid: Grid) -> None:
    grid.steady = True
    grid.run()
    grid.file("a.fit").unlink()
    assert grid.run(only_missing=True) == ["a.fit"]
    assert grid.run(only_missing=True) == []


def test_a_failed_step_leaves_old_files_and_none_of_them_counts(grid: Grid) -> None:
    """A run interrupted between a new checkpoint and its metrics must not leave the old metrics as finished."""
    grid.run()
    grid.file("a.fit").unlink()
    grid.broken = {"a.fit"}
    with pytest.raises(FailedNodesError):
        grid.run(only_missing=True)
    assert grid.file("a.metrics").exists(), "nothing is deleted"
    report = grid.file("report").read_text()
    assert "<failed: ValueError: a.fit is broken>" in report and "b.metrics(" in report
    with pytest.raises(FailedNodesError):
        grid.run(only_missing=True)
    assert set(grid.ran) == {"a.fit", "summary"}, "the page of the same summary is the same"
    grid.broken = set()
    assert set(grid.run(only_missing=True)) == {"a.fit", "a.scores", "a.metrics", "summary", "page"}


@pytest.mark.parametrize("spoil", [lambda file: file.write_text("other"), lambda file: file.write_text("")])
def test_a_result_that_was_altered_is_made_again(grid: Grid, spoil: Callable[[Path], None]) -> None:
    grid.run()
    spoil(grid.file("a.scores"))
    assert set(grid.run(only_missing=True)) == {"a.scores", "a.metrics", "summary", "page"}


def test_a_result_that_was_touched_or_copied_is_current(grid: Grid) -> None:
    grid.run()
    for path in grid.folder.glob("*.txt"):
        path.write_bytes(path.read_bytes())
    assert grid.run(only_missing=True) == []
    times = {path: path.stat().st_mtime_ns for path in (grid.folder / ".traces").iterdir()}
    assert grid.run(only_missing=True) == []
    assert times == {path: path.stat().st_mtime_ns for path in (grid.folder / ".traces").iterdir()}


def test_a_damaged_trace_costs_its_step(grid: Grid) -> None:
    grid.run()
    (grid.folder / ".traces" / "b.scores.json").write_text("{")
    assert set(grid.run(only_missing=True)) == {"b.scores", "b.metrics", "summary", "page"}


def test_results_without_a_trace_stop_the_run_and_stay(grid: Grid) -> None:
    grid.run()
    for name in ("b.scores", "a.fit"):
        (grid.folder / ".traces" / f"{name}.json").unlink()
    before = {path: path.read_bytes() for path in grid.folder.glob("*.txt")}
    for only_missing in (False, True):
        with pytest.raises(UntracedError, match=r"(?s)Results of 2 steps .* without a trace.*replace_untraced=true"):
            grid.run(only_missing)
    assert before == {path: path.read_bytes() for path in grid.folder.glob("*.txt")} and grid.ran == []
    grid.accepted = Accepted(replace_untraced=True)
    ran = {"a.fit", "a.scores", "a.metrics", "b.scores", "b.metrics", "summary", "page"}
    assert set(grid.run(only_missing=True)) == ran


def test_a_filtered_run_stops_at_outdated_results_from_outside_and_says_what_to_run(grid: Grid) -> None:
    grid.run()
    grid.file("a.start").unlink()
    for only_missing in (False, True):
        with pytest.raises(OutdatedError, match=r"outside this run's filter: 1 result .*a.fit.* Run first: kedro run"):
            grid.run(only_missing, nodes=["a.scores", "b.scores"])
        assert grid.ran == []
    assert grid.run(only_missing=True, nodes=["b.scores"]) == []


def test_a_report_shows_what_is_outdated_as_such(grid: Grid) -> None:
    grid.run()
    grid.run(nodes=["a.start"])
    with pytest.raises(FailedNodesError, match=r"1 results are outdated and shown as such .*a\.metrics"):
        grid.run(nodes=["summary"])
    assert grid.file("report").read_text().startswith("<outdated:")
    assert set(grid.run(only_missing=True)) == {"a.fit", "a.scores", "a.metrics", "summary", "page"}


def test_a_filtered_run_makes_reports_of_other_runs_outdated(grid: Grid) -> None:
    """What the filter leaves out is known to rest on what was made anew."""
    grid.run()
    grid.run(nodes=["a.metrics"])
    assert set(grid.run(only_missing=True)) == {"summary", "page"}


def test_a_changed_bound_value_makes_its_step_again(grid: Grid) -> None:
    grid.run()
    grid.seed = 2
    assert set(grid.run(only_missing=True)) == {"b.fit", "b.scores", "b.metrics", "summary", "page"}


def test_an_interrupted_run_that_made_everything_again_leaves_nothing_outdated(grid: Grid) -> None:
    """What rests on a new file does not count, though nothing of it was touched."""
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
        {"table": {"type": "shopfloor.catalog.atomic.CSVDataset", "filepath": str(table)}, **traces(tmp_path)}
    )
    with pytest.raises(FailedNodesError) as error:
        LocalRunner().run(Pipeline([Node(grid.step("use"), "table", "x", name="use")]), catalog, _create_hook_manager())
    assert f"{table}: EmptyDataError" in error.value.message and "delete it" in error.value.message


def test_a_result_of_another_pipeline_that_is_not_there_is_named(grid: Grid, tmp_path: Path) -> None:
    pipeline = Pipeline([Node(grid.step("late"), "training.x.checkpoint", "late", name="late")])
    dataset = {"type": "shopfloor.catalog.atomic.TextDataset", "filepath": str(tmp_path / "x.txt")}
    catalog = DataCatalog.from_config({"training.x.checkpoint": dataset, **traces(tmp_path)})
    with pytest.raises(FailedNodesError, match="training.x.checkpoint are missing"):
        LocalRunner().run(pipeline, catalog, _create_hook_manager())
    assert grid.ran == []


def test_an_empty_grid_is_an_error(grid: Grid) -> None:
    with pytest.raises(EmptyGridError):
        LocalRunner().run(Pipeline([]), DataCatalog(), _create_hook_manager())
