"""How far a run is: counted by step and by cell, told seldom."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from shopfloor.runners.progress import Progress
from tests.runners.stub_grid import make_pipeline


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_steps_cells_and_time_left(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path, 4)
    nodes = {node.name: node for node in pipeline.nodes}
    progress = Progress(pipeline, workers=2, clock=Clock())
    progress.finished(nodes["prepare"], 10)
    assert progress.text() == "1 of 10 done; 0 of 4 cells done", "no training was timed yet"
    progress.finished(nodes["cell_0000.fit"], 100)
    progress.finished(nodes["cell_0000.measure"], 20)
    assert progress.text() == "3 of 10 done; 1 of 4 cells done; about 3 min left"  # 3 x (100 + 20) / 2 seconds
    progress.failed(nodes["cell_0001.fit"])
    progress.skipped(nodes["cell_0001.measure"])
    steps, cells, left = progress.text().split("; ")
    assert steps == "3 of 10 done, 1 failed, 1 left out because of it, 5 left"
    assert cells == "1 of 4 cells done, 1 failed, 2 left"
    assert left == "about 2 min left"


def test_a_big_grid_does_not_flood_the_console(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    pipeline = make_pipeline(tmp_path, 500)
    progress = Progress(pipeline, clock=clock)
    for node in pipeline.nodes:
        clock.now += 0.03
        progress.finished(node, 0.03)
    told = [record.message for record in caplog.records]
    assert 10 <= len(told) <= 12, "30 seconds, a line every 3"
    assert told[-1].startswith("1002 of 1002 done; 500 of 500 cells done")
