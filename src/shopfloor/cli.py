"""The project's command line: Kedro's ``run``, with mistakes in its options told in one line."""

from __future__ import annotations

import inspect
from copy import copy
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS
from kedro.runner import AbstractRunner
from kedro.utils import find_kedro_project, load_obj
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from shopfloor.planning.errors import joined, unknown
from shopfloor.session import refuse_foreign

_LOCAL_RUNNER = "shopfloor.runners.LocalRunner"
_RUNNERS = (_LOCAL_RUNNER, "shopfloor.runners.DaskRunner")


def _explained(option: click.Parameter) -> click.Parameter:
    """Copy one of Kedro's options so that a value that cannot be read is told, with the option's name."""
    read: Any = option.callback

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        shown, ctx.info_name = ctx.info_name, "run"  # the block that Kedro looks for in the file of --config
        try:
            return read(ctx, param, value)
        except (OmegaConfBaseException, YAMLError) as error:
            raise click.BadParameter(" ".join(str(error).split()), ctx, param) from error
        except KeyError as error:
            raise click.BadParameter(f"there is no block {error}.", ctx, param) from error
        except click.UsageError as error:
            if "must contain a key and a value" in error.message:
                remedy = "Several names are written with +, e.g. only.datasets=a+b."
                raise click.UsageError(f"{error.message} {remedy}", ctx) from error
            raise
        finally:
            ctx.info_name = shown

    option = copy(option)
    option.callback = callback
    return option


def _run(**options: Any) -> Any:
    """Look at what Kedro takes as it comes, and hand over to it."""
    if not options["conf_source"] and find_kedro_project(Path.cwd()) is None:
        raise click.ClickException(
            f"{Path.cwd()} is not in a Shopfloor project: no pyproject.toml with a block [tool.kedro] here or above. "
            "Change to the project's folder."
        )
    options["runner"] = options["runner"] or _LOCAL_RUNNER
    _check_runner(options["runner"], options["runner_params"])
    kedro: Any = kedro_run.callback
    return kedro(**options)


def _check_runner(name: str, params: dict[str, Any]) -> None:
    """Refuse what Kedro could not make a runner of, or what is none of the project's."""
    try:
        runner = load_obj(name, "kedro.runner")
    except (ImportError, AttributeError, ValueError) as error:
        raise click.ClickException(f"{unknown('--runner', name, _RUNNERS)} ({error})") from error
    if not (isinstance(runner, type) and issubclass(runner, AbstractRunner)):
        raise click.ClickException(f"--runner: {name} is no runner. Take one of {joined(_RUNNERS)}.")
    refuse_foreign(runner)
    signature = inspect.signature(runner)
    try:
        signature.bind(**{"is_async": False, **params})  # as Kedro does
    except TypeError as error:
        known = joined(signature.parameters)
        raise click.ClickException(f"--runner-params: {error}. Parameters of {runner.__name__}: {known}.") from error


run = click.Command(
    "run",
    params=[_explained(option) if option.callback else option for option in kedro_run.params],
    callback=_run,
    help=kedro_run.help,
    context_settings=CONTEXT_SETTINGS,
)
#: What Kedro looks for in this module; its commands take the place of Kedro's own.
cli = click.Group("kedro", commands=[run])
