"""Keep the state of a run: what is finished, what failed, and what will not come because of it."""

from __future__ import annotations

import logging
from typing import Any

import click
from kedro.io import CatalogProtocol, DataCatalog, MemoryDataset
from kedro.pipeline.node import Node

from shopfloor.catalog.atomic_write import CannotWriteError
from shopfloor.catalog.traces import Trace
from shopfloor.runners.execution import Work
from shopfloor.runners.failures import FailedNodesError, Failure, summary
from shopfloor.runners.freshness import Freshness, State
from shopfloor.runners.missing import ACROSS_GRIDS, TOLERANT, MissingResult
from shopfloor.runners.progress import Progress

logger = logging.getLogger(__name__)


class RunState:
    """Records what becomes of each node; a failure costs what depends on it and nothing else.

    Every runner records here, so failures, stand-ins and traces are the same on one process and on a cluster.

    Args:
        catalog: The datasets.
        freshness: What is current.
        progress: Told of everything that is recorded.
        only_outdated: Whether a node whose results prove to be current when its turn comes is left out.
    """

    def __init__(
        self,
        catalog: CatalogProtocol,
        freshness: Freshness,
        progress: Progress,
        only_outdated: bool,
    ) -> None:
        self.catalog = catalog
        self.progress = progress
        self._freshness = freshness
        self._only_outdated = only_outdated
        self._lost: dict[str, MissingResult] = {}  # dataset -> why it will not come
        self._failures: dict[str, str] = {}  # reason -> first node that gave it
        self._failed = 0
        self._outdated: dict[str, str] = {}  # result of an earlier stage that reports show as outdated -> why

    def _lose_inputs(self, node: Node) -> None:
        """Record results from outside the run that this node takes and that are not there or outdated."""
        for name in node.inputs:
            finding = self._freshness.of_input(name, node)
            if finding.is_current or self._freshness.is_made_in_run(name):
                continue
            if finding.state is State.MISSING:
                maker = self._freshness.maker(name)
                what = f"results of the stage {maker.namespace}" if maker and maker.namespace else name
                self._lost[name] = MissingResult("missing", f"{what} are missing ({finding.why}); {_REMEDY}")
                continue
            self._lost[name] = MissingResult("outdated", f"{finding.why}; {WHAT_TO_RUN}")
            if ACROSS_GRIDS not in node.tags:
                self._outdated[name] = finding.why

    def skips(self, node: Node) -> bool:
        """Whether the node, whose turn it is, does not run: something is lost, or its results are current after all."""
        self._lose_inputs(node)
        lost = [self._lost[name] for name in node.inputs if name in self._lost]
        if not lost and self._only_outdated and self._freshness.look_again(node).is_current:
            self.progress.unchanged(node)
            return True
        if not lost or TOLERANT in node.tags:
            return False
        self._lost.update(dict.fromkeys(node.outputs, lost[0]))
        self._freshness.record(node, None)
        if lost[0].status != "failed":
            self._failures.setdefault(lost[0].reason, node.name)
            self._failed += 1
        self.progress.skipped(node)
        return True

    def work(self, node: Node) -> Work:
        """Gather what running the node takes; an input that is not there is replaced by a stand-in."""
        datasets: dict[str, Any] = {name: self.catalog[name] for name in (*node.inputs, *node.outputs)}
        lost = {name: self._lost[name] for name in node.inputs if name in self._lost}
        datasets |= {name: MemoryDataset(stand_in) for name, stand_in in lost.items()}
        outdated = {name for name, each in lost.items() if each.status == State.OUTDATED}
        states = {name: State.OUTDATED if name in outdated else State.MISSING for name in lost}
        given = self._freshness.given(node, states)
        if given is None:
            raise ValueError(f"An input of {node.name} is neither made nor recorded as lost.")
        try:
            sources = self._freshness.sources(node)
        except click.ClickException:  # the node will say so
            sources = None
        return Work(node, DataCatalog(datasets), self._freshness.traces, given, sources, self._freshness.catalog_id)

    def finished(self, node: Node, trace: Trace) -> None:
        """Record a node that has made its files."""
        self._freshness.record(node, trace)
        self.progress.finished(node, trace.seconds)

    def failed(self, node: Node, failure: Failure) -> None:
        """Record a node that raised.

        Raises:
            CannotWriteError: No other node could save what it makes either.
        """
        if failure.stops_run:
            raise CannotWriteError(failure.reason)
        if failure.reason in self._failures:  # as for every category of a dataset that is not there
            logger.error("%s failed for the same reason as %s.", node.name, self._failures[failure.reason])
        else:
            trace = f"\n{failure.trace}" if failure.trace else ""
            logger.error("%s failed: %s%s", node.name, failure.reason, trace)
        self._lost.update(dict.fromkeys(node.outputs, MissingResult("failed", failure.reason)))
        self._freshness.record(node, None)
        self._failures.setdefault(failure.reason, node.name)
        self._failed += 1
        self.progress.failed(node)

    def close(self) -> None:
        """End the run.

        Raises:
            FailedNodesError: A node failed, or a report shows results as outdated.
        """
        if self._failures:
            raise FailedNodesError(summary(self._failures, self._failed))
        if self._outdated:
            name, why = next(iter(self._outdated.items()))
            raise FailedNodesError(
                f"{len(self._outdated)} results are outdated and shown as such (first: {name}: {why}); {WHAT_TO_RUN}."
            )


WHAT_TO_RUN = "run the experiment's whole pipeline with --only-missing-outputs, which makes what is outdated"
_REMEDY = (
    "run that stage first (shard=prepare, where the grid is run in shards), or the experiment's whole pipeline with "
    "--only-missing-outputs"
)
