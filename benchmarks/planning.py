"""How long a large grid takes to plan: a grid of 2,000 trainings, from parameters to pipelines.

Run with ``python benchmarks/planning.py``; ``--trainings`` sets the size.
"""

from __future__ import annotations

import argparse
import time

from shopfloor.grid import expand_experiments
from shopfloor.pipeline_registry import experiment_pipeline


def parameters(trainings: int) -> dict[str, object]:
    """A model evaluation of ``trainings`` cells: 50 categories, 8 detectors, the rest seeds."""
    categories, detectors = 50, 8
    seeds = max(1, trainings // (categories * detectors))
    detector = {"class_path": "x.Y", "learning_type": "one_class", "batch_size": 16, "trainer": {"max_epochs": 1}}
    grid = {"datasets": ["parts"], "image_sizes": [256]}
    return {
        "datasets": {"parts": {"reader": "folder", "categories": [f"category_{i}" for i in range(categories)]}},
        "detectors": {f"detector_{i}": {**detector, "init_args": {"i": i}} for i in range(detectors)},
        "model_evaluation": {
            **grid, "detectors": [f"detector_{i}" for i in range(detectors)], "seeds": list(range(seeds))
        },
        "noisy_labels": {**grid, "detectors": ["detector_0"], "seeds": [0], "noise_percent": [4, 8, 16]},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainings", type=int, default=2000)
    trainings = parser.parse_args().trainings
    start = time.process_time()
    experiment = expand_experiments(parameters(trainings))["model_evaluation"]
    expanded = time.process_time()
    pipeline = experiment_pipeline(experiment)
    done = time.process_time()
    print(f"{len(experiment.cells)} trainings, {len(pipeline.nodes)} nodes")
    print(f"cells     {expanded - start:6.2f} s")
    print(f"pipeline  {done - expanded:6.2f} s")
    print(f"together  {done - start:6.2f} s")


if __name__ == "__main__":
    main()
