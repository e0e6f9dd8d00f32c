"""The session behind ``kedro run``: its sequential runner goes on after a failed cell and resumes rightly."""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.runner import AbstractRunner, SequentialRunner, ThreadRunner

from shopfloor.runners.failures import EmptyGridError
from shopfloor.runners.grid_runner import GridRunner
from shopfloor.runners.local import LocalRunner
from shopfloor.runners.refusals import Accepted


class ShopfloorSession(KedroSession):
    """Runs with :class:`~shopfloor.runners.local.LocalRunner` where Kedro's default is the SequentialRunner.

    The command line gives the session a SequentialRunner when no ``--runner`` is named, so both ways of asking for
    "one node after the other" get the runner that does this here.
    """

    def run(self, *, runner: AbstractRunner | None = None, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Run pipelines; see :meth:`kedro.framework.session.KedroSession.run`.

        Raises:
            ClickException: The runner would train several detectors in threads of one process, which share their
                random numbers; or there is no such pipeline.
            EmptyGridError: The parameters and filters leave nothing to run.
        """
        if isinstance(runner, ThreadRunner):
            raise click.ClickException(
                "ThreadRunner would train detectors side by side in one process, where they share one stream of random "
                "numbers: results could not be repeated. Leave --runner out."
            )
        if runner is None or type(runner) is SequentialRunner:
            runner = LocalRunner()
        if isinstance(runner, GridRunner):
            runner.registered = lambda: dict(pipelines)
            runner.accepted = Accepted.of(self.store.get("runtime_params") or {})
        try:
            return super().run(runner=runner, **kwargs)
        except ValueError as error:
            if "contains no nodes" in str(error):
                raise EmptyGridError from error
            if "Failed to find the pipeline" in str(error):
                raise click.ClickException(str(error)) from error
            raise
