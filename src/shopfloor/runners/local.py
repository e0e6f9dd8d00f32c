"""One process, one node after the other, and the grid goes on after a failed cell.

Two things differ from Kedro's SequentialRunner:

* A node that raises costs what depends on it and nothing else. Nodes that sum up (tag ``tolerates_missing_inputs``)
  run with :class:`~shopfloor.runners.missing.MissingResult` in the place of what is not there; the run ends with an
  error that lists the failures.
* ``--only-missing-outputs`` also runs again whatever lies downstream of a file that is made again, the reports above
  all. Such files are removed first, and in a run that makes everything again as soon as what they rest on is new, or
  could not be made: after an interruption or a failure nothing outdated counts as finished.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from kedro.io import CatalogProtocol, DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner
from kedro.runner.task import Task
from pluggy import PluginManager

from shopfloor.runners.missing import TOLERANT, MissingResult

logger = logging.getLogger(__name__)


class FailedNodesError(click.ClickException):
    """Some nodes of the run raised; the rest is finished."""


class EmptyGridError(click.ClickException):
    """The parameters leave nothing to run."""

    def __init__(self) -> None:
        super().__init__(
            "Nothing to run: the grid is empty. Look at the experiment's lists and at `only`, "
            "which narrows them and adds nothing."
        )


class LocalRunner(SequentialRunner):
    """Runs a grid on one process; see the module's text."""

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
            FailedNodesError: At the end, when a node raised.
        """
        if not pipeline.nodes:
            raise EmptyGridError
        outdated = self._filter_pipeline_for_missing_outputs(pipeline, catalog)
        _remove_files(outdated.all_outputs(), catalog)
        if only_missing_outputs:
            skipped = len(pipeline.nodes) - len(outdated.nodes)
            logger.info("%d of %d steps are finished, %d to do.", skipped, len(pipeline.nodes), len(outdated.nodes))
            pipeline = outdated
        return super().run(pipeline, catalog, hook_manager, run_id)

    def _filter_pipeline_for_missing_outputs(self, pipeline: Pipeline, catalog: CatalogProtocol) -> Pipeline:
        """Nodes whose outputs are missing, and all that lies downstream of them.

        Kedro alone leaves out the second: after one deleted checkpoint the metrics and reports stayed as they were.
        """
        missing = super()._filter_pipeline_for_missing_outputs(pipeline, catalog)
        return pipeline.from_nodes(*(node.name for node in missing.nodes)) if missing.nodes else missing

    def _log_filtering_results(self, *args: Any) -> None:
        """Say nothing: Kedro would list thousands of names; ``run`` says how many."""

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        nodes = pipeline.nodes
        lost = _never_made(pipeline, catalog)  # dataset -> why it will not come
        consumers = _consumers(pipeline)
        failures: dict[str, str] = {}  # reason -> first node that gave it
        failed = 0
        for count, node in enumerate(nodes, start=1):
            tolerant = TOLERANT in node.tags
            if not tolerant and (causes := [lost[name] for name in node.inputs if name in lost]):
                lost.update(dict.fromkeys(node.outputs, causes[0]))
                if causes[0].status == "missing":
                    failures.setdefault(causes[0].reason, node.name)
                    failed += 1
                continue
            try:
                inputs = _with_missing(node, catalog, lost) if tolerant else catalog
                Task(node, inputs, is_async=False, hook_manager=hook_manager, run_id=run_id).execute()
            except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
                logger.warning("Interrupted. The same command with --only-missing-outputs goes on from here.")
                raise
            except Exception as error:
                reason = _reason(error)
                # The project's own errors and those of datasets say all there is to say.
                expected = isinstance(error, click.ClickException | DatasetError)
                if reason in failures:  # as for every category of a dataset that is not there
                    logger.error("%s failed for the same reason as %s.", node.name, failures[reason])
                else:
                    logger.error("%s failed: %s", node.name, reason, exc_info=None if expected else error)
                if not isinstance(error, DatasetError):  # a dataset that refuses to be replaced keeps its file
                    _remove_files(node.outputs, catalog)
                lost.update(dict.fromkeys(node.outputs, MissingResult("failed", reason)))
                failures.setdefault(reason, node.name)
                failed += 1
                continue
            _remove_files((output for child in consumers[node] for output in child.outputs), catalog)
            logger.info("%d of %d done: %s", count, len(nodes), node.name)
        if failures:
            raise FailedNodesError(_summary(failures, failed))


def _never_made(pipeline: Pipeline, catalog: CatalogProtocol) -> dict[str, MissingResult]:
    """Results of earlier stages that this pipeline takes and that are not there."""
    return {
        name: MissingResult(
            "missing",
            f"results of the stage {name.partition('.')[0]} are missing; run that stage first, or the experiment's "
            "whole pipeline with --only-missing-outputs",
        )
        for name in pipeline.inputs()
        if not name.startswith("param") and not catalog.exists(name)
    }


def _reason(error: BaseException) -> str:
    """The error's text, without what Kedro puts around an error that a dataset raised while it loaded or saved."""
    if isinstance(error, DatasetError):
        cause = error.__cause__
        if cause is None or isinstance(cause, click.ClickException | DatasetError):
            return _reason(cause) if cause else str(error)
        if "while loading" not in str(error):  # what was to be saved could not be made
            return _reason(cause)
        path = re.search(r"filepath=(?:Pure\w*Path\()?'?([^',)]+)", str(error))
        file = f"{path.group(1)}: " if path else ""
        return f"{file}{_reason(cause)}. If this file is damaged, delete it."
    if isinstance(error, click.ClickException):
        return error.message
    return f"{type(error).__name__}: {error}"


def _summary(failures: dict[str, str], failed: int) -> str:
    lines = [f"  {node}: {reason}" for reason, node in failures.items()]
    return "\n".join(
        [
            f"{failed} step{'s' if failed > 1 else ''} failed; everything that does not depend on "
            f"{'them' if failed > 1 else 'it'} is finished. Reasons, each with the first step it stopped:",
            *lines,
            "Mend the cause and run the same command with --only-missing-outputs: nothing finished is repeated.",
        ]
    )


def _with_missing(node: Node, catalog: CatalogProtocol, lost: dict[str, MissingResult]) -> DataCatalog:
    """The node's datasets, with a stand-in for each input that is not there."""
    datasets = {name: catalog[name] for name in (*node.inputs, *node.outputs)}
    for name in node.inputs:
        if name in lost:
            datasets[name] = MemoryDataset(lost[name])
    return DataCatalog(datasets)


def _consumers(pipeline: Pipeline) -> dict[Node, list[Node]]:
    """The nodes that take what a node makes."""
    makers = {output: node for node in pipeline.nodes for output in node.outputs}
    consumers: dict[Node, list[Node]] = {node: [] for node in pipeline.nodes}
    for node in pipeline.nodes:
        for maker in {makers[name] for name in node.inputs if name in makers}:
            consumers[maker].append(node)
    return consumers


def _remove_files(names: Iterable[str], catalog: CatalogProtocol) -> None:
    for name in names:
        path = Path(getattr(catalog.get(name), "_filepath", "") or "")
        if path.is_file():
            path.unlink()
