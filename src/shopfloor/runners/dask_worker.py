"""What happens on a worker: one node, with the project's hooks, and a failure that comes back as text."""

from __future__ import annotations

import logging
from functools import cache

from kedro.framework import project
from kedro.framework.hooks import manager as hooks
from pluggy import PluginManager

from shopfloor.catalog.traces import Trace
from shopfloor.runners.execution import Work, make
from shopfloor.runners.failures import Failure


def run_node(package: str | None, work: Work, run_id: str | None) -> Trace | Failure:
    """Run one node on this worker.

    Args:
        package: The project's package, of which the hooks are.
        work: The node and what it takes; its datasets are files or parameters.
        run_id: The run.

    Returns:
        The trace of what was made, or why it was not.
    """
    try:
        return make(work, _hooks(package), run_id)
    except (Exception, SystemExit) as error:  # the latter would end the worker, and the node would run again
        return Failure.of(error)


@cache
def _hooks(package: str | None) -> PluginManager:
    """The project's hooks; what is logged goes to where the run was started, and not to this worker's console too."""
    manager = hooks._create_hook_manager()
    if package:
        project.configure_project(package)
        hooks._register_hooks(manager, project.settings.HOOKS)
        hooks._register_hooks_entry_points(manager, project.settings.DISABLE_HOOKS_FOR_PLUGINS)
    logging.getLogger().handlers.clear()
    return manager
