"""What a training tells of itself while it runs: epoch, losses, learning rates, seconds; and when it has diverged."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import lightning.pytorch as pl
import torch

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.stopping import METRIC_PREFIX


class TrainingLog(pl.Callback):
    """Keeps one line per epoch, and ends a training whose loss is no longer a finite number.

    Attributes:
        lines: Per finished epoch ``epoch`` (from 1), ``seconds`` (that of the epoch alone), ``learning_rate`` (the one
            of its last step; ``learning_rate_2`` and so on for further optimisers), and every loss that the detector
            logs under its own name, as mean over the epoch.
    """

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._start = 0.0
        self._rates: dict[str, float] = {}
        self._ended: dict[str, Any] | None = None  # the epoch whose losses may still come

    @property
    def losses(self) -> dict[str, list[float]]:
        """Per logged loss one value per epoch."""
        names = dict.fromkeys(name for line in self.lines for name in line if "loss" in name)
        return {name: [line[name] for line in self.lines if name in line] for name in names}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the line of the epoch before, and starts the clock.

        Raises:
            DetectorError: If a loss of the epoch before is not finite.
        """
        self._add_line(trainer, pl_module)
        self._start = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Looks at the learning rates before the schedules move on."""
        self._rates = _learning_rates(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks at the loss of a step.

        Raises:
            DetectorError: If it is not finite.
        """
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, torch.Tensor) and not bool(torch.isfinite(loss).all()):
            value = float(loss.detach().mean())
            self._diverged(pl_module, trainer.current_epoch + 1, f"step {batch_idx + 1}: the loss is {value}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock. The detector's own hook comes after this one, and may log a loss."""
        seconds = time.perf_counter() - self._start
        self._ended = {"epoch": trainer.current_epoch + 1, "seconds": seconds, **self._rates}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the line of the last epoch.

        Raises:
            DetectorError: If one of its losses is not finite.
        """
        self._add_line(trainer, pl_module)

    def _add_line(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._ended is None:
            return
        losses = {name: float(value) for name, value in trainer.callback_metrics.items() if _is_loss(name)}
        for name, value in losses.items():
            if not math.isfinite(value):
                self._diverged(module, self._ended["epoch"], f"{name} is {value}")
            del trainer.callback_metrics[name]  # Lightning keeps a value that is not logged any more
        self.lines.append({**self._ended, **losses})
        self._ended = None

    def _diverged(self, module: pl.LightningModule, epoch: int, what: str) -> NoReturn:
        last = self.lines[-1] if self.lines else {}
        values = ", ".join(f"{name} {value:.6g}" for name, value in last.items() if name not in ("epoch", "seconds"))
        before = f"Last good epoch {last['epoch']}: {values}." if last else "No epoch was finished before."
        raise DetectorError(
            f"Detector {type(module).__name__}, epoch {epoch}, {what}. {before} Training has "
            "diverged: lower the learning rate, clip gradients (trainer.gradient_clip_val), or train in full precision."
        )


def _is_loss(name: str) -> bool:
    """Whether a logged value is a loss of the training, and not one of Lightning's doubles of it."""
    return "loss" in name and not name.startswith(METRIC_PREFIX) and not name.endswith(("_step", "_epoch"))


def _learning_rates(trainer: pl.Trainer) -> dict[str, float]:
    """Of the first group of parameters of each optimiser."""
    # Lightning's stand-in for no optimiser, as memory banks have it, has no group.
    rates = [float(optimizer.param_groups[0]["lr"]) for optimizer in trainer.optimizers if optimizer.param_groups]
    return {f"learning_rate_{number}" if number > 1 else "learning_rate": rate for number, rate in enumerate(rates, 1)}
