"""Files that must not count as finished: what rests on something new, what a killed run was writing."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from shopfloor.whole_files import name_of_partial


def file_of(name: str, catalog: CatalogProtocol) -> Path | None:
    """Where a dataset is kept; None for what lives in memory."""
    path = getattr(catalog.get(name), "_filepath", None)
    return Path(path) if path else None


def remove_files(names: Iterable[str], catalog: CatalogProtocol) -> None:
    """Remove the files of some datasets; what cannot be removed will be replaced or reported when it is written."""
    for name in names:
        path = file_of(name, catalog)
        if path is not None and path.is_file():
            with suppress(OSError):
                path.unlink()


def remove_partial_files(names: Iterable[str], catalog: CatalogProtocol) -> None:
    """Remove what killed runs had begun to write of some datasets."""
    wanted: dict[Path, set[str]] = defaultdict(set)
    for name in names:
        path = file_of(name, catalog)
        if path is not None:
            wanted[path.parent].add(path.name)
    for folder, files in wanted.items():
        for partial in folder.glob(".partial-*"):
            if name_of_partial(partial) in files:
                _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def resting_on(pipeline: Pipeline) -> dict[str, list[str]]:
    """By name of a node, the datasets made by the nodes that take what it makes."""
    makers = {output: node.name for node in pipeline.nodes for output in node.outputs}
    resting: dict[str, list[str]] = {node.name: [] for node in pipeline.nodes}
    for node in pipeline.nodes:
        for maker in {makers[name] for name in node.inputs if name in makers}:
            resting[maker] += node.outputs
    return resting
