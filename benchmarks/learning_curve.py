"""How does a detector learn? Measured on test images every so many steps of one training.

DRAEM on MPDD's metal plate, with textures of DTD (half an hour on a CPU core)::

    python benchmarks/learning_curve.py --root <mpdd> --textures <dtd> --detector draem --size 128 --batch 2
        --epochs 700 --steps 120 --every 40 --test 16

The training is that of ``conf/base`` otherwise, with the learning rate as it is in the first ``steps`` of ``epochs``.
Images are drawn as in ``learning.py``. The test images are only measured: nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from learning import measure, parts, settings

from shopfloor.detectors import fit as fitting
from shopfloor.detectors.running import quiet_trainer
from shopfloor.detectors.textures import stack_textures
from shopfloor.planning.settings import DetectorSettings


class Curve(pl.Callback):
    """Measures the detector before the first step and after every so many.

    Args:
        blueprint: The checkpoint without its weights.
        data: Test part and masks, from :func:`learning.parts`.
        every: Steps between two measurements.
    """

    def __init__(self, blueprint: dict[str, Any], data: dict[str, Any], every: int) -> None:
        self.blueprint, self.data, self.every = blueprint, data, every
        self.lines: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._start = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._measure(pl_module, 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(float(outputs["loss"]))
        if trainer.global_step % self.every == 0:
            self._measure(pl_module, trainer.global_step)

    def _measure(self, module: pl.LightningModule, step: int) -> None:
        line: dict[str, float] = {"step": step}
        if step:
            line |= {"seconds_per_step": (time.perf_counter() - self._start) / self.every}
            line |= {"loss": float(np.mean(self._losses))}
        with torch.random.fork_rng():  # building the measured detector draws numbers
            line |= measure({**self.blueprint, "state_dict": module.state_dict()}, self.data)
        self.lines.append(line)
        print(pd.DataFrame([line]).round(3).to_string(index=False), flush=True)
        self._losses, self._start = [], time.perf_counter()


def main() -> pd.DataFrame:
    """Trains, prints and gives back one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--detector", required=True, help="one of conf/base that needs no pretrained network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, required=True, help="images per step")
    parser.add_argument("--epochs", type=int, required=True, help="length of the schedule of the learning rate")
    parser.add_argument("--steps", type=int, required=True, help="steps until the training is broken off")
    parser.add_argument("--every", type=int, default=100, help="steps between two measurements")
    parser.add_argument("--train", type=int, default=200, help="good training images")
    parser.add_argument("--test", type=int, default=100, help="test images, of each label")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    entry = dict(settings()["detectors"][options.detector])
    entry |= {"batch_size": options.batch, "trainer": {"max_epochs": options.epochs, "max_steps": options.steps}}
    detector = DetectorSettings.model_validate(entry)
    data = parts(options.root, options.size, argparse.Namespace(**vars(options), bad=0))
    print({name: len(part) for name, part in data.items()})
    blueprint = {"class_path": detector.class_path, "init_args": dict(detector.init_args), "networks": {},
                 "image_size": options.size, "mean": None, "std": None}  # fmt: skip
    curve = Curve(blueprint, data, options.every)
    textures = stack_textures(options.textures, options.size) if detector.textures else None

    def watched_trainer(callbacks: list[pl.Callback], **arguments: Any) -> pl.Trainer:
        return quiet_trainer(**arguments, callbacks=[*callbacks, curve], enable_progress_bar=False)

    with patch.object(fitting, "quiet_trainer", watched_trainer):
        fitting.fit(
            data[detector.learning_type], detector, None, None, options.size, options.seed,
            extras=fitting.TrainingExtras(textures=textures),
        )  # fmt: skip
    table = pd.DataFrame(curve.lines)
    print(table.round(3).to_string(index=False))
    return table


if __name__ == "__main__":
    main()
