"""The account of a run: what is finished, what failed, and what will not come because of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from kedro.io import CatalogProtocol, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from shopfloor.runners.failures import FailedNodesError, Failure, summary
from shopfloor.runners.missing import TOLERANT, MissingResult
from shopfloor.runners.outdated import remove_files
from shopfloor.runners.progress import Progress
from shopfloor.whole_files import CannotWriteError

logger = logging.getLogger(__name__)


class Ledger:
    """Books what becomes of each node; a failure costs what depends on it and nothing else.

    Every runner books here, so failures, stand-ins and outdated files are the same on one process and on a cluster.

    Args:
        pipeline: What is to be run.
        catalog: Its datasets.
        resting: By name of a node, the datasets that rest on what it makes.
        progress: Told of everything that is booked.
    """

    def __init__(
        self, pipeline: Pipeline, catalog: CatalogProtocol, resting: Mapping[str, Sequence[str]], progress: Progress
    ) -> None:
        self.catalog = catalog
        self._resting = resting
        self._progress = progress
        self._lost = _never_made(pipeline, catalog)  # dataset -> why it will not come
        self._failures: dict[str, str] = {}  # reason -> first node that gave it
        self._failed = 0

    def skips(self, node: Node) -> bool:
        """Whether the node cannot run because of what is lost; if so, what it makes is lost too."""
        if TOLERANT in node.tags:
            return False
        causes = [self._lost[name] for name in node.inputs if name in self._lost]
        if not causes:
            return False
        self._lost.update(dict.fromkeys(node.outputs, causes[0]))
        if causes[0].status == "missing":
            self._failures.setdefault(causes[0].reason, node.name)
            self._failed += 1
        self._progress.skipped(node)
        return True

    def datasets(self, node: Node) -> DataCatalog:
        """The node's datasets alone, with a stand-in for each input that is not there."""
        datasets = {name: self.catalog[name] for name in (*node.inputs, *node.outputs)}
        for name in node.inputs:
            if name in self._lost:
                datasets[name] = MemoryDataset(self._lost[name])
        return DataCatalog(datasets)

    def finished(self, node: Node, seconds: float) -> None:
        """The node has made its files; what rested on the old ones is outdated."""
        remove_files(self._resting.get(node.name, ()), self.catalog)
        self._progress.finished(node, seconds)

    def failed(self, node: Node, failure: Failure) -> None:
        """The node raised.

        Raises:
            CannotWriteError: No other node could save what it makes either.
        """
        if not failure.keeps_files:
            remove_files(node.outputs, self.catalog)
        if failure.stops_run:
            raise CannotWriteError(failure.reason)
        if failure.reason in self._failures:  # as for every category of a dataset that is not there
            logger.error("%s failed for the same reason as %s.", node.name, self._failures[failure.reason])
        else:
            trace = f"\n{failure.trace}" if failure.trace else ""
            logger.error("%s failed: %s%s", node.name, failure.reason, trace)
        self._lost.update(dict.fromkeys(node.outputs, MissingResult("failed", failure.reason)))
        self._failures.setdefault(failure.reason, node.name)
        self._failed += 1
        self._progress.failed(node)

    def close(self) -> None:
        """End the run.

        Raises:
            FailedNodesError: A node failed.
        """
        if self._failures:
            raise FailedNodesError(summary(self._failures, self._failed))


def _never_made(pipeline: Pipeline, catalog: CatalogProtocol) -> dict[str, MissingResult]:
    """Results of earlier stages that this pipeline takes and that are not there."""
    return {
        name: MissingResult(
            "missing",
            f"results of the stage {name.partition('.')[0]} are missing; run that stage first (shard=prepare, where "
            "the grid is run in shards), or the experiment's whole pipeline with --only-missing-outputs",
        )
        for name in pipeline.inputs()
        if not name.startswith("param") and not catalog.exists(name)
    }
