"""The session behind ``kedro run``: its sequential runner goes on after a failed cell and resumes rightly."""

from __future__ import annotations

from typing import Any

from kedro.framework.session import KedroSession
from kedro.runner import AbstractRunner, SequentialRunner

from shopfloor.runners.local import LocalRunner


class ShopfloorSession(KedroSession):
    """Runs with :class:`~shopfloor.runners.local.LocalRunner` where Kedro's default is the SequentialRunner.

    The command line gives the session a SequentialRunner when no ``--runner`` is named, so both ways of asking for
    "one node after the other" get the runner that does this here. Any other runner is left alone.
    """

    def run(self, *, runner: AbstractRunner | None = None, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        if runner is None or type(runner) is SequentialRunner:
            runner = LocalRunner()
        return super().run(runner=runner, **kwargs)
