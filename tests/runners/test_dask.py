"""The runner on real worker processes of this machine: what goes wrong on one costs what depends on it only."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import psutil
import pytest
from kedro.pipeline import Node, Pipeline

from shopfloor.catalog.atomic_write import CannotWriteError
from shopfloor.runners.dask_cluster import ClusterError, ClusterOptions, connect
from shopfloor.runners.dask_runner import DaskRunner
from shopfloor.runners.failures import FailedNodesError
from shopfloor.runners.local import LocalRunner
from tests.disks import small_disk
from tests.runners.stub_grid import cell_names, lines, make_pipeline, results, run, traces_entry

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a running cluster of two workers, none with a GPU."""
    with connect(ClusterOptions(workers=2, memory_limit="900MiB")) as client:
        yield client.scheduler_info()["address"]


def on(scheduler: str) -> DaskRunner:
    return DaskRunner(address=scheduler, gpus=0)


def start(folder: Path, *runner: str, cells: int = 20, seconds: float = 0.15) -> subprocess.Popen[str]:
    """Start the stub grid as a command."""
    command = [sys.executable, "-m", "tests.runners.stub_grid", str(folder), str(cells), str(seconds), *runner]
    return subprocess.Popen(command, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.02)


def test_two_workers_make_what_one_process_makes(scheduler: str, tmp_path: Path) -> None:
    on_workers, here = tmp_path / "workers", tmp_path / "here"
    for folder, runner in ((on_workers, on(scheduler)), (here, LocalRunner())):
        folder.mkdir()
        run(runner, folder, make_pipeline(folder, 50))
    assert results(on_workers) == results(here)
    assert sorted(lines(on_workers, "ended")) == cell_names(50), "each cell once"


def test_what_goes_wrong_in_a_cell_costs_that_cell(scheduler: str, tmp_path: Path) -> None:
    behaviours = {
        "cell_0001": "raise",
        "cell_0002": "stubborn",
        "cell_0003": "eat memory",
        "cell_0004": "exit",
        "cell_0005": "die once",
    }
    with pytest.raises(FailedNodesError) as error:
        run(on(scheduler), tmp_path, make_pipeline(tmp_path, 12, behaviours=behaviours))
    message = error.value.message
    assert "4 steps failed" in message
    assert "cell_0001.fit: ValueError: cell_0001 is broken" in message
    assert "cell_0002.fit: StubbornError: cell_0002 and its friend" in message
    assert "cell_0003.fit: the worker process ended 3 times" in message and "memory_limit" in message
    assert "cell_0004.fit: SystemExit: 3" in message
    lost = {f"cell_000{number}" for number in (1, 2, 3, 4)}
    made = {name.partition(".")[0] for name in results(tmp_path)} - {"images", "report"}
    assert made == set(cell_names(12)) - lost
    assert lines(tmp_path, "began").count("cell_0005") == 2, "its worker died once"
    assert "<failed: ValueError: cell_0001 is broken>" in results(tmp_path)["report.txt"]

    run(on(scheduler), tmp_path, make_pipeline(tmp_path, 12), only_missing=True)
    assert all(lines(tmp_path, "ended").count(cell) == 1 for cell in cell_names(12)), "nothing finished is repeated"
    assert "<" not in results(tmp_path)["report.txt"]


