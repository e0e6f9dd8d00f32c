"""Two runs over one data folder: one works, the other says who does; the dead hold nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from shopfloor.catalog.atomic_write import CannotWriteError
from shopfloor.runners.lock import DataInUseError, Owner, hold
from shopfloor.runners.shards import Shard
from tests.disks import ordinary_user
from tests.runners.stub_grid import cell_names, lines

PROJECT = Path(__file__).resolve().parents[2]


def leave_lock(data: Path, owner: Owner, *, silent_for: float = 0.0) -> Path:
    """The lock of another run."""
    path = data / ".runs" / "other.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(owner)))
    os.utime(path, (time.time() - silent_for,) * 2)
    return path


def someone_else(shard: str = "", grid: str = "") -> Owner:
    """A run on another machine."""
    here = Owner.here(None, "")
    return replace(here, user="grace", host="elsewhere", command="kedro run --env=paper", shard=shard, grid=grid)


def test_a_folder_is_held_and_given_back(tmp_path: Path) -> None:
    with hold(tmp_path):
        (path,) = (tmp_path / ".runs").iterdir()
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list((tmp_path / ".runs").iterdir()) == []


def test_a_second_run_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    path = leave_lock(tmp_path, someone_else(), silent_for=30)
    with pytest.raises(DataInUseError) as error, hold(tmp_path):
        pass
    for text in (str(tmp_path), "grace@elsewhere", "kedro run --env=paper", "30 s ago", "shard=1/2", str(path)):
        assert text in error.value.message
    assert list((tmp_path / ".runs").iterdir()) == [path], "nothing of the one that was refused stays"


@pytest.mark.parametrize(
    ("owner", "silent_for"),
    [
        (someone_else(), 400),
        (replace(Owner.here(None, ""), pid=2**22 + 1), 0),
        (replace(Owner.here(None, ""), process_started=1.0), 0),
    ],
    ids=["silent for minutes on another machine", "no such process", "another process of the same number"],
)
def test_the_lock_of_a_dead_run_is_taken_over(
    tmp_path: Path, owner: Owner, silent_for: float, caplog: pytest.LogCaptureFixture
) -> None:
    leave_lock(tmp_path, owner, silent_for=silent_for)
    with hold(tmp_path):
        assert len(list((tmp_path / ".runs").iterdir())) == 1
    assert "A run ended without a word" in caplog.text


def test_a_killed_process_that_nobody_waited_for_is_dead(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    time.sleep(0.5)
    leave_lock(tmp_path, replace(Owner.here(None, ""), pid=process.pid))
    with hold(tmp_path):
        pass
    process.wait()


def test_different_shards_of_a_grid_share_a_folder(tmp_path: Path) -> None:
    leave_lock(tmp_path, someone_else("2/8", "g"), silent_for=30)
    with hold(tmp_path, Shard(3, 8), "g"):
        pass
    same, other_count, other_grid, shared = (
        (Shard(2, 8), "g"),
        (Shard(3, 9), "g"),
        (Shard(3, 8), "h"),
        (Shard(0, 0), "g"),
    )
    for shard, grid in (same, other_count, other_grid, shared, (None, "")):
        with pytest.raises(DataInUseError), hold(tmp_path, shard, grid):
            pass


def test_a_run_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shopfloor.runners.lock._HEARTBEAT_SECONDS", 0.05)
    with hold(tmp_path):
        (path,) = (tmp_path / ".runs").iterdir()
        os.utime(path, (1, 1))
        time.sleep(0.5)
        assert path.stat().st_mtime > time.time() - 60


def test_a_folder_that_may_not_be_written_is_named(closed_folder: Path) -> None:
    refused = pytest.raises(CannotWriteError, match=f"may not write in {closed_folder}")
    with ordinary_user(), refused, hold(closed_folder):
        pass


def test_a_damaged_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / ".runs").mkdir()
    (tmp_path / ".runs" / "x.json").write_text("{")
    with pytest.raises(DataInUseError, match="x.json cannot be read"), hold(tmp_path):
        pass


def test_a_run_that_is_told_to_end_gives_the_folder_back(tmp_path: Path) -> None:
    """SIGTERM, as a batch system sends it at the end of a job's time."""
    command = [sys.executable, "-m", "tests.runners.stub_grid", str(tmp_path), "50", "0.2", "local"]
    process = subprocess.Popen(command, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not lines(tmp_path, "began") and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 143 and "Interrupted" in output
    assert not list((tmp_path / "data/.runs").iterdir()) and not list(tmp_path.rglob(".partial-*"))


def test_of_two_runs_that_start_at_once_one_makes_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.runners.stub_grid", str(tmp_path), "12", "0.3", "local"]
    (tmp_path / "gate").touch()
    runs = [
        subprocess.Popen(command, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    while len(lines(tmp_path, "waiting")) < 2 and all(each.poll() is None for each in runs):
        time.sleep(0.02)
    (tmp_path / "gate").unlink()
    outputs = [each.communicate(timeout=120)[0] for each in runs]
    assert sorted(each.returncode for each in runs) == [0, 1], outputs
    assert any("Another run works on" in output for output in outputs)
    assert sorted(lines(tmp_path, "ended")) == cell_names(12), "each cell once"
