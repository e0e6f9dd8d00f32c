"""Decoding, hashing and resizing of images on one core and on all, and the memory it takes.

Run with ``python benchmarks/preparing.py``; without ``--root``, a dataset of the folder layout, images are made.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from shopfloor.catalog.image_stack import ImageStackDataset
from shopfloor.pipelines.data_prep.nodes import index_category, measure_files, prepare_images
from shopfloor.readers import list_categories

IMAGE_SIZE = 256


def make_images(root: Path, count: int, side: int) -> None:
    """A category of JPEG images that look like grainy surfaces and compress like photos."""
    places = ["train/good"] * (count - 20) + ["test/good"] * 10 + ["test/scratch"] * 10
    for place in set(places):
        (root / "surface" / place).mkdir(parents=True)

    def write(number: int) -> None:
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 20, side // 20, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
        pixels = (pixels + rng.integers(-12, 13, (side, side, 1), dtype=np.int16)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "surface" / places[number] / f"{number:05d}.jpg", quality=92)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count)))


def work(root: Path, cores: int) -> None:
    """Measure and prepare one category on some cores; prints the seconds and the peak memory as JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    logging.disable()
    (category, *_) = list_categories("folder", root)
    settings = {"root": str(root)}
    measured = measure_files(settings, dataset="benchmark", category=category)

    def seconds_of(step):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        return step(), time.perf_counter() - start

    files, first = seconds_of(lambda: measured(pd.DataFrame()))
    files, again = seconds_of(lambda: measured(files))
    index, _ = index_category(settings, files, dataset="benchmark", category=category)
    before = _peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        stack = ImageStackDataset(f"{folder}/images.npy")
        _, prepared = seconds_of(lambda: stack.save(prepare_images(index, settings, image_size=IMAGE_SIZE)))
    print(
        json.dumps(
            {"files": len(files), "images": len(index), "first": first, "again": again, "prepared": prepared}
            | {"peak_mb": _peak_mb(), "before_mb": before}
        )
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(root: Path, cores: int) -> dict[str, float]:
    """The work in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--root", str(root), "--work-on", str(cores)]
    result: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="dataset of the folder layout")
    parser.add_argument("--images", type=int, default=2000, help="number of images that are made")
    parser.add_argument("--side", type=int, default=1000, help="their width and height in pixels")
    parser.add_argument("--work-on", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work_on:
        work(arguments.root, arguments.work_on)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.root or Path(folder)
        if arguments.root is None:
            make_images(root, arguments.images, arguments.side)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        run(root, cores)  # brings the files into the system's cache
        one, every = run(root, 1), run(root, cores)
    print(
        f"{every['files']:.0f} files, {every['images']:.0f} images, {cores} cores, {IMAGE_SIZE} x {IMAGE_SIZE} pixels"
    )
    for what, key in (("decode and hash", "first"), ("prepare", "prepared")):
        number = every["files"] if key == "first" else every["images"]
        rate, faster = number / every[key], one[key] / every[key]
        times = f"1 core {one[key]:7.2f} s, {cores} cores {every[key]:7.2f} s"
        print(f"{what:16} {times}, {rate:6.0f} files/s, {faster:.2f}x faster")
    print(
        f"second run       {every['again']:.3f} s, {every['files'] / every['again']:.0f} files/s, "
        f"{every['first'] / every['again']:.0f}x faster"
    )
    print(f"peak memory      {every['peak_mb']:.0f} MB, {every['before_mb']:.0f} MB of them before preparing")


if __name__ == "__main__":
    main()
