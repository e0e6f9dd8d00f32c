"""Why a node did not finish, in words that can cross from one process to another, and what a run says of it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click
from kedro.io import DatasetError

from shopfloor.catalog.atomic_write import CannotWriteError


class FailedNodesError(click.ClickException):
    """Some nodes of the run raised; the rest is finished."""


class EmptyGridError(click.ClickException):
    """The parameters leave nothing to run."""

    def __init__(self) -> None:
        super().__init__(
            "Nothing to run: the grid is empty. Look at the experiment's lists and at `only`, "
            "which narrows them and adds nothing."
        )


@dataclass(frozen=True)
class Failure:
    """A node's failure as plain text: not every exception survives the way from a worker process.

    Attributes:
        reason: What went wrong, in one paragraph.
        trace: Where, for errors that nobody expected.
        stops_run: Whether every other node would meet it too.
    """

    reason: str
    trace: str = ""
    stops_run: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Put an error into words."""
        # The project's own errors and those of datasets say all there is to say.
        expected = isinstance(error, click.ClickException | DatasetError)
        trace = "" if expected else "".join(traceback.format_exception(error)).rstrip()
        stops_run = any(isinstance(each, CannotWriteError) for each in _chain(error))
        return cls(_reason(error), trace, stops_run)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _reason(error: BaseException) -> str:
    """The error's text, without what Kedro puts around an error that a dataset raised while it loaded or saved."""
    if isinstance(error, DatasetError):
        cause = error.__cause__
        if cause is None or isinstance(cause, click.ClickException | DatasetError):
            return _reason(cause) if cause else str(error)
        if "while loading" not in str(error):  # what was to be saved could not be made
            return _reason(cause)
        path = re.search(r"filepath=(?:Pure\w*Path\()?'?([^',)]+)", str(error))
        file = f"{path.group(1)}: " if path else ""
        return f"{file}{_reason(cause)}. If this file is damaged, delete it."
    if isinstance(error, click.ClickException):
        return error.message
    return f"{type(error).__name__}: {error}"


def summary(failures: Mapping[str, str], failed: int) -> str:
    """What a run with failures ends with.

    Args:
        failures: By reason, the first node that gave it.
        failed: Number of nodes that failed.
    """
    lines = [f"  {node}: {reason}" for reason, node in failures.items()]
    return "\n".join(
        [
            f"{failed} step{'s' if failed > 1 else ''} failed; everything that does not depend on "
            f"{'them' if failed > 1 else 'it'} is finished. Reasons, each with the first step it stopped:",
            *lines,
            "Mend the cause and run the same command with --only-missing-outputs: nothing finished is repeated.",
        ]
    )
