"""What Dask costs per step, and what a second worker brings; run with ``python benchmarks/dask_overhead.py``.

Steps that do nothing but write a small file show what is added to each: choosing it, sending it to a worker, booking
it. Trainings that take a second or two, PaDiM on images made up here, show what is left of twice the workers; every
worker computes in one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from shopfloor.runners import DaskRunner, LocalRunner
from shopfloor.runners.dask_cluster import ClusterOptions, connect

SIZE = 128


def touch(cell: int) -> str:
    return str(cell)


def train(cell: int, images: int) -> str:
    """Fit PaDiM on noise; what it learns is of no interest."""
    import numpy as np
    import pandas as pd

    from shopfloor.catalog.image_stack import ImagePart
    from shopfloor.detectors.fit import fit

    stack = np.random.default_rng(cell).integers(0, 256, (images, SIZE, SIZE, 3), dtype=np.uint8)
    table = pd.DataFrame({"row": range(images), "image": [f"{row}.png" for row in range(images)], "label": "good"})
    detector = {
        "class_path": "anomalib.models.Padim",
        "init_args": {"backbone": "resnet18", "layers": ["layer1", "layer2", "layer3"], "pre_trained": False},
        "learning_type": "one_class",
        "batch_size": 8,
    }
    _, record = fit(ImagePart(stack, table), detector, None, None, SIZE, seed=cell)
    return f"{record['fit_seconds']:.2f}"


def grid(function: Any, count: int) -> Pipeline:
    """Steps that do not depend on each other."""
    return Pipeline([Node(partial(function, cell), None, f"cell_{cell}", name=f"cell_{cell}") for cell in range(count)])


def timed(runner: LocalRunner | DaskRunner, pipeline: Pipeline) -> float:
    """Seconds of a run in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        catalog = DataCatalog.from_config(
            {
                name: {"type": "shopfloor.catalog.atomic.TextDataset", "filepath": str(Path(folder) / f"{name}.txt")}
                for name in pipeline.all_outputs()
            }
        )
        start = time.perf_counter()
        runner.run(pipeline, catalog, _create_hook_manager(), run_id=str(time.time()))
        return time.perf_counter() - start


def on_workers(workers: int, warm_up: Pipeline, pipeline: Pipeline) -> float:
    """Seconds on workers that have started and imported what they need."""
    with connect(ClusterOptions(workers=workers, threads=1)) as client:
        runner = DaskRunner(address=client.scheduler_info()["address"], gpus=0)
        timed(runner, warm_up)
        return timed(runner, pipeline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--fits", type=int, default=24)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    steps = grid(touch, arguments.steps)
    local, dask = timed(LocalRunner(), steps), on_workers(2, grid(touch, 20), steps)
    for name, seconds in (("LocalRunner", local), ("DaskRunner, two workers", dask)):
        print(f"{arguments.steps} steps, {name}: {seconds:.1f} s, {1000 * seconds / arguments.steps:.1f} ms per step")

    fits = grid(partial(train, images=arguments.images), arguments.fits)
    warm_up = grid(partial(train, images=8), 4)
    rounds = [[on_workers(workers, warm_up, fits) for workers in (1, 2)] for _ in range(arguments.rounds)]
    one, two = map(min, zip(*rounds, strict=True))  # the round that other work on the machine disturbed least
    print(f"{arguments.fits} trainings, one worker: {one:.1f} s; two: {two:.1f} s; {one / two:.2f} times as fast")


if __name__ == "__main__":
    main()
