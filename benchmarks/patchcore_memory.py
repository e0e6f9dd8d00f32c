"""Peak memory of PatchCore's training against the size of its embeddings: anomalib's way and ours, one process each.

Run with ``python benchmarks/patchcore_memory.py``; ``--images`` and ``--size`` set what is trained on (random images,
ResNet-50 with random weights and the 1,536 channels of the paper's WideResNet-50-2).
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

LAYERS = ["layer2", "layer3"]
CHANNELS = 1536
COMMON = {"learning_type": "one_class", "batch_size": 4, "trainer": {"max_epochs": 1, "enable_progress_bar": False}}
DETECTORS: dict[str, dict[str, Any]] = {
    "anomalib": {"class_path": "anomalib.models.Patchcore"},
    "kept": {"class_path": "shopfloor.detectors.patchcore.Patchcore", "kept_gb": 1000.0},
    "shopfloor": {"class_path": "shopfloor.detectors.patchcore.Patchcore", "kept_gb": 0.0},
}


def train(name: str, images: int, size: int, coreset_ratio: float, results: Any) -> None:
    """One training in a process of its own; reports its peak memory beyond what the process held before."""
    import psutil

    from shopfloor.catalog.image_stack import ImagePart
    from shopfloor.detectors.fit import fit
    from shopfloor.planning.settings import DetectorSettings

    warnings.simplefilter("ignore")
    stack = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    names = [f"{number:04d}" for number in range(images)]
    part = ImagePart(stack, pd.DataFrame({"row": range(images), "image": names, "label": "good"}))
    settings = dict(DETECTORS[name])
    init_args = {
        "layers": LAYERS,
        "pre_trained": False,
        "backbone": "resnet50",
        "coreset_sampling_ratio": coreset_ratio,
    }
    if "kept_gb" in settings:
        init_args["kept_gb"] = settings.pop("kept_gb")
    detector = DetectorSettings.model_validate({**COMMON, **settings, "init_args": init_args})
    before = psutil.Process().memory_info().rss / 1e6
    start = time.perf_counter()
    _, record = fit(part, detector, None, None, size, 0)
    results.put((record["peak_memory_mb"] - before, time.perf_counter() - start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--coreset-ratio", type=float, default=0.1)
    parser.add_argument("--only", nargs="*", default=list(DETECTORS))
    arguments = parser.parse_args()
    embeddings = arguments.images * (arguments.size // 8) ** 2 * CHANNELS * 4 / 1e6
    print(f"{arguments.images} images of {arguments.size} pixels: embeddings of {embeddings:.0f} MB")
    context = multiprocessing.get_context("spawn")
    for name in arguments.only:
        results = context.Queue()
        process = context.Process(
            target=train, args=(name, arguments.images, arguments.size, arguments.coreset_ratio, results)
        )
        process.start()
        peak, seconds = results.get()
        process.join()
        print(f"{name:10} peak {peak:7.0f} MB = {peak / embeddings:.2f} times the embeddings, {seconds:.0f} s")


if __name__ == "__main__":
    main()
