"""Runners that keep a failure local and resume rightly: on one process, and on the workers of a Dask cluster."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["DaskRunner", "LocalRunner"]


def __getattr__(name: str) -> Any:
    """Import a runner when it is asked for: planning needs none, and Dask is an extra."""
    if name == "LocalRunner":
        from shopfloor.runners.local import LocalRunner

        return LocalRunner
    if name == "DaskRunner":
        try:
            from shopfloor.runners.dask_runner import DaskRunner
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in {"dask", "distributed"}:
                raise
            raise click.ClickException(
                "DaskRunner needs Dask, which is an extra: pip install 'shopfloor[cluster]' (in the project's folder: "
                "pip install -e '.[cluster]')."
            ) from error
        return DaskRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
