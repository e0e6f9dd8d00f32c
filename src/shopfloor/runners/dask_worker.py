"""What happens on a worker: one node, with the project's hooks, and a failure that comes back as text."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cache

from kedro.framework import project
from kedro.framework.hooks import manager as hooks
from kedro.io import DataCatalog
from kedro.pipeline.node import Node
from kedro.runner.task import Task
from pluggy import PluginManager

from shopfloor.runners.failures import Failure


@dataclass(frozen=True)
class Outcome:
    """What became of a node.

    Attributes:
        seconds: How long it ran.
        failure: Why it did not finish.
    """

    seconds: float
    failure: Failure | None = None


def run_node(package: str | None, node: Node, catalog: DataCatalog, run_id: str | None) -> Outcome:
    """Run one node on this worker.

    Args:
        package: The project's package, of which the hooks are.
        node: The node.
        catalog: Its datasets, all of them files or parameters.
        run_id: The run.
    """
    start = time.monotonic()
    failure = None
    try:
        Task(node, catalog, is_async=False, hook_manager=_hooks(package), run_id=run_id).execute()
    except (Exception, SystemExit) as error:  # the latter would end the worker, and the node would run again
        failure = Failure.of(error)
    return Outcome(time.monotonic() - start, failure)


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
