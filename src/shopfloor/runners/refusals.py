"""Stop a run that would mix old and new, and say what to do."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from kedro.io.core import is_parameter
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from shopfloor.runners.freshness import Finding, Freshness, State
from shopfloor.runners.missing import TOLERANT
from shopfloor.runners.progress import duration_text

logger = logging.getLogger(__name__)

#: Options of ``kedro run`` that leave out a part of a pipeline, or name it.
_FILTER_OPTIONS = (
    "--pipeline", "--pipelines", "-p", "--namespaces", "-ns", "--nodes", "-n", "--from-nodes", "--to-nodes",
    "--from-inputs", "--to-outputs", "--tags", "-t",
)  # fmt: skip


#: Run-time parameters that say how a run looks at what earlier runs left.
_SETTINGS = ("accept_changed", "replace_untraced", "hash_everything")


class FolderChangedError(click.ClickException):
    """A dataset's folder is not what detectors were trained on."""


class OutdatedError(click.ClickException):
    """A filtered run would take outdated results from outside its filter."""


class UntracedError(click.ClickException):
    """Results are there of which nothing tells what they were made from."""


@dataclass(frozen=True)
class Accepted:
    """What the user accepts for one run, as runtime parameters (``kedro run --params=...``).

    Attributes:
        changed: ``accept_changed``: datasets (``parts`` or ``parts/bolt``) whose folder is to be used as it is now.
        replace_untraced: Whether results without a trace are to be made again.
        hash_everything: Whether every file is read, instead of going by size and time.
    """

    changed: tuple[str, ...] = ()
    replace_untraced: bool = False
    hash_everything: bool = False

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Accepted:
        """Read them from runtime parameters.

        Raises:
            ClickException: A value is of the wrong kind.
        """
        for name in parameters:
            if name not in _SETTINGS and (meant := get_close_matches(name, _SETTINGS, 1, 0.85)):
                raise click.ClickException(f"{name} is no parameter. Is {meant[0]} meant?")
        named = parameters.get("accept_changed") or []
        switches = {name: parameters.get(name, False) for name in ("replace_untraced", "hash_everything")}
        if wrong := [name for name, value in switches.items() if not isinstance(value, bool)]:
            raise click.ClickException(f"{wrong[0]}: say true or false, not {switches[wrong[0]]!r}.")
        names = named if isinstance(named, list) else str(named).split("+")
        return cls(tuple(map(str, names)) if named else (), **switches)

    def covers(self, dataset: str, category: str) -> bool:
        """Whether the change of a category's folder is accepted."""
        return bool({dataset, f"{dataset}/{category}"} & set(self.changed))


def refuse_changed_folders(freshness: Freshness, accepted: Accepted) -> None:
    """Stop a run whose datasets changed after detectors were trained on them, unless the user accepts it.

    Raises:
        FolderChangedError: With what changed, what rests on it, and what to do.
        ClickException: ``accept_changed`` names a dataset that this run does not have.
    """
    folders = freshness.folders()
    known = {name for dataset, category in folders for name in (dataset, f"{dataset}/{category}")}
    if unknown := [name for name in accepted.changed if name not in known]:
        raise click.ClickException(
            f"accept_changed: {unknown[0]!r} is no dataset of this grid. Its datasets: {', '.join(sorted(known))}."
        )
    refused: dict[tuple[str, str], str] = {}
    for (dataset, category), nodes in folders.items():
        changed = freshness.changed(nodes)
        if not changed:
            continue
        resting = [trace for trace in freshness.resting_on(nodes) if trace.trains and trace.results]
        if not resting:
            logger.info(
                "%s/%s has changed since its last check, and nothing was trained on it: checked again.",
                *(dataset, category),
            )
        elif accepted.covers(dataset, category):
            logger.info("%s/%s: the change of %d files is accepted.", dataset, category, len(changed))
        else:
            seconds = sum(trace.seconds for trace in resting)
            refused[dataset, category] = (
                f"[FOLDER_CHANGED] {dataset}/{category}: {_count(changed, 'image or mask', 'images or masks')} added, "
                f"removed, altered or listed otherwise since results were made from this folder (first: {changed[0]}). "
                f"{_count(resting, 'training')} rested on it ({duration_text(seconds)} when made)."
            )
    if refused:
        datasets = [*dict.fromkeys([*accepted.changed, *(dataset for dataset, _ in refused)])]
        setting = f"accept_changed={'+'.join(datasets)}"
        raise FolderChangedError(
            "\n".join(refused.values()) + "\nOld and new files must not be mixed: put the files back, or accept the "
            f"change by the run-time parameter {setting}:\n  {_command(setting=setting)}\nThen exactly what depends on "
            "the changed files is made again, here now and in every other experiment when it is run."
        )


