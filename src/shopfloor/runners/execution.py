"""Run one node and leave a trace of what its results were made from, on this process or on a worker."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click
from kedro.io import DataCatalog
from kedro.pipeline.node import Node
from kedro.runner.task import Task
from pluggy import PluginManager

from shopfloor.catalog.traces import Source, Trace, TracesDataset, file_id, stamp
from shopfloor.planning.binding import Sources
from shopfloor.planning.leaks import TRAINING_STAGE
from shopfloor.runners.cells import GPU
from shopfloor.runners.freshness import Given


class SourceChangedError(click.ClickException):
    """A file from outside was changed while a node read it."""


@dataclass(frozen=True)
class Work:
    """What it takes to run a node, on this process or sent to a worker.

    Attributes:
        node: The node.
        datasets: Its inputs and outputs.
        traces: Where its trace is kept.
        given: Ids of what it is given.
        sources: Files from outside that it reads.
        catalog: Id of the catalog's entries.
    """

    node: Node
    datasets: DataCatalog
    traces: TracesDataset
    given: Given
    sources: Sources | None
    catalog: str


def make(work: Work, hook_manager: PluginManager, run_id: str | None) -> Trace:
    """Run a node.

    The node's old trace goes first and the new one comes last, so that results that were saved in between, by a run
    that was killed, do not count.

    Args:
        work: What it takes.
        hook_manager: Kedro's hooks.
        run_id: The run.

    Returns:
        The trace.

    Raises:
        SourceChangedError: A file from outside was changed meanwhile.
    """
    started = time.monotonic()
    node, datasets, traces, sources = work.node, work.datasets, work.traces, work.sources
    files = sources.files if sources else {}
    before = {name: stamp(path) for name, path in files.items()}
    traces.begin(node.name)
    Task(node, datasets, is_async=False, hook_manager=hook_manager, run_id=run_id).execute()
    made = {name: datasets[name] for name in node.outputs}
    results = {name: traces.saved(each) for name, each in made.items() if hasattr(each, "_filepath")}
    read = {name: Source(file_id(path), found) for name, path in files.items() if (found := before[name])}
    if changed := [name for name, path in files.items() if stamp(path) != before[name]]:
        raise SourceChangedError(
            f"{files[changed[0]]} was changed while it was read ({len(changed)} files in all). Run again when nobody "
            "writes there."
        )
    trace = Trace(
        node.name,
        made_from=work.given,
        sources=read,
        notes=dict(sources.notes) if sources else {},
        results=results,
        catalog=work.catalog,
        trains=node.namespace == TRAINING_STAGE and GPU in node.tags,
        seconds=round(time.monotonic() - started, 3),
        recorded_ns=time.time_ns(),
    )
    traces.write(trace)
    return trace
