"""One process, one node after the other; what a run does beside that is in :mod:`shopfloor.runners.grid_runner`."""

from __future__ import annotations

import time

from kedro.pipeline import Pipeline
from kedro.runner.task import Task
from pluggy import PluginManager

from shopfloor.runners.failures import Failure
from shopfloor.runners.grid_runner import GridRunner
from shopfloor.runners.ledger import Ledger
from shopfloor.runners.progress import Progress


class LocalRunner(GridRunner):
    """Runs a grid on one process, stage by stage."""

    def _execute(
        self, pipeline: Pipeline, ledger: Ledger, progress: Progress, hook_manager: PluginManager, run_id: str | None
    ) -> None:
        for node in pipeline.nodes:
            if ledger.skips(node):
                continue
            start = time.monotonic()
            try:
                datasets = ledger.datasets(node)
                Task(node, datasets, is_async=False, hook_manager=hook_manager, run_id=run_id).execute()
            except Exception as error:
                ledger.failed(node, Failure.of(error))
            else:
                ledger.finished(node, time.monotonic() - start)
