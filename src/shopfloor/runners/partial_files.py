"""Files that killed runs had begun to write."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from shopfloor.catalog.atomic_write import final_name, remove
from shopfloor.runners.freshness import file_of


def remove_partial_files(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Remove what killed runs had begun to write of a pipeline's results and traces."""
    traces: Any = catalog.get("traces")
    paths = [traces.path(node.name) for node in pipeline.nodes]
    made = (file_of(catalog, name) for name in pipeline.all_outputs())
    wanted: dict[Path, set[str]] = defaultdict(set)
    for path in (*paths, *filter(None, made)):
        wanted[path.parent].add(path.name)
    for folder, files in wanted.items():
        for partial in folder.glob(".partial-*"):
            if final_name(partial) in files:
                remove(partial)
