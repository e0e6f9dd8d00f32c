"""The size of the steps of a training."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch


class GradientNorms(pl.Callback):
    """Norm of all gradients together at each step, after clipping."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        if gradients:
            self.norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
