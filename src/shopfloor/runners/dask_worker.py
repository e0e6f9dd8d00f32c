"""What happens on a worker: one node, with the project's hooks, and a failure that comes back as text."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from kedro.framework import project
from kedro.framework.hooks import manager as hooks
from kedro.io import DataCatalog
from kedro.pipeline.node import Node
from pluggy import PluginManager

from shopfloor.catalog.traces import Trace
from shopfloor.runners.execution import make
from shopfloor.runners.failures import Failure


def run_node(package: str | None, node: Node, catalog: DataCatalog, *work_and_run: Any) -> Trace | Failure:
    """Run one node on this worker.

    Args:
        package: The project's package, of which the hooks are.
        node: The node.
        catalog: Its datasets, all of them files or parameters.
        *work_and_run: What :func:`~shopfloor.runners.execution.make` takes beside them, and the run's id.

    Returns:
        The trace of what was made, or why it was not.
    """
    *work, run_id = work_and_run
    try:
        return make(node, catalog, *work, _hooks(package), run_id)
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
