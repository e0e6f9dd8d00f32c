"""How far a run is and how long it will take, in a line every few seconds."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from shopfloor.runners.cells import AFTER, BEFORE, GPU, cells_of

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 3.0


class Progress:
    """Counts steps and cells, and logs them, at most one line every few seconds.

    The time left is the mean time of each kind of step (each node function is one) times the steps of that kind that
    are left, shared among those who work. As long as no training is finished nobody can know it, and it is not told.
    By hand: tqdm, which draws a bar, takes all steps to last equally long, and knows no cells.

    Args:
        pipeline: What is to be run.
        workers: How many steps run at a time.
        clock: Seconds.
    """

    def __init__(self, pipeline: Pipeline, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.workers = workers
        self._clock = clock
        self._next_line = clock()
        self._cells = cells_of(pipeline)
        self._left_of_cell = Counter(cell for cell in self._cells.values() if cell not in {BEFORE, AFTER})
        self._cell_count = len(self._left_of_cell)
        self._failed_cells: set[str] = set()
        self._total = len(pipeline.nodes)
        self._done = self._failed = self._skipped = 0
        self._left = Counter(map(_kind, pipeline.nodes))
        self._slow = {_kind(node) for node in pipeline.nodes if GPU in node.tags}
        self._seconds: Counter[str] = Counter()
        self._measured: Counter[str] = Counter()

    def finished(self, node: Node, seconds: float) -> None:
        """A node is done."""
        kind = _kind(node)
        self._seconds[kind] += seconds  # type: ignore[assignment]
        self._measured[kind] += 1
        self._done += 1
        self._settle(node)
        self._log(node)

    def unchanged(self, node: Node) -> None:
        """A node need not run after all."""
        self._done += 1
        self._settle(node)

    def failed(self, node: Node) -> None:
        """A node raised."""
        self._failed += 1
        self._lose(node)

    def skipped(self, node: Node) -> None:
        """A node cannot run because one before it failed."""
        self._skipped += 1
        self._lose(node)

    def _lose(self, node: Node) -> None:
        self._failed_cells.add(self._cells[node.name])
        self._settle(node)

    def _settle(self, node: Node) -> None:
        self._left[_kind(node)] -= 1
        self._left_of_cell[self._cells[node.name]] -= 1

    def _log(self, node: Node) -> None:
        settled = self._done + self._failed + self._skipped
        now = self._clock()
        if now < self._next_line and settled < self._total:
            return
        self._next_line = now + SECONDS_BETWEEN_LINES
        logger.info("%s: %s", self.text(), node.name)

    def text(self) -> str:
        """How far the run is: ``12 of 75 done; 3 of 8 cells done, 1 failed, 4 left; about 2 min left``."""
        parts = [_counts("", self._done, self._total, self._failed, self._skipped)]
        if self._cell_count > 1:
            failed = len(self._failed_cells - {BEFORE, AFTER})
            done = sum(not left for cell, left in self._left_of_cell.items() if cell not in {BEFORE, AFTER}) - sum(
                not self._left_of_cell[cell] for cell in self._failed_cells - {BEFORE, AFTER}
            )
            parts.append(_counts("cells ", done, self._cell_count, failed, 0))
        seconds = self.seconds_left()
        if seconds:
            parts.append(f"about {duration_text(seconds)} left")
        return "; ".join(parts)

    def seconds_left(self) -> float | None:
        """Estimate of the time left; None while a kind of step that takes long was not measured yet."""
        left = {kind: count for kind, count in self._left.items() if count > 0}
        if any(kind in self._slow and not self._measured[kind] for kind in left):
            return None
        seconds = sum(
            count * self._seconds[kind] / self._measured[kind] for kind, count in left.items() if self._measured[kind]
        )
        return seconds / self.workers


def _kind(node: Node) -> str:
    return getattr(node.func, "__name__", node.name)


def _counts(what: str, done: int, total: int, failed: int, skipped: int) -> str:
    text = f"{done} of {total} {what}done"
    if failed or skipped:
        text += f", {failed} failed" + (f", {skipped} left out because of it" if skipped else "")
        text += f", {total - done - failed - skipped} left"
    return text


def duration_text(seconds: float) -> str:
    """Write a duration for people, in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
