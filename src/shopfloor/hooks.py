"""What happens around a run: notice changed data before it, name the report after it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

logger = logging.getLogger(__name__)


class ChangedFolderHooks:
    """Stops a run whose results would mix old and new files of a dataset folder."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Compare path, size and time of every indexed file with the folder, for the categories of this run."""
        from shopfloor.pipelines.data_prep.pipeline import INDEX_TAG

        for node in pipeline.nodes:
            if INDEX_TAG in node.tags and catalog.exists(node.outputs[0]):
                self._check(node.inputs, node.outputs[0], catalog)

    @staticmethod
    def _check(inputs: list[str], index_name: str, catalog: CatalogProtocol) -> None:
        from shopfloor.pipelines.data_prep.nodes import check_unchanged

        dataset: Any = catalog.get(index_name)
        path = Path(dataset._filepath)
        settings = [catalog.load(name) for name in inputs]
        try:
            check_unchanged(dataset.load(), path.stat().st_mtime_ns, *settings)
        except click.ClickException:
            raise
        except Exception as error:  # a damaged table can break anywhere
            raise click.ClickException(f"{path} cannot be used: {error}. Delete it and run again.") from error


class ReportPathHooks:
    """Ends a run with the path of its HTML report."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Name the reports of a run that succeeded."""
        _name_reports(pipeline, catalog)

    @hook_impl
    def on_pipeline_error(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Name the reports of a run in which cells failed; they show the holes."""
        _name_reports(pipeline, catalog)


def _name_reports(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    for name in sorted(pipeline.all_outputs()):
        if name.startswith("reporting.") and name.endswith(".report") and catalog.exists(name):
            dataset: Any = catalog.get(name)
            logger.info("Report: %s", Path(dataset._filepath).resolve())
