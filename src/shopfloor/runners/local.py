"""One process, one node after the other; what a run does beside that is in :mod:`shopfloor.runners.grid_runner`."""

from __future__ import annotations

from kedro.pipeline import Pipeline
from pluggy import PluginManager

from shopfloor.runners.execution import make
from shopfloor.runners.failures import Failure
from shopfloor.runners.grid_runner import GridRunner
from shopfloor.runners.run_state import Ledger


class LocalRunner(GridRunner):
    """Runs a grid on one process, stage by stage."""

    def _execute(self, pipeline: Pipeline, ledger: Ledger, hook_manager: PluginManager, run_id: str | None) -> None:
        for node in pipeline.nodes:
            if ledger.skips(node):
                continue
            try:
                trace = make(ledger.work(node), hook_manager, run_id)
            except Exception as error:
                ledger.failed(node, Failure.of(error))
            else:
                ledger.finished(node, trace)
