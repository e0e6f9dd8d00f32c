"""One run at a time over a data folder: two would make the same files twice and outdate what the other rests on.

Shards of a grid (:mod:`shopfloor.runners.shards`) make different files, so several of them may hold the folder.

A lock is a file of its own name in ``<data>/.runs``: whoever starts puts his there, then looks for others, and takes
his away again if there is one that counts. Both steps work on network file systems, where advisory locks often do
not; and as no name is used twice, removing the file of a dead run can never hit that of a living one. By hand:
filelock's lease for such disks has one holder, where shards are several, and does not name its user and command.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import psutil

from shopfloor.catalog.atomic_write import CannotWriteError, user_name, write_problem
from shopfloor.runners.shards import Shard

logger = logging.getLogger(__name__)

_HEARTBEAT_SECONDS = 20.0
#: A run of another machine that was silent for so long is dead; on the same machine its process is looked for.
_SECONDS_TO_DEATH = 300.0
_ATTEMPTS = 3


class DataInUseError(click.ClickException):
    """Another run works on the same data folder."""


@dataclass(frozen=True)
class Owner:
    """Who holds a data folder.

    Attributes:
        user: Name of the user.
        host: Name of the machine.
        pid: Process on it.
        pid_space: Where that number is valid: containers of one machine count their own processes.
        process_started: When the process began, as numbers of processes are used again.
        started: When the run began, for people.
        command: The command line.
        shard: Which part of the grid it makes, e.g. ``3/8``; empty for all of it.
        grid: What the parts are parts of; parts of different grids may share files.
    """

    user: str
    host: str
    pid: int
    pid_space: str
    process_started: float
    started: str
    command: str
    shard: str
    grid: str

    @classmethod
    def here(cls, shard: Shard | None, grid: str) -> Owner:
        """This process."""
        return cls(
            user=user_name(),
            host=socket.gethostname(),
            pid=os.getpid(),
            pid_space=_pid_space(),
            process_started=psutil.Process().create_time(),
            started=time.strftime("%Y-%m-%d %H:%M:%S"),
            command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            shard=str(shard or ""),
            grid=grid if shard and shard.shares_data else "",
        )

    def tolerates(self, other: Owner) -> bool:
        """Whether both make different parts of one grid."""
        if not (self.grid and self.grid == other.grid):
            return False
        return self.shard != other.shard and self.shard.partition("/")[2] == other.shard.partition("/")[2]

    def is_dead(self, silent_for: float) -> bool:
        """Whether the run ended without taking its lock away.

        Args:
            silent_for: Seconds since its last sign of life.
        """
        if (self.host, self.pid_space) != (socket.gethostname(), _pid_space()):
            return silent_for > _SECONDS_TO_DEATH
        try:
            process = psutil.Process(self.pid)
            # A minute: what the system tells of the start moves when its clock is set.
            return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - self.process_started) > 60
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        part = f", shard {self.shard}" if self.shard else ""
        return f"{self.user}@{self.host}, process {self.pid}, since {self.started}{part}: {self.command}"


@contextmanager
def hold(folder: Path, shard: Shard | None = None, grid: str = "") -> Iterator[None]:
    """Hold a data folder while a run works on it.

    Args:
        folder: The folder, e.g. the project's ``data``.
        shard: Which part of the grid the run makes.
        grid: Tells grids apart.

    Raises:
        DataInUseError: Another run holds it.
        CannotWriteError: It cannot be written.
    """
    path = _take(folder / ".runs", Owner.here(shard, grid))
    try:
        with _heartbeat(path):
            yield
    finally:
        path.unlink(missing_ok=True)


def _take(folder: Path, owner: Owner) -> Path:
    for attempt in range(_ATTEMPTS):
        path = _write(folder, owner)
        others = [(file, other, age) for file, other, age in _others(path) if not owner.tolerates(other)]
        if not others:
            return path
        path.unlink(missing_ok=True)
        file, other, age = others[0]
        if age > _HEARTBEAT_SECONDS or attempt == _ATTEMPTS - 1:
            break
        # It may have begun in the same instant and be about to withdraw as well: the first by name tries again first.
        rank = sum(each.name < path.name for each, *_ in others)
        time.sleep(0.2 + 0.8 * rank + 0.1 * attempt)
    raise DataInUseError(
        f"Another run works on {folder.parent} ({other}; last sign of life {age:.0f} s ago). Two runs would make the "
        "same files twice. Wait until it has ended, or end it; to share a grid among several runs, say shard=1/2 and "
        f"shard=2/2 (docs/cluster.md). If that run is gone for good, delete {file}."
    )


def _write(folder: Path, owner: Owner) -> Path:
    """Put the lock there, whole: others read it as soon as they see it."""
    path = folder / f"{owner.host}-{owner.pid}-{secrets.token_hex(6)}.json"
    hidden = path.with_name(f".{path.name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hidden.open("x", encoding="utf-8") as file:
            json.dump(asdict(owner), file, indent=1)
        hidden.rename(path)
    except OSError as error:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        if problem := write_problem(error, folder):
            raise CannotWriteError(problem) from error
        raise
    return path


def _others(own: Path) -> list[tuple[Path, Owner, float]]:
    """Locks of other living runs, with the seconds since their last sign of life; those of dead runs are removed.

    Ages are differences of two times of the file server: clocks of machines need not agree.
    """
    now, found = own.stat().st_mtime, []
    for path in sorted(own.parent.glob("*.json")):
        if path == own or path.name.startswith("."):
            continue
        try:
            age = max(now - path.stat().st_mtime, 0.0)
            owner = Owner(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:  # it has just ended
            continue
        except (ValueError, TypeError) as error:
            raise DataInUseError(
                f"{path} cannot be read ({error}). If no run works on this folder, delete it."
            ) from error
        if owner.is_dead(age):
            logger.warning("A run ended without a word (%s); this one takes over.", owner)
            path.unlink(missing_ok=True)
        else:
            found.append((path, owner, age))
    return found


@contextmanager
def _heartbeat(path: Path) -> Iterator[None]:
    """Gives a sign of life every few seconds."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_HEARTBEAT_SECONDS):
            with suppress(OSError):  # a server that is away for a moment
                os.utime(path)  # the server's time, as it names none

    thread = threading.Thread(target=beat, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _pid_space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        return ""