def test_a_grid_that_wants_a_gpu_is_refused_where_no_worker_has_one(scheduler: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no worker of the cluster offers one"):
        run(DaskRunner(address=scheduler), tmp_path, make_pipeline(tmp_path, 2))
    assert results(tmp_path) == {}
    run(DaskRunner(address=scheduler), tmp_path, make_pipeline(tmp_path, 2, gpu=False))


def test_a_disk_that_fills_up_under_the_workers_ends_the_run(scheduler: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with small_disk(tmp_path / "data", 100):
        with pytest.raises(CannotWriteError, match="the disk is full. Make room"):
            run(on(scheduler), tmp_path, make_pipeline(tmp_path, 60))
        assert 5 < len(results(tmp_path)) < 60 and all(results(tmp_path).values())
        assert not list(tmp_path.rglob(".partial-*")) and not list((tmp_path / "data/.runs").iterdir())


def _visible_gpu(_: int) -> str:
    time.sleep(0.2)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_a_training_gets_a_gpu_of_its_own_and_nothing_else_takes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPUs are only declared here: what is tested is which worker gets which node."""
    monkeypatch.setattr("shopfloor.runners.dask_cluster._gpus_here", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    nodes = [
        Node(partial(_visible_gpu, number), None, f"{kind}_{number}", name=f"{kind}_{number}", tags=kind)
        for kind in ("gpu", "cpu")
        for number in range(6)
    ]
    run(DaskRunner(gpus=2, workers=1), tmp_path, Pipeline(nodes))
    seen = results(tmp_path)
    assert {seen[f"gpu_{number}.txt"] for number in range(6)} == {"4", "6"}
    assert {seen[f"cpu_{number}.txt"] for number in range(6)} == {""}


def test_what_would_stay_in_the_memory_of_a_worker_is_refused(scheduler: str, tmp_path: Path) -> None:
    from kedro.framework.hooks.manager import _create_hook_manager
    from kedro.io import DataCatalog

    with pytest.raises(ClusterError, match="is not in the catalog"):
        catalog = DataCatalog.from_config(traces_entry(tmp_path))
        on(scheduler).run(make_pipeline(tmp_path, 2), catalog, _create_hook_manager())


def test_ctrl_c_leaves_whole_files_and_listeners_are_of_this_machine_only(tmp_path: Path) -> None:
    process = start(tmp_path, "dask", "workers=2", cells=200)
    wait_for(lambda: len(lines(tmp_path, "ended")) > 3, process)
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = [each for one in tree for each in one.net_connections("inet") if each.status == psutil.CONN_LISTEN]
    assert listening and {each.laddr.ip for each in listening} <= {"127.0.0.1", "::1"}

    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode != 0 and "Interrupted" in output and "Dask's dashboard: http://127.0.0.1" in output
    assert not psutil.wait_procs(tree, timeout=10)[1], "no worker stays"
    assert not list((tmp_path / "data").rglob(".partial-*")) and not list((tmp_path / "data/.runs").iterdir())
    before = set(results(tmp_path))
    expected = {f"{cell}.weights.txt": f"weights of {cell} on images" for cell in cell_names(200)}
    assert before and all(results(tmp_path)[name] == expected[name] for name in before & set(expected))


@pytest.mark.parametrize(
    ("runner", "kills"),
    [
        (("dask", "workers=2"), 2),
        pytest.param(("dask", "workers=2"), 10, marks=pytest.mark.slow),
        pytest.param(("local",), 10, marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_again_and_again_loses_and_repeats_nothing(
    tmp_path: Path, runner: tuple[str, ...], kills: int
) -> None:
    """SIGKILL at random moments of the same run, also while it begins; the next one goes on each time."""
    dice = random.Random(8)
    finished: set[str] = set()
    for _ in range(kills):
        process = start(tmp_path, *runner, cells=60)
        if dice.random() < 0.8:  # most of them while cells are being made
            known = len(lines(tmp_path, "began"))
            wait_for(lambda known=known: len(lines(tmp_path, "began")) > known, process)
        time.sleep(dice.uniform(0, 0.5))
        workers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not psutil.wait_procs(workers, timeout=10)[1], "no worker goes on without its run"
        finished |= {path.name for path in (tmp_path / "data").rglob("cell*.txt")}
    assert 0 < len(finished) < 120, "it was killed in between"
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("cell*.txt")}

    output, _ = (process := start(tmp_path, *runner, cells=60, seconds=0)).communicate(timeout=120)
    assert process.returncode == 0, output
    assert {path: path.stat().st_mtime_ns for path in times} == times, "a finished step was repeated"
    assert not [path for path in tmp_path.rglob(".*") if path.name.startswith(".partial")]
    whole = tmp_path / "whole"
    whole.mkdir()
    run(LocalRunner(), whole, make_pipeline(whole, 60))
    assert results(tmp_path) == {**results(whole)}


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "needs to know where to run"),
        ({"workers": 0}, "workers=0 is no number of at least 1"),
        ({"workers": "two"}, "workers=two is no number"),
        ({"gpus": -1}, "gpus=-1 is no number of at least 0"),
        ({"gpus": 99}, "gpus=99 were asked for, and this machine offers"),
        ({"address": "tcp://127.0.0.1:1", "workers": 2}, "workers cannot be said together with address"),
        ({"address": "tcp://127.0.0.1:1", "gpus": 2}, "gpus cannot be said together with address"),
        ({"address": "here"}, "address=here is no address"),
        ({"workers": 2, "memory_limit": "much"}, "memory_limit=much is no amount of memory"),
        ({"workers": 2, "shard": "9/8"}, "shard=9/8 is no shard"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters: dict[str, Any], text: str) -> None:
    with pytest.raises(click.ClickException) as error:
        DaskRunner(**parameters)
    assert text in error.value.message
    assert error.value.message.startswith("--runner-params: ") or "shard" in parameters


def test_numbers_may_come_as_text() -> None:
    options = ClusterOptions.read(workers="2", threads="1")
    assert (options.workers, options.threads) == (2, 1)


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shopfloor.runners.dask_cluster.SECONDS_TO_ANSWER", 1)
    with pytest.raises(ClusterError, match="No scheduler answers at tcp://127.0.0.1:1"):
        run(DaskRunner(address="tcp://127.0.0.1:1"), tmp_path, make_pipeline(tmp_path, 1))


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import shopfloor.runners

    for name in [name for name in sys.modules if name.startswith("shopfloor.runners.dask")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(click.ClickException, match=r"pip install 'shopfloor\[cluster\]'"):
        _ = shopfloor.runners.DaskRunner


def test_planning_imports_no_dask() -> None:
    code = "import sys, shopfloor.pipeline_registry, shopfloor.session; print('dask' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
