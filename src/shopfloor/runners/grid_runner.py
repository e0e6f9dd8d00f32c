"""What the project's runners share: the grid goes on after a failed cell, and a resumed run makes what is missing.

* A node that raises costs what depends on it and nothing else. Nodes that sum up (tag ``tolerates_missing_inputs``)
  run with :class:`~shopfloor.runners.missing.MissingResult` in the place of what is not there; the run ends with an
  error that lists the failures.
* ``--only-missing-outputs`` also runs again whatever lies downstream of a file that is made again, the reports above
  all. Such files are removed first, and in a run that makes everything again as soon as what they rest on is new, or
  could not be made: after an interruption or a failure nothing outdated counts as finished.
* One run at a time works on a data folder, or several on different shards of a grid.
"""

from __future__ import annotations

import logging
import signal
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner
from pluggy import PluginManager

from shopfloor.runners.failures import EmptyGridError
from shopfloor.runners.ledger import Ledger
from shopfloor.runners.lock import data_folder_of, hold
from shopfloor.runners.outdated import file_of, remove_files, remove_partial_files, resting_on
from shopfloor.runners.progress import Progress
from shopfloor.runners.shards import Shard, fingerprint

logger = logging.getLogger(__name__)


class GridRunner(AbstractRunner):
    """Base of the runners; each says in :meth:`_execute` where the nodes run.

    Args:
        shard: Part of the grid to make: ``3/8``, or ``prepare`` for what all trainings share. None for all of it.
        is_async: Not to be had; Kedro's command line says False.
    """

    def __init__(self, shard: str | None = None, is_async: bool = False) -> None:
        if is_async:
            raise click.ClickException(
                "is_async: this runner loads and saves one dataset after the other. Leave it out."
            )
        super().__init__(is_async=False)
        self._shard = Shard.parse(shard)
        self._resting: dict[str, list[str]] = {}

    @abstractmethod
    def _execute(
        self, pipeline: Pipeline, ledger: Ledger, progress: Progress, hook_manager: PluginManager, run_id: str | None
    ) -> None:
        """Run every node whose inputs are there, and book what becomes of it."""

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
            CannotWriteError: The disk is full, or may not be written.
            FailedNodesError: At the end, when a node raised.
        """
        if not pipeline.nodes:
            raise EmptyGridError
        part = self._shard.select(pipeline) if self._shard else pipeline
        if not part.nodes:
            logger.info("Shard %s has nothing to do: there are fewer trainings than shards.", self._shard)
            return {}
        with _ending_in_order(), hold(_data_folders(part, catalog), self._shard, fingerprint(pipeline)):
            part = self._clear(pipeline, part, catalog, only_missing_outputs)
            return super().run(part, catalog, hook_manager, run_id)

    def _clear(self, pipeline: Pipeline, part: Pipeline, catalog: CatalogProtocol, only_missing: bool) -> Pipeline:
        """Remove what must not count as finished; what is left to run."""
        remove_partial_files(part.all_outputs(), catalog)
        self._resting = resting_on(pipeline)
        missing = self._filter_pipeline_for_missing_outputs(part, catalog)
        outdated = {node.name for node in missing.nodes}
        if outdated and self._shard:  # what rests on the part, reports say, is no part of it
            outdated = {node.name for node in pipeline.from_nodes(*outdated).nodes}
        remove_files((name for node in pipeline.nodes if node.name in outdated for name in node.outputs), catalog)
        if not only_missing:
            return part
        skipped = len(part.nodes) - len(missing.nodes)
        logger.info("%d of %d steps are finished, %d to do.", skipped, len(part.nodes), len(missing.nodes))
        return missing

    def _filter_pipeline_for_missing_outputs(self, pipeline: Pipeline, catalog: CatalogProtocol) -> Pipeline:
        """Nodes whose outputs are missing, and all that lies downstream of them.

        Kedro alone leaves out the second: after one deleted checkpoint the metrics and reports stayed as they were.
        """
        missing = super()._filter_pipeline_for_missing_outputs(pipeline, catalog)
        return pipeline.from_nodes(*(node.name for node in missing.nodes)) if missing.nodes else missing

    def _log_filtering_results(self, *args: Any) -> None:
        """Say nothing: Kedro would list thousands of names; ``run`` says how many."""

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
        progress = Progress(pipeline)
        ledger = Ledger(pipeline, catalog, self._resting, progress)
        try:
            self._execute(pipeline, ledger, progress, hook_manager, run_id)
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
            logger.warning("Interrupted. The same command with --only-missing-outputs goes on from here.")
            raise
        ledger.close()


def _data_folders(pipeline: Pipeline, catalog: CatalogProtocol) -> set[Path]:
    files = (file_of(name, catalog) for name in pipeline.all_outputs())
    return {data_folder_of(file) for file in files if file is not None}


@contextmanager
def _ending_in_order() -> Iterator[None]:
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
