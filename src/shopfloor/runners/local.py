"""One process, one node after the other; what a run does beside that is in :mod:`shopfloor.runners.grid_runner`."""

from __future__ import annotations

from kedro.pipeline import Pipeline
from pluggy import PluginManager

from shopfloor.runners.execution import make
from shopfloor.runners.failures import Failure
from shopfloor.runners.grid_runner import GridRunner
from shopfloor.runners.run_state import RunState


class LocalRunner(GridRunner):
    """Runs a grid on one process, stage by stage."""

    def _execute(self, pipeline: Pipeline, state: RunState, hook_manager: PluginManager, run_id: str | None) -> None:
        for node in pipeline.nodes:
            if state.skips(node):
                continue
            try:
                trace = make(state.work(node), hook_manager, run_id)
            except Exception as error:
                state.failed(node, Failure.of(error))
            else:
                state.finished(node, trace)
