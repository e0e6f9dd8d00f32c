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
        from shopfloor.catalog.index import FolderChangedError
        from shopfloor.pipelines.data_prep.nodes import check_unchanged
        from shopfloor.readers import DatasetError

        dataset: Any = catalog.get(index_name)
        path = Path(dataset._filepath)
        settings, *folder = (catalog.load(name) for name in inputs if not name.endswith(".files"))
        try:
            index = dataset.load()
            check_unchanged(index, settings, *folder)
        except FolderChangedError as error:
            if _is_trained_on(path):
                raise FolderChangedError(index, error.changed, path) from error
            logger.info("%s has changed since its last check, and nothing was trained on it: checked again.", path.name)
            path.unlink()
        except DatasetError as error:
            # The nodes that need the folder will say so, and cost their own cells only.
            logger.warning("%s", error.message)
        except click.ClickException:
            raise
        except Exception as error:  # a damaged table can break anywhere
            raise click.ClickException(f"{path} cannot be used: {error}. Delete it and run again.") from error


def _is_trained_on(index: Path) -> bool:
    """Whether a checkpoint of the category is there, in the layer of models beside that of the index."""
    dataset, category, *_ = index.name.split(".")
    return any((index.parents[1] / "06_models").glob(f"{dataset}.{category}.*"))


class TextureHooks:
    """Stops a run at once whose detectors would miss their textures, rather than after hours of other work."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """List the folder of textures that are still to be prepared, where a training of this run wants them."""
        from shopfloor.pipelines.data_prep.pipeline import TEXTURES_TAG

        wanted = {name for node in pipeline.nodes if node.namespace == "training" for name in node.inputs}
        for node in pipeline.nodes:
            if TEXTURES_TAG in node.tags and node.outputs[0] in wanted and not catalog.exists(node.outputs[0]):
                self._check(node.inputs[0], pipeline, node.outputs[0], catalog)

    @staticmethod
    def _check(entry: str, pipeline: Pipeline, textures: str, catalog: CatalogProtocol) -> None:
        from shopfloor.detectors.textures import list_textures

        settings = catalog.load(entry)
        if settings.get("generator"):
            return
        try:
            list_textures(settings.get("folder"), entry.removeprefix("params:textures."))
        except click.ClickException as error:
            trained = [node for node in pipeline.nodes if node.namespace == "training" and textures in node.inputs]
            detectors = sorted(
                {
                    name.removeprefix("params:detectors.")
                    for node in trained
                    for name in node.inputs
                    if name.startswith("params:detectors.")
                }
            )
            raise type(error)(
                f"{error.message} {len(trained)} trainings of {' and '.join(detectors)} need it; to run the others, "
                "leave these detectors out of the experiment's list."
            ) from error


class AccountHooks:
    """Prints the table of datasets as soon as it is made, and names its file."""

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Print the table."""
        from shopfloor.pipelines.data_prep.pipeline import ACCOUNT
        from shopfloor.readers.account import account_text

        if dataset_name == ACCOUNT:
            logger.info("Datasets:\n\n%s\n", account_text(data))


class ReportPathHooks:
    """Ends a run with the path of what it reports: the HTML page, the table of datasets."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Name the reports of a run that succeeded."""
        _name_reports(pipeline, catalog)

    @hook_impl
    def on_pipeline_error(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Name the reports of a run in which cells failed; they show the holes."""
        _name_reports(pipeline, catalog)


def _name_reports(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    from shopfloor.pipelines.data_prep.pipeline import ACCOUNT

    for name in sorted(pipeline.all_outputs()):
        is_report = name.startswith("reporting.") and name.endswith(".report")
        if (is_report or name == ACCOUNT) and catalog.exists(name):
            dataset: Any = catalog.get(name)
            logger.info("%s: %s", "Report" if is_report else "Datasets", Path(dataset._filepath).resolve())
