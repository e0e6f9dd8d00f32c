"""What the project's runners share: the grid goes on after a failed cell, and a resumed run makes what is not current.

* A node that raises costs what depends on it and nothing else. Nodes that sum up (tag ``tolerates_missing_inputs``)
  run with :class:`~shopfloor.runners.missing.MissingResult` in the place of what is not there; the run ends with an
  error that lists the failures.
* ``--only-missing-outputs`` makes what is missing or was made from other inputs than those there now, as the traces
  of the data folder tell (:mod:`shopfloor.runners.freshness`). Nothing is deleted: what is outdated does not count.
* One run at a time works on a data folder, or several on different shards of a grid.
"""

from __future__ import annotations

import logging
import signal
import threading
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner
from pluggy import PluginManager

from shopfloor.catalog.atomic_write import final_name, remove
from shopfloor.catalog.traces import TracesDataset
from shopfloor.runners.accelerators import refuse_missing_accelerators
from shopfloor.runners.cells import only
from shopfloor.runners.failures import EmptyGridError
from shopfloor.runners.freshness import Freshness, file_of
from shopfloor.runners.lock import hold
from shopfloor.runners.progress import Progress
from shopfloor.runners.refusals import Accepted, refuse_changed_folders, refuse_outdated_inputs, refuse_untraced
from shopfloor.runners.run_state import RunState
from shopfloor.runners.shards import Shard, fingerprint

logger = logging.getLogger(__name__)


class GridRunner(AbstractRunner):
    """Base of the runners; each says in :meth:`_execute` where the nodes run.

    Args:
        shard: Part of the grid to make: ``3/8``, or ``prepare`` for what all trainings share. None for all of it.
        is_async: Without effect; Kedro's command line always gives it.

    Attributes:
        registered: Gives every pipeline of the project, so that what a run takes from outside its filter is checked.
        accepted: What the user has accepted for this run.
        trains_here: Whether trainings run on this machine, so that its accelerators count.
    """

    def __init__(self, shard: str | None = None, is_async: bool = False) -> None:
        if is_async:
            logger.warning("is_async has no effect: this runner loads and saves one dataset after the other.")
        super().__init__(is_async=False)
        self.registered: Callable[[], Mapping[str, Pipeline]] = dict
        self.accepted = Accepted()
        self.trains_here = True
        self._shard = Shard.parse(shard)

    @abstractmethod
    def _execute(self, pipeline: Pipeline, state: RunState, hook_manager: PluginManager, run_id: str | None) -> None:
        """Run every node whose inputs are there, and record what becomes of it."""

    def run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
        only_missing_outputs: bool = False,
    ) -> dict[str, Any]:
        """Run the pipeline.

        Raises:
            EmptyGridError: The pipeline has no node.
            DataInUseError: Another run works on the same data folder.
            FolderChangedError: A dataset's folder changed after detectors were trained on it.
            NoAcceleratorError: A detector's entry names an accelerator that this machine does not have.
            OutdatedError: The run would take outdated results from outside its filter.
            UntracedError: Results are there of which nothing tells what they were made from.
            CannotWriteError: The disk is full, or may not be written.
            FailedNodesError: At the end, when a node raised.
        """
        if not pipeline.nodes:
            raise EmptyGridError
        part = self._shard.select(pipeline) if self._shard else pipeline
        if not part.nodes:
            logger.info("Shard %s has nothing to do: there are fewer trainings than shards.", self._shard)
            return {}
        traces: Any = catalog.get("traces")
        if traces is None:
            raise click.ClickException("The catalog has no entry `traces`. Copy it from the project's conf/base.")
        with _sigterm_as_exit(), hold(traces.data_folder, self._shard, fingerprint(pipeline)):
            whole = (*self.registered().values(), pipeline)
            nodes = [node for each in whole for node in each.nodes]
            freshness = Freshness(nodes, part.nodes, catalog, self.accepted.hash_everything)
            part = self._to_do(part, freshness, only_missing_outputs)
            if self.trains_here:
                refuse_missing_accelerators(part.nodes, catalog)
            _remove_partial_files(part, traces, catalog)
            self._prepared = freshness, only_missing_outputs
            return super().run(part, catalog, hook_manager, run_id)

    def _to_do(self, part: Pipeline, freshness: Freshness, only_missing: bool) -> Pipeline:
        """Refuse what would mix old and new; what is left to run."""
        logger.info("Looking at what earlier runs left.")
        findings = {node.name: freshness.of(node) for node in part.nodes}
        refuse_changed_folders(freshness, self.accepted)
        refuse_untraced(findings, self.accepted)
        to_do = [node for node in part.nodes if not (only_missing and findings[node.name].is_current)]
        refuse_outdated_inputs(freshness, to_do, self.registered())
        for message in dict.fromkeys(freshness.gone.values()):
            logger.warning("Results of earlier runs cannot be compared with what they were made from: %s", message)
        for trace in freshness.touched.values():
            freshness.traces.write(trace)
        if only_missing:
            done = len(part.nodes) - len(to_do)
            logger.info("%d of %d steps are finished, %d to do.", done, len(part.nodes), len(to_do))
            return only(part, [node.name for node in to_do])
        return part

    def _get_executor(self, max_workers: int) -> None:
        """None: Kedro's own way of running nodes ends with the first failure."""

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        if not pipeline.nodes:
            return
        if hook_manager is None:
            raise ValueError("A hook manager is needed, as a Kedro session gives one.")
        freshness, only_missing = self._prepared
        state = RunState(catalog, freshness, Progress(pipeline), only_missing)
        try:
            self._execute(pipeline, state, hook_manager, run_id)
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
            logger.warning("Interrupted. The same command with --only-missing-outputs goes on from here.")
            raise
        state.close()


def _remove_partial_files(pipeline: Pipeline, traces: TracesDataset, catalog: CatalogProtocol) -> None:
    """Remove what killed runs had begun to write of a pipeline's results and traces."""
    made = (file_of(catalog, name) for name in pipeline.all_outputs())
    wanted: dict[Path, set[str]] = defaultdict(set)
    for path in (*(traces.path(node.name) for node in pipeline.nodes), *filter(None, made)):
        wanted[path.parent].add(path.name)
    for folder, files in wanted.items():
        for partial in folder.glob(".partial-*"):
            if final_name(partial) in files:
                remove(partial)


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Lets a run that is told to end (a batch system's time limit, ``kill``) take away its lock and its workers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: Any) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
