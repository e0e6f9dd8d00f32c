"""What happens around a run: notice missing textures before it, name the report after it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from shopfloor.planning.binding import bound
from shopfloor.planning.names import DETECTOR_PARAMS

logger = logging.getLogger(__name__)


class TextureHooks:
    """Stops a run at once whose detectors would miss their textures, rather than after hours of other work."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """List the folder of textures that are still to be prepared, where a training of this run wants them."""
        from shopfloor.detectors.textures import list_textures
        from shopfloor.pipelines.data_prep.pipeline import TEXTURES_TAG

        for node in pipeline.nodes:
            if TEXTURES_TAG not in node.tags or catalog.exists(node.outputs[0]):
                continue
            takers = [each for each in pipeline.nodes if node.outputs[0] in each.inputs]
            entry, name = node.inputs[0], bound(node.func)["name"]
            try:
                settings = catalog.load(entry)
                if not settings.get("generator"):
                    list_textures(settings.get("folder"), name)
            except click.ClickException as error:
                if takers:
                    entries = {name for each in takers for name in each.inputs if name.startswith(DETECTOR_PARAMS)}
                    detectors = sorted(name.removeprefix(DETECTOR_PARAMS) for name in entries)
                    raise type(error)(
                        f"{error.message} {len(takers)} trainings of {' and '.join(detectors)} need it; to run the "
                        "others, leave these detectors out of the experiment's list."
                    ) from error


class DatasetSummaryHooks:
    """Prints the summary of the datasets as soon as it is made, and names its file."""

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Print the table."""
        from shopfloor.pipelines.data_prep.pipeline import DATASET_SUMMARY
        from shopfloor.readers.summary import summary_text

        if dataset_name == DATASET_SUMMARY:
            logger.info("Datasets:\n\n%s\n", summary_text(data))


class ReportPathHooks:
    """Ends a run with the path of what it reports: the HTML page, the table of datasets."""

    def __init__(self) -> None:
        self._started_ns = 0

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Remember when the run began."""
        self._started_ns = time.time_ns()

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Name the reports of a run that succeeded, made now or current before."""
        _name_reports(pipeline, catalog, 0)

    @hook_impl
    def on_pipeline_error(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Name the reports that a run made in which cells failed; they show the holes."""
        _name_reports(pipeline, catalog, self._started_ns)


def _name_reports(pipeline: Pipeline, catalog: CatalogProtocol, since_ns: int) -> None:
    from shopfloor.pipelines.data_prep.pipeline import DATASET_SUMMARY
    from shopfloor.pipelines.reporting.pipeline import REPORT_TAG

    traces: Any = catalog.get("traces")
    for node in pipeline.nodes:
        if REPORT_TAG not in node.tags and DATASET_SUMMARY not in node.outputs:
            continue
        trace = traces.read(node.name)
        if trace and trace.results and trace.recorded_ns >= since_ns:
            dataset: Any = catalog.get(node.outputs[0])
            kind = "Report" if REPORT_TAG in node.tags else "Datasets"
            logger.info("%s: %s", kind, Path(dataset._filepath).resolve())
