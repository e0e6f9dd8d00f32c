"""What Dask costs per step, and what a second worker brings; run with ``python benchmarks/dask_overhead.py``.

Steps that do nothing but write a small file show what is added to each: choosing it, sending it to a worker, booking
it. Trainings that take a second or two, PaDiM on images made up here, show what is left of twice the workers; every
worker computes in one thread. Beside the time on the clock, which other work on the machine lengthens, stands what it
does not: the processor time of a training, and how much of the time workers had a training to do. Their product is
what two workers bring on two cores of their own.
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
    from shopfloor.planning.settings import DetectorSettings

    stack = np.random.default_rng(cell).integers(0, 256, (images, SIZE, SIZE, 3), dtype=np.uint8)
    table = pd.DataFrame({"row": range(images), "image": [f"{row}.png" for row in range(images)], "label": "good"})
    detector = DetectorSettings(
        class_path="anomalib.models.Padim",
        init_args={"backbone": "resnet18", "layers": ["layer1", "layer2", "layer3"], "pre_trained": False},
        learning_type="one_class",
        batch_size=8,
        trainer={"max_epochs": 1},
    )
    start, processor = time.perf_counter(), time.process_time()
    fit(ImagePart(stack, table), detector, None, None, SIZE, seed=cell)
    return f"{time.perf_counter() - start} {time.process_time() - processor}"


def grid(function: Any, count: int) -> Pipeline:
    """Steps that do not depend on each other."""
    return Pipeline([Node(partial(function, cell), None, f"cell_{cell}", name=f"cell_{cell}") for cell in range(count)])


def timed(runner: LocalRunner | DaskRunner, pipeline: Pipeline) -> tuple[float, list[str]]:
    """Seconds of a run in an empty folder, and its results."""
    with tempfile.TemporaryDirectory() as folder:
        catalog = DataCatalog.from_config(
            {
                name: {"type": "shopfloor.catalog.atomic.TextDataset", "filepath": str(Path(folder) / f"{name}.txt")}
                for name in pipeline.all_outputs()
            }
        )
        start = time.perf_counter()
        runner.run(pipeline, catalog, _create_hook_manager(), run_id=str(time.time()))
        seconds = time.perf_counter() - start
        return seconds, [path.read_text() for path in Path(folder).glob("*.txt")]


def on_workers(workers: int, warm_up: Pipeline, pipeline: Pipeline) -> tuple[float, list[str]]:
    """Seconds and results on workers that have started and imported what they need."""
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
    (local, _), (dask, _) = timed(LocalRunner(), steps), on_workers(2, grid(touch, 20), steps)
    for name, seconds in (("LocalRunner", local), ("DaskRunner, two workers", dask)):
        print(f"{arguments.steps} steps, {name}: {seconds:.1f} s, {1000 * seconds / arguments.steps:.1f} ms per step")

    fits = grid(partial(train, images=arguments.images), arguments.fits)
    warm_up = grid(partial(train, images=8), 4)
    rounds = [[on_workers(workers, warm_up, fits) for workers in (1, 2)] for _ in range(arguments.rounds)]
    # Of each, the round that other work on the machine disturbed least.
    (one, alone), (two, together) = (min(results) for results in zip(*rounds, strict=True))
    print(f"{arguments.fits} trainings, one worker: {one:.1f} s; two: {two:.1f} s; {one / two:.2f} times as fast")
    (_, processor_one), (walls, processor_two) = sums(alone), sums(together)
    busy = walls / (2 * two)
    print(
        f"processor time of a training {processor_one / arguments.fits:.2f} s on one, "
        f"{processor_two / arguments.fits:.2f} s on two; two had work {100 * busy:.0f} % of the time: "
        f"{2 * busy * processor_one / processor_two:.2f} times as fast on cores of their own"
    )


def sums(results: list[str]) -> tuple[float, float]:
    """Seconds and processor seconds of all trainings."""
    pairs = [tuple(map(float, text.split())) for text in results]
    return sum(wall for wall, _ in pairs), sum(processor for _, processor in pairs)


if __name__ == "__main__":
    main()
