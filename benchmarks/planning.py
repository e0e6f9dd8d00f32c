"""How long a large grid takes to plan, and how long it takes to tell that all of it is finished.

Run with ``python benchmarks/planning.py``; ``--trainings`` sets the size. The second part writes a small file for every
result of the grid, with its trace, into a temporary folder, and looks at them as a resumed run does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from shopfloor.catalog.atomic_write import atomic_write
from shopfloor.catalog.traces import Saved, Source, Trace, file_id, stamp
from shopfloor.experiments.grid import expand_experiments
from shopfloor.pipeline_registry import experiment_pipeline
from shopfloor.planning.leaks import refuse_leaks
from shopfloor.runners.freshness import Freshness

PROJECT = Path(__file__).resolve().parents[1]
CATEGORIES = 50


def parameters(trainings: int, root: str = "parts") -> dict[str, Any]:
    """A model evaluation of ``trainings`` cells: 50 categories, 8 detectors, the rest seeds."""
    detectors = 8
    seeds = max(1, trainings // (CATEGORIES * detectors))
    detector = {"class_path": "x.Y", "learning_type": "one_class", "batch_size": 16, "trainer": {"max_epochs": 1}}
    grid = {"datasets": ["parts"], "image_sizes": [256]}
    names = [f"category_{i}" for i in range(CATEGORIES)]
    return {
        "datasets": {"parts": {"reader": "folder", "root": root, "categories": names}},
        "detectors": {f"detector_{i}": {**detector, "init_args": {"i": i}} for i in range(detectors)},
        "model_evaluation": {
            **grid, "detectors": [f"detector_{i}" for i in range(detectors)], "seeds": list(range(seeds))
        },
        "noisy_labels": {**grid, "detectors": ["detector_0"], "seeds": [0], "noise_percent": [4, 8, 16]},
    }  # fmt: skip


def make_photos(root: Path, images: int) -> None:
    """A tree like that of MVTec AD; nobody looks into the files."""
    for category in range(CATEGORIES):
        for part in ("train/good", "test/good", "test/bad"):
            folder = root / f"category_{category}" / part
            folder.mkdir(parents=True)
            for number in range(images // 3):
                (folder / f"{number:03}.png").write_bytes(b"photo")


def make_catalog(folder: Path, settings: dict[str, Any], pipeline: Pipeline) -> DataCatalog:
    """The project's catalog, with its files below a folder and without parameters that the grid does not have."""
    entries = yaml.safe_load((PROJECT / "conf" / "base" / "catalog.yml").read_text(encoding="utf-8"))
    entries = {name: entry for name, entry in entries.items() if not name.startswith("_")}
    for entry in entries.values():
        for key in ("filepath", "path"):
            if str(entry.get(key, "")).startswith("data/"):
                entry[key] = str(folder / entry[key])
            elif key in entry:
                entry[key] = str(PROJECT / entry[key])
    catalog = DataCatalog.from_config(entries)
    for name in pipeline.inputs():
        if name.startswith("params:"):
            value: Any = settings
            for key in name.removeprefix("params:").split("."):
                value = value.get(key) or {}
            catalog[name] = MemoryDataset(value)
    return catalog


def finish(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Write a small file for every result, and the traces."""
    freshness = Freshness(pipeline.nodes, pipeline.nodes, catalog)
    for node in pipeline.nodes:
        stand_ins = {name: finding.stand_in for name, finding in freshness.stand_ins(node).items()}
        given, sources = freshness.given(node, stand_ins), freshness.sources(node)
        assert given is not None
        results = {}
        for name in node.outputs:
            path = Path(catalog.get(name)._filepath)  # type: ignore[union-attr]
            with atomic_write(path, is_durable=False) as partial:
                partial.write_text(name, encoding="utf-8")
            saved = stamp(path)
            assert saved is not None
            results[name] = Saved(str(path.relative_to(freshness.traces.data_folder)), file_id(path), saved)
        files = sources.files if sources else {}
        read = {name: Source(file_id(path), stamp(path) or []) for name, path in files.items()}
        notes = dict(sources.notes) if sources else {}
        later = time.time_ns() + 10_000_000_000
        is_training = node.namespace == "training"
        trace = Trace(node.name, given, read, notes, results, freshness.catalog_id, is_training, 60.0, later)
        freshness.traces.write(trace)
        freshness.record(node, trace)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainings", type=int, default=2000)
    parser.add_argument("--images", type=int, default=30, help="photos per category")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "parts", arguments.images)
        settings = parameters(arguments.trainings, str(folder / "parts"))
        start = time.process_time()
        experiment = expand_experiments(settings)["model_evaluation"]
        expanded = time.process_time()
        pipeline = experiment_pipeline(experiment)
        made = time.process_time()
        refuse_leaks(pipeline, experiment.cells)
        done = time.process_time()
        print(f"{len(experiment.cells)} trainings, {len(pipeline.nodes)} nodes")
        print(f"cells               {expanded - start:6.2f} s")
        print(f"pipeline            {made - expanded:6.2f} s")
        print(f"guard against leaks {done - made:6.2f} s")
        print(f"planning, together  {done - start:6.2f} s")
        for what in ("nothing is there", "all is finished"):
            catalog = make_catalog(folder, settings, pipeline)
            start = time.process_time()
            freshness = Freshness(pipeline.nodes, pipeline.nodes, catalog)
            current = sum(freshness.of(node).is_current for node in pipeline.nodes)
            seconds = time.process_time() - start
            print(f"check, {what:17s}{seconds:6.2f} s ({current} of {len(pipeline.nodes)} nodes are current)")
            if not current:
                finish(pipeline, catalog)


if __name__ == "__main__":
    main()
