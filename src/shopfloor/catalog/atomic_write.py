"""Write files that appear under their name when they are whole, and one clear error when they cannot be written.

By hand: the transactions of fsspec neither wait for the disk nor say what hinders and what to do.
"""

from __future__ import annotations

import errno
import getpass
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

# Of this process: two that make the same file, say after a lost connection, never write into one another's.
_WRITER = secrets.token_hex(4)
_COARSEST_CLOCK_NS = 2_000_000_000  # of file systems that are in use (FAT)


class CannotWriteError(click.ClickException):
    """The disk takes no more, or nothing may be written there."""


def partial_name(path: Path) -> Path:
    """The name under which ``path`` is written until it is whole: hidden, same folder, same suffix."""
    return path.with_name(f".partial-{_WRITER}-{path.name}")


def final_name(partial: Path) -> str:
    """The name that a file of a temporary name would have got."""
    return re.sub(r"^\.partial-[0-9a-f]{8}-", "", partial.name)


@contextmanager
def atomic_write(final: Path, *, is_durable: bool = True) -> Iterator[Path]:
    """Give the temporary path to write; afterwards the file has its own name, or after an error is gone.

    Args:
        final: The file or folder that is to be.
        is_durable: Whether the content must be on the disk before it gets its name, so that a power cut leaves the old
            or the new file and not half of one. False for what is worth less than the waiting.

    Raises:
        CannotWriteError: The disk is full, or nothing may be written there.
    """
    partial = partial_name(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if is_durable:
            _sync(partial)
        partial.replace(final)
    except BaseException as error:
        remove(partial)
        if isinstance(error, Exception) and (problem := write_problem(error, final)):
            raise CannotWriteError(problem) from error
        raise


def remove(path: Path) -> None:
    """Remove a file or folder, or what can be removed of it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _sync(partial: Path) -> None:
    """Bring the content to the disk, and set its time back a little.

    Whatever changes the file afterwards then gives it another time, also on a file system that counts in seconds: a
    result whose size and time are those of its trace is the one that was saved.
    """
    earlier = time.time_ns() - _COARSEST_CLOCK_NS
    for path in partial.rglob("*") if partial.is_dir() else [partial]:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            os.utime(path, ns=(earlier, earlier))


def write_problem(error: Exception, path: Path) -> str | None:
    """What hinders writing a file and what to do, if that is what the error or one of its causes tells."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and _concerns(cause, path):
            what = _PROBLEMS.get(cause.errno or 0)
            if what:
                again = "Nothing half-written counts: the same command with --only-missing-outputs goes on from here."
                return f"Cannot write {path}: {what.format(folder=path.parent, user=user_name())} {again}"
        cause = cause.__cause__ or cause.__context__
    return None


def _concerns(error: OSError, path: Path) -> bool:
    """Whether the error is about the folder of ``path``, and not about a file that was read meanwhile."""
    named = [Path(str(name)) for name in (error.filename, error.filename2) if name]
    above = (path.parent, *path.parent.parents)
    return not named or any(path.parent in name.parents or name in above for name in named)


def user_name() -> str:
    """Name of the user, for messages."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return "this user"


_MODE = (
    "{user} may not write in {folder}. Give the folder to this user (chown, chmod u+w), or keep data/ where the "
    "user may write."
)
_PROBLEMS = {
    errno.ENOSPC: "the disk is full. Make room, or move data/ to a larger disk (a link will do).",
    errno.EDQUOT: "the quota of {user} on this disk is used up. Make room, or move data/ elsewhere (a link will do).",
    errno.EROFS: "the file system is read-only. Mount it for writing, or move data/ elsewhere (a link will do).",
    errno.EFBIG: "the file would be larger than the file system or the limit of this shell (`ulimit -f`) allows.",
    errno.EACCES: _MODE,
    errno.EPERM: _MODE,
}
