"""The project's own pipelines on worker processes: the same files as on one, whatever happens on the way."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import copy_project
from tests.disks import make_read_only, small_disk
from tests.e2e.own_parts import make_project
from tests.e2e.running import kedro, results, start, unfinished_files


def on_two_workers() -> tuple[str, ...]:
    """Workers that compute in as many threads as this process: sums of floats depend on their number."""
    import torch

    return "--runner=shopfloor.runners.DaskRunner", f"--runner-params=workers=2,threads={torch.get_num_threads()}"


def test_two_workers_give_the_files_of_one_process(own_parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dask"
    folder.mkdir()
    only = "--params=only.datasets=mine,only.detectors=padim"
    code, output = kedro(make_project(folder), "run", "--env=test", only, *on_two_workers())
    assert code == 0, output
    assert results(folder) == results(own_parts)
    assert "Report: " in output and "dashboard: http://127.0.0.1" in output
    assert re.search(r" (\d+) of \1 done", output)


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", ["model_evaluation", "input_size", "data_drift", "supervised", "validation"])
def test_every_detector_gives_the_same_files_on_two_workers(tmp_path: Path, pipeline: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, arguments in ((one, ()), (two, on_two_workers())):
        folder.mkdir()
        copy_project(folder, all_detectors=True)
        code, output = kedro(folder, "run", "--env=test", f"--pipelines={pipeline}", *arguments, timeout=1800)
        assert code == 0, output
    assert results(two) == results(one)


@pytest.mark.slow
@pytest.mark.parametrize("dask", [False, True], ids=["local", "dask"])
def test_ten_kills_lose_and_repeat_nothing(finished: Path, project: Path, dask: bool) -> None:
    """SIGKILL at ten random moments of one experiment; the next command goes on each time."""
    dice = random.Random(3341)
    runner = on_two_workers() if dask else ()
    fits: dict[Path, int] = {}
    for _ in range(10):
        process = start(project, "run", "--env=test", "--only-missing-outputs", *runner)
        end = time.monotonic() + dice.uniform(1, 20)
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.communicate()
        psutil.wait_procs(workers, timeout=10)
        records = (project / "data" / "06_models").glob("*.fit_record.json")
        now = {path: path.stat().st_mtime_ns for path in records}
        assert {path: now.get(path) for path in fits} == fits, "a finished fit was repeated"
        fits = now
    code, output = kedro(project, "run", "--env=test", "--only-missing-outputs", *runner)
    assert code == 0, output
    assert results(project) == results(finished)
    assert unfinished_files(project) == []
    assert {path: path.stat().st_mtime_ns for path in fits} == fits, "a finished fit was repeated"


def test_a_disk_that_is_full_or_closed_ends_the_run_with_one_message(project: Path) -> None:
    (project / "data").mkdir()
    arguments = ("run", "--env=test", "--params=only.detectors=padim")
    with small_disk(project / "data", 400):
        code, output = kedro(project, *arguments)
        assert code == 1 and output.count("the disk is full. Make room") == 1 and "Traceback" not in output, output
        assert unfinished_files(project) == []
        make_read_only(project / "data")
        code, output = kedro(project, *arguments)
        assert code == 1 and output.count("the file system is read-only") == 1 and "Traceback" not in output, output
