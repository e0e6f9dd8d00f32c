"""The command ``python -m shopfloor`` (or ``shopfloor``): ``kedro run`` of this project, in its folder."""

from __future__ import annotations

import sys
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args: Any, **kwargs: Any) -> Any:
    """Run pipelines; the arguments are those of ``kedro run``, by default the process's own."""
    configure_project("shopfloor")
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    return find_run_command("shopfloor")(*args, **kwargs)


if __name__ == "__main__":
    main()
