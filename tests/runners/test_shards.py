"""A grid in parts: each training in one part, what is shared before, what sums up after."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from shopfloor.runners.cells import AFTER, BEFORE, cells_of
from shopfloor.runners.failures import FailedNodesError
from shopfloor.runners.local import LocalRunner
from shopfloor.runners.shards import Shard
from tests.runners.stub_grid import cell_names, lines, make_pipeline, results, run


def test_each_node_belongs_to_a_training_or_is_shared(tmp_path: Path) -> None:
    assert cells_of(make_pipeline(tmp_path, 2)) == {
        "prepare": BEFORE,
        "cell_0000.fit": "cell_0000.fit",
        "cell_0000.measure": "cell_0000.fit",
        "cell_0001.fit": "cell_0001.fit",
        "cell_0001.measure": "cell_0001.fit",
        "report": AFTER,
    }


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_disjoint_about_equal_and_make_all_trainings(tmp_path: Path, count: int) -> None:
    pipeline = make_pipeline(tmp_path, 20)
    parts = [{node.name for node in Shard(number, count).select(pipeline).nodes} for number in range(1, count + 1)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 40
    assert max(map(len, parts)) - min(map(len, parts)) <= 2
    assert {node.name for node in Shard(0, 0).select(pipeline).nodes} == {"prepare"}


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "a/b", "3/8/2", "-1/8", "", "all"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(click.ClickException, match="shard=3/8 for the third"):
        Shard.parse(text)


def test_a_job_array_makes_what_one_run_makes(tmp_path: Path) -> None:
    array, whole = tmp_path / "array", tmp_path / "whole"
    array.mkdir()
    whole.mkdir()
    with pytest.raises(FailedNodesError, match="shard=prepare"):
        run(LocalRunner(shard="1/3"), array, make_pipeline(array, 10), only_missing=True)
    for shard in ("prepare", "1/3", "2/3", "3/3"):
        run(LocalRunner(shard=shard), array, make_pipeline(array, 10), only_missing=True)
    assert "report.txt" not in results(array)
    run(LocalRunner(), array, make_pipeline(array, 10), only_missing=True)
    run(LocalRunner(), whole, make_pipeline(whole, 10))
    assert results(array) == results(whole)
    assert sorted(lines(array, "ended")) == cell_names(10), "each cell once"


def test_a_part_that_makes_another_result_makes_the_reports_outdated_that_rest_on_it(tmp_path: Path) -> None:
    run(LocalRunner(), tmp_path, make_pipeline(tmp_path, 4))
    (tmp_path / "data/06_models/cell_0002.weights.txt").unlink()
    report = tmp_path / "data/06_models/report.txt"
    report.write_text("of another grid")
    for shard in ("1/2", "2/2"):
        run(LocalRunner(shard=shard), tmp_path, make_pipeline(tmp_path, 4), only_missing=True)
    assert lines(tmp_path, "ended").count("cell_0002") == 2 and len(lines(tmp_path, "ended")) == 5
    assert report.read_text() == "of another grid", "reports are in no part"
    run(LocalRunner(), tmp_path, make_pipeline(tmp_path, 4), only_missing=True)
    assert len(lines(tmp_path, "ended")) == 5 and "cell_0002" in report.read_text()


def test_more_shards_than_trainings_leave_some_without_work(tmp_path: Path) -> None:
    for number in range(1, 6):
        run(LocalRunner(shard="prepare"), tmp_path, make_pipeline(tmp_path, 2), only_missing=True)
        run(LocalRunner(shard=f"{number}/5"), tmp_path, make_pipeline(tmp_path, 2), only_missing=True)
    assert sorted(lines(tmp_path, "ended")) == cell_names(2)
