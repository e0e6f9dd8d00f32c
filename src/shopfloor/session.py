"""The session behind ``kedro run``: which runner it takes, and mistakes in what is asked for told in one line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import click
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.runner import AbstractRunner, SequentialRunner, ThreadRunner

from shopfloor.planning.errors import unknown
from shopfloor.runners.failures import EmptyGridError
from shopfloor.runners.grid_runner import GridRunner
from shopfloor.runners.local import LocalRunner
from shopfloor.runners.refusals import Accepted

logger = logging.getLogger(__name__)


class ShopfloorSession(KedroSession):
    """Runs with :class:`~shopfloor.runners.local.LocalRunner` where Kedro's default is the SequentialRunner."""

    def run(  # type: ignore[override]
        self, *, runner: AbstractRunner | None = None, load_versions: dict[str, str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run pipelines; see :meth:`kedro.framework.session.KedroSession.run`.

        Args:
            runner: One of the project's runners; None or a SequentialRunner for its LocalRunner.
            load_versions: Without effect.
            **kwargs: As Kedro's.

        Raises:
            ClickException: The runner is none of the project's; a pipeline, node, dataset, namespace or tag is
                unknown; no node meets all filters.
            EmptyGridError: The parameters leave nothing to run.
        """
        if load_versions:
            logger.warning("load_versions has no effect: results are not versioned.")
        if runner is None or type(runner) is SequentialRunner:
            runner = LocalRunner(is_async=getattr(runner, "_is_async", False))
        if isinstance(runner, AbstractRunner):
            refuse_foreign(type(runner))
        self._refuse_unknown_names(kwargs)
        if isinstance(runner, GridRunner):
            runner.registered = lambda: dict(pipelines)
            runner.accepted = Accepted.of(self.store.get("runtime_params") or {})
        try:
            return super().run(runner=runner, **kwargs)
        except ValueError as error:
            if "contains no nodes" in str(error):
                text = "Nothing to run: no step meets all filters (--tags, --nodes and the like)."
                raise click.ClickException(text) from error
            raise

    def _refuse_unknown_names(self, asked: Mapping[str, Any]) -> None:
        """Look up every name before the run; Kedro lists no known ones, and passes over unknown tags."""
        self._get_config_loader()  # the pipelines are made from its parameters
        names = asked.get("pipeline_names") or ["__default__"]
        pipelines.set_requested(asked.get("pipeline_names") or None)  # as Kedro does, which makes them once then
        for name in names:
            if name not in pipelines:
                raise click.ClickException(unknown("--pipelines", name, pipelines))
        nodes = [node for name in names for node in pipelines[name].nodes]
        if not nodes:
            raise EmptyGridError
        steps = {node.name for node in nodes}
        known = {
            "node_names": ("--nodes", steps),
            "from_nodes": ("--from-nodes", steps),
            "to_nodes": ("--to-nodes", steps),
            "from_inputs": ("--from-inputs", {name for node in nodes for name in node.inputs}),
            "to_outputs": ("--to-outputs", {name for node in nodes for name in node.outputs}),
            "namespaces": ("--namespaces", {str(node.namespace) for node in nodes}),
            "tags": ("--tags", {tag for node in nodes for tag in node.tags}),
        }
        for key, (option, all_names) in known.items():
            for name in asked.get(key) or ():
                if name not in all_names:
                    raise click.ClickException(unknown(option, name, all_names))


def refuse_foreign(runner: type[AbstractRunner]) -> None:
    """Refuse a runner that is none of the project's, nor the SequentialRunner, for which LocalRunner stands in.

    Raises:
        ClickException: It would bypass the lock on the data folder, resuming and the handling of failures, or train
            several detectors in threads of one process, which share their random numbers.
    """
    if runner is SequentialRunner or issubclass(runner, GridRunner):
        return
    if issubclass(runner, ThreadRunner):
        raise click.ClickException(
            "ThreadRunner would train detectors side by side in one process, where they share one stream of random "
            "numbers: results could not be repeated. Leave --runner out."
        )
    raise click.ClickException(
        f"{runner.__name__} knows neither the lock of the data folder nor how runs are resumed and failures handled "
        "here. Leave --runner out, or take --runner=shopfloor.runners.DaskRunner --runner-params=workers=2 for two "
        "processes. A runner of your own has to be a shopfloor.runners.grid_runner.GridRunner."
    )
