"""How long the paper's trainings take: each detector's speed measured here, times what the grid asks for.

Run with ``python benchmarks/grid_hours.py`` on the machine, or one GPU of the machines, that shall do the work. Every
detector trains two epochs on a few images made up here, with the paper's networks (untrained: their values cost
nothing), and the second is timed. Assumptions: time grows with images, epochs and pixels; a category without
published counts has as many training images as ``--images`` says. PatchCore's and InReaCh's memory banks grow faster
than their images: for them the result is a lower bound. On a CPU the hours are those of one core.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from shopfloor.config import ProjectConfigLoader
from shopfloor.experiments.grid import expand_experiments, unique_cells
from shopfloor.planning.cell import Cell, each_once
from shopfloor.planning.settings import DetectorSettings

PROJECT = Path(__file__).resolve().parents[1]
SIZE = 256


def trainings() -> list[Cell]:
    """The different trainings of the environment ``paper``."""
    parameters = ProjectConfigLoader(
        str(PROJECT / "conf"), env="paper", base_env="base", merge_strategy={"parameters": "soft"}
    )["parameters"]
    return each_once(unique_cells(expand_experiments(parameters).values()), "fit_key")


def training_images(cell: Cell, unknown: int) -> float:
    """Images that one epoch of a training sees."""
    if balance := cell.detector_settings.balance:
        return balance.batches * cell.detector_settings.batch_size
    reader = import_module(f"shopfloor.readers.{cell.dataset_settings.reader}")
    expected = getattr(reader, "EXPECTED", {}).get(cell.category)
    published = expected.counts.get(("train", "good")) if expected else None
    share = cell.condition.amount if cell.condition.kind == "share" else 100
    return (published or unknown) * float(share or 100) / 100


def epochs(cell: Cell) -> int:
    """Length of a training; one epoch where it is said in steps."""
    return int(cell.detector_settings.trainer.get("max_epochs") or 1)


def seconds_per_image(cell: Cell, count: int) -> float:
    """Seconds that a training spends on one image of ``SIZE`` pixels in one epoch."""
    from shopfloor.catalog.image_stack import ImagePart
    from shopfloor.detectors.fit import TrainingExtras, fit
    from shopfloor.pipelines.training.nodes import load_weights

    asked = cell.detector_settings
    shortened = {"trainer": {"max_epochs": min(2, epochs(cell))}, "batch_size": min(count, asked.batch_size)}
    detector = DetectorSettings.model_validate({**asked.given, **shortened, "balance": None})
    supervised = asked.learning_type == "supervised"
    rng = np.random.default_rng(0)
    part = rng.integers(20, 236, (SIZE, SIZE, 3), dtype=np.uint8)  # one part, seen with some noise
    stack = part + rng.integers(0, 20, (count, SIZE, SIZE, 3), dtype=np.uint8)
    labels = ["bad" if supervised and row % 2 else "good" for row in range(count)]
    table = pd.DataFrame({"row": range(count), "image": [f"{row}.png" for row in range(count)], "label": labels})
    networks = {name: load_weights({**settings.given, "weights": "random"}, name=name)
                for name, settings in cell.network_settings.items()}  # fmt: skip
    backbone = cell.networks.get("backbone")
    extras = TrainingExtras(
        encoder_weights=networks.get(cell.networks.get("encoder", "")),
        textures=rng.integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8) if cell.textures_entry else None,
        foreground=np.ones((count, SIZE, SIZE), np.uint8) if cell.foreground_method != "none" else None,
        network_weights={name: networks[name] for name in cell.own_networks},
    )
    settings = cell.network_settings[backbone] if backbone else None
    weights = networks[backbone] if backbone else None
    start, processor = time.perf_counter(), time.process_time()
    _, record = fit(ImagePart(stack, table), detector, settings, weights, SIZE, cell.seed, extras=extras)
    processor_share = (time.process_time() - processor) / (time.perf_counter() - start)
    lines = pd.DataFrame(record["log"])
    seconds = lines["seconds"].iloc[-1] if len(lines) and record["epochs"] > 1 else record["fit_seconds"]
    if record["device"] == "cpu":  # what other work on the machine took is left out: the result is that of a free core
        seconds *= processor_share
    return float(seconds) / count


def by_detector(cells: list[Cell]) -> dict[str, list[Cell]]:
    """The trainings of each detector."""
    found: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.detector].append(cell)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300, help="training images where nothing is published")
    parser.add_argument("--measured", type=int, default=16, help="images to measure on")
    parser.add_argument("--detectors", nargs="*")
    arguments = parser.parse_args()

    total = 0.0
    print("| detector | trainings | epochs | ms per image and epoch | hours |\n|---|---|---|---|---|", flush=True)
    for detector, cells in by_detector(trainings()).items():
        if arguments.detectors and detector not in arguments.detectors:
            continue
        try:
            seconds = seconds_per_image(cells[0], arguments.measured)
        except click.ClickException as error:
            print(f"| {detector} | {len(cells)} | {epochs(cells[0])} | not measured: {error.message} | |", flush=True)
            continue
        passes: Any = sum(
            epochs(cell) * training_images(cell, arguments.images) * (cell.image_size / SIZE) ** 2 for cell in cells
        )
        total += passes * seconds / 3600
        hours = passes * seconds / 3600
        print(f"| {detector} | {len(cells)} | {epochs(cells[0])} | {1000 * seconds:.1f} | {hours:.0f} |", flush=True)
    print(f"\ntogether {total:.0f} hours on one worker as this one; n workers take an n-th of it")


if __name__ == "__main__":
    main()
