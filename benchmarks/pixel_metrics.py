"""Time and memory of the pixel metrics next to anomalib's: AUROC, AUPRO and F1Max of one category.

Each side runs in a fresh process on the same generated maps, scaled to [0, 1] because anomalib's AUROC is
right only there. Data and imports are paid before the clock starts; memory is what the peak of the process
rises above them. The sides take turns, and the smallest figure of each counts, so that other work on the
machine disturbs the comparison least::

    python benchmarks/pixel_metrics.py
    python benchmarks/pixel_metrics.py --images 1600
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

BATCH = 32
NAMES = ("pixel_auroc", "pixel_aupro", "pixel_f1max")


def main() -> None:
    parser = argparse.ArgumentParser(description="Pixel metrics of Shopfloor and of anomalib, side by side.")
    parser.add_argument("--images", type=int, default=400, help="number of anomaly maps")
    parser.add_argument("--size", type=int, default=256, help="side of a map in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generated maps")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--only", choices=sorted(SIDES), help="measure one side in this process, print JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(SIDES[options.only], options.images, options.size, options.seed)))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(options.repeats):
        for side, done in runs.items():
            done.append(in_fresh_process(side, options))
            print(f"{side}: {done[-1]['wall s']:.2f} s", file=sys.stderr)
    ours, theirs = ({key: min(run[key] for run in done) for key in done[0]} for done in runs.values())

    pixels = options.images * options.size**2
    print(
        f"{options.images} maps of {options.size} x {options.size}, {pixels / 1e6:.1f} million pixels, "
        f"{100 * ours['defective']:.1f} % defective, {ours['regions']} regions"
    )
    print(f"{'':16}{'shopfloor':>14}{'anomalib':>14}{'ratio':>10}")
    for row in ("wall s", "CPU s", "extra MB"):
        print(f"{row:16}{ours[row]:14.2f}{theirs[row]:14.2f}{theirs[row] / ours[row]:9.1f}x")
    print(f"{'':16}{'':14}{'':14}{'difference':>11}")
    for name in NAMES:
        print(f"{name:16}{ours[name]:14.9f}{theirs[name]:14.9f}{abs(ours[name] - theirs[name]):11.1e}")


def in_fresh_process(side: str, options: argparse.Namespace) -> dict[str, float]:
    sizes = [f"--{name}={getattr(options, name)}" for name in ("images", "size", "seed")]
    command = [sys.executable, __file__, "--only", side, *sizes]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(side: Callable, images: int, size: int, seed: int) -> dict[str, float]:
    """Values, seconds and extra memory of one side."""
    anomaly_maps, gt_masks = generate(images, size, seed)
    compute = side()
    before = _peak_bytes()
    wall, cpu = time.perf_counter(), time.process_time()
    values = compute(anomaly_maps, gt_masks)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    regions = sum(cv2.connectedComponents(mask, connectivity=8)[0] - 1 for mask in gt_masks)
    used = {"wall s": wall, "CPU s": cpu, "extra MB": (_peak_bytes() - before) / 2**20}
    return {**values, **used, "defective": float(gt_masks.mean()), "regions": regions}


def shopfloor() -> Callable[[NDArray, NDArray], dict[str, float]]:
    from shopfloor.metrics import pixel_metrics

    return pixel_metrics


def anomalib() -> Callable[[NDArray, NDArray], dict[str, float]]:
    """anomalib's three metrics, fed in batches of 32 as its evaluator does."""
    import torch
    from anomalib.data import ImageBatch
    from anomalib.metrics import AUPRO, AUROC, F1Max

    def compute(anomaly_maps: NDArray, gt_masks: NDArray) -> dict[str, float]:
        metrics = [metric(fields=["anomaly_map", "gt_mask"]) for metric in (AUROC, AUPRO, F1Max)]
        no_image = torch.zeros(1, 3, 1, 1)  # the field is required but not looked at
        for start in range(0, len(anomaly_maps), BATCH):
            some = slice(start, start + BATCH)
            batch = ImageBatch(
                image=no_image.expand(len(anomaly_maps[some]), -1, -1, -1),
                anomaly_map=torch.from_numpy(anomaly_maps[some]),
                gt_mask=torch.from_numpy(gt_masks[some].view(bool)),
            )
            for metric in metrics:
                metric.update(batch)
        return {name: float(metric.compute()) for name, metric in zip(NAMES, metrics, strict=True)}

    return compute


SIDES: dict[str, Callable] = {"shopfloor": shopfloor, "anomalib": anomalib}


def generate(images: int, size: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Smooth random maps in [0, 1], raised over the elliptic defects of every second image."""
    rng = np.random.default_rng(seed)
    anomaly_maps = np.empty((images, size, size), np.float32)
    gt_masks = np.zeros((images, size, size), np.uint8)
    for i, gt_mask in enumerate(gt_masks):
        noise = rng.standard_normal((size, size), dtype=np.float32)
        for _ in range(rng.integers(2, 5) if i % 2 else 0):
            centre = rng.integers(0, size, 2).tolist()
            axes = rng.integers(size // 40, size // 10, 2).tolist()
            cv2.ellipse(gt_mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, thickness=-1)
        anomaly_maps[i] = cv2.GaussianBlur(8 * noise + 1.5 * gt_mask, (0, 0), 4)
    lowest, highest = anomaly_maps.min(), anomaly_maps.max()
    anomaly_maps -= lowest
    anomaly_maps /= highest - lowest
    return anomaly_maps, gt_masks


def _peak_bytes() -> int:
    """High-water mark of the resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