def refuse_untraced(findings: Mapping[str, Finding], accepted: Accepted) -> None:
    """Stop a run that would overwrite results of which nothing tells what they were made from.

    Raises:
        UntracedError: With their number, the first of them, and what to do.
    """
    untraced = [finding for finding in findings.values() if finding.state is State.UNTRACED]
    if untraced and not accepted.replace_untraced:
        raise UntracedError(
            f"Results of {_count(untraced, 'step')} are there without a trace of what they were made from: an earlier "
            f"version of Shopfloor made them, or they were copied (first: {untraced[0].why}). They are not used, and "
            "nothing is deleted unasked. Move them away, or have them replaced by the run-time parameter "
            "replace_untraced=true:\n"
            f"  {_command(setting='replace_untraced=true')}"
        )


def refuse_outdated_inputs(freshness: Freshness, to_do: Iterable[Node], registered: Mapping[str, Pipeline]) -> None:
    """Stop a filtered run that would take outdated results from outside its filter.

    Nodes that show them as outdated, such as those that make reports, are not stopped.

    Raises:
        OutdatedError: With the first of them and what to run.
    """
    outdated: dict[str, str] = {}
    for node in to_do:
        for name in node.inputs if TOLERANT not in node.tags else ():
            finding = freshness.of_input(name, node)
            if not freshness.is_made_in_run(name) and finding.state in (State.OUTDATED, State.UNTRACED):
                outdated[name] = finding.why
    if outdated:
        first, why = next(iter(outdated.items()))
        command = _command(pipeline=_whole_pipeline_of(freshness.maker(first), registered))
        raise OutdatedError(
            f"Outdated, and taken from outside this run's filter: {_count(outdated, 'result')} (first: {first}: {why})."
            f" Run first: {command}"
        )


def _whole_pipeline_of(node: Node | None, registered: Mapping[str, Pipeline]) -> str | None:
    """The first registered pipeline that makes what a node makes from the raw data on."""
    for name, pipeline in registered.items():
        makers = {output: each for each in pipeline.nodes for output in each.outputs}
        if node and node in pipeline.nodes and all(is_parameter(each) or each in makers for each in node.inputs):
            return name
    return None


def _command(*, setting: str = "", pipeline: str | None = None) -> str:
    """The command line of this run as it should be: with a run-time parameter more, or for another pipeline."""
    program = "python -m shopfloor" if Path(sys.argv[0]).parent.name == "shopfloor" else "kedro run"
    given = _options(sys.argv[1:])
    if pipeline is not None:
        given = {name: value for name, value in given.items() if name not in _FILTER_OPTIONS}
        if pipeline != "__default__":
            given["--pipeline"] = pipeline
        if "shard=" in (given.get("--runner-params") or ""):
            given["--runner-params"] = re.sub(r"shard=[^,]*", "shard=prepare", str(given["--runner-params"]))
    if setting:
        name, _, _ = setting.partition("=")
        others = [each for each in (given.get("--params") or "").split(",") if each.partition("=")[0] != name]
        given["--params"] = ",".join(filter(None, [*others, setting]))
    given["--only-missing-outputs"] = None
    return " ".join(
        [program, *(name if value is None else f"{name}={shlex.quote(value)}" for name, value in given.items())]
    )


def _options(arguments: list[str]) -> dict[str, str | None]:
    """Options of ``kedro run`` by name; a value may be written behind ``=`` or as the next word."""
    found: dict[str, str | None] = {}
    words = iter(arguments if "run" not in arguments else arguments[arguments.index("run") + 1 :])
    last = ""
    for word in words:
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            last = name
            found[name] = value if equals else None
        elif last:
            found[last] = word
    return found


def _count(things: Sized, one: str, several: str = "") -> str:
    return f"{len(things)} {one if len(things) == 1 else several or one + 's'}"
