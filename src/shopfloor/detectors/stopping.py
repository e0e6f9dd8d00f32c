"""Watching a training on validation images, and ending it by what is seen (protocol 4.7; 5, no. 18 to 21).

Lightning's validation loop is not used: it draws from the random stream of the training, it runs before a detector's
own work at the end of an epoch, and its hooks change detectors (EfficientAd sets its quantiles there, Ganomaly rescales
its scores, memory banks are filled). Instead a second network of the same detector, the twin, is given the state of the
first after every epoch and is measured in its place, the way `shopfloor.detectors.predict` scores test images. Of the
network in training only the state is read, so that it is trained as if nobody watched.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import lightning.pytorch as pl
import numpy as np
import torch
from anomalib.data import ImageBatch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import nn

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.backbones import without_weights
from shopfloor.detectors.building import Blueprint, DetectorError, build
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.running import quiet_trainer
from shopfloor.detectors.stopping_rule import MONITORS, StoppingRule
from shopfloor.metrics import UndefinedMetric, image_auroc

#: Begins the names under which the values stand among Lightning's metrics, apart from what detectors log.
METRIC_PREFIX = "validation/"

_MACHINE = ("accelerator", "devices", "deterministic", "benchmark")
_NORMALISATION_AND_DROPOUT = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
_logger = logging.getLogger(__name__)


class Twin:
    """A second network of a detector. It takes over states of the first and is measured in its place.

    What it draws at random is the same at every measurement, and the training finds the random generators as they were.

    Args:
        blueprint: Arguments of :func:`shopfloor.detectors.building.build`.
        validation: Images S x S with labels, at least one good and one bad.
        batch_size: Images per batch.
        seed: Seed of what it draws.
        trainer_arguments: Those of the training; the twin runs on the same device.

    Attributes:
        module: The second network.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        validation: ImagePart,
        batch_size: int,
        seed: int,
        trainer_arguments: Mapping[str, Any],
    ) -> None:
        self.class_path = blueprint["class_path"]
        self.is_bad = validation.is_bad
        self._seed = seed
        with _apart(seed), without_weights():
            self.module = build(**blueprint)
        good = ImagePart(validation.stack, validation.table[~self.is_bad])
        self._all, self._good = PartDataModule(validation, batch_size), PartDataModule(good, batch_size)
        self._scores = _Scores()
        # A twin lives on: tensors made in inference mode could not take the next state.
        machine = {name: trainer_arguments[name] for name in _MACHINE if name in trainer_arguments}
        self._predictor = quiet_trainer(
            inference_mode=False, enable_progress_bar=False, callbacks=[self._scores], **machine
        )

    def take_state(self, module: pl.LightningModule) -> None:
        """Takes over the state of the network in training.

        Raises:
            DetectorError: If it does not fit, as it would not in prediction.
        """
        try:
            self.module.load_state_dict(module.state_dict())
        except RuntimeError as error:
            raise DetectorError(
                f"Detector {self.class_path} changes its parts in training, so a state of it cannot be taken over by "
                f"another network, nor by the one that predicts. {error}"
            ) from error

    def image_auroc(self) -> float:
        """AUROC in [0, 1] of the raw scores of all validation images, in evaluation mode.

        Raises:
            DetectorError: If the detector gives no score.
            UndefinedMetric: If a score is not finite.
        """
        self._scores.batches.clear()
        with _apart(self._seed):
            self._predictor.predict(self.module, datamodule=self._all, return_predictions=False)
        return image_auroc(np.concatenate(self._scores.batches), self.is_bad)

    def good_loss(self, trainer: pl.Trainer, module: pl.LightningModule) -> float:
        """Mean training loss of the good validation images, any range, possibly not finite.

        Layers are in the mode they have in training, but those that normalise by the batch or drop at random are in
        evaluation mode: the value is that of the state which would be tested, and no image depends on its neighbours.

        Args:
            trainer: The one that trains; the loss may depend on how far it has come.
            module: The network in training.

        Raises:
            DetectorError: If the training step gives no loss.
        """
        twin, plugin = self.module.to(trainer.strategy.root_device), trainer.precision_plugin
        self._set_modes(module)
        total = 0.0
        # With gradients, although none is computed: some losses register hooks on tensors that need one.
        with _apart(self._seed), self._in_training(trainer), torch.enable_grad():
            for index, stored in enumerate(self._good.labelled_dataloader()):
                batch = self._good.on_after_batch_transfer(stored.to(twin.device), 0)
                if isinstance(twin.pre_processor, pl.Callback):
                    twin.pre_processor.on_train_batch_start(trainer, twin, batch, index)
                takes_index = is_param_in_hook_signature(twin.training_step, "batch_idx", min_args=2)
                with plugin.train_step_context():
                    output = twin.training_step(batch, index) if takes_index else twin.training_step(batch)
                loss = output.get("loss") if isinstance(output, Mapping) else output
                if not isinstance(loss, torch.Tensor):
                    raise DetectorError(f"the training step of {self.class_path} gives no loss.")
                total += loss.item() * len(stored.image_path)
        twin.cpu()
        return total / len(self._good.part)

    def _set_modes(self, module: pl.LightningModule) -> None:
        modes = {name: part.training for name, part in module.named_modules()}
        for name, part in self.module.named_modules():
            part.training = modes.get(name, True) and not isinstance(part, _NORMALISATION_AND_DROPOUT)

    @contextmanager
    def _in_training(self, trainer: pl.Trainer) -> Iterator[None]:
        """While open, the twin sees the trainer, but neither logs to it nor reaches its optimisers."""
        twin = self.module
        blocked = {"log": _ignore, "log_dict": _ignore, "optimizers": _refuse, "lr_schedulers": _refuse}
        twin.trainer = trainer
        vars(twin).update(blocked)
        try:
            yield
        finally:
            for name in blocked:
                del vars(twin)[name]
            twin.trainer = None


class ValidationWatch(EarlyStopping):
    """Measures the states of a training and, if there is a rule, ends the training and keeps the best state.

    Lightning's ``EarlyStopping`` decides what is better and when it is over. The best state is copied in memory when it
    says so, and not by ``ModelCheckpoint``, which knows no ``min_delta`` (the two could disagree on the best), pickles
    the detector's settings whatever they are, and writes a file for every improvement.

    Without a rule this is still an ``EarlyStopping`` by class, because Lightning calls only these after the detector's
    own work at the end of an epoch; a memory bank is empty before.

    Args:
        twin: Measures the states.
        rule: When to end the training; None never ends it and keeps no state.

    Attributes:
        best_state: State dict of the best epoch, on the CPU; None without a rule.
    """

    def __init__(self, twin: Twin, rule: StoppingRule | None) -> None:
        monitor = rule.monitor if rule else "image_auroc"
        super().__init__(
            METRIC_PREFIX + monitor,
            mode=MONITORS[monitor],
            patience=rule.patience if rule else 0,
            min_delta=rule.min_delta if rule else 0.0,
            check_on_train_epoch_end=True,
        )
        self.best_state: dict[str, torch.Tensor] | None = None
        self._best_epoch = 0
        self._twin = twin
        self._rule = rule
        self._curves: dict[str, list[float | None]] = {name: [] for name in MONITORS}
        self._seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuses, before anything is trained, to watch a loss that there is not."""
        reason = _why_no_loss(trainer, pl_module)
        if reason:
            self._without_good_loss(f"it {reason}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measures the state after an epoch; by the rule, keeps it or ends the training."""
        epoch = len(self._curves["image_auroc"]) + 1
        if self._rule and epoch % self._rule.every_n_epochs:
            for curve in self._curves.values():
                curve.append(None)
            return
        start = time.perf_counter()
        self._measure(epoch, trainer, pl_module)
        self._seconds += time.perf_counter() - start
        if not self._rule:
            return
        # Not by `log`, which would round to 32 bits.
        value = self._curves[self._rule.monitor][-1]
        trainer.callback_metrics[self.monitor] = torch.tensor(value, dtype=torch.float64)
        super().on_train_epoch_end(trainer, pl_module)
        if self.wait_count == 0:  # the value is better than all before
            self._best_epoch = epoch
            self.best_state = {key: tensor.to("cpu", copy=True) for key, tensor in pl_module.state_dict().items()}

    def record(self) -> dict[str, Any]:
        """What the training's record is to say, plain values only.

        Returns:
            ``stopped_epoch`` and ``best_epoch``, numbers of finished epochs (without a rule the best is that of the
            largest AUROC); ``validation``, per name one value per epoch, None where none was measured;
            ``validation_seconds``; ``n_validation``; ``n_validation_bad``.

        Raises:
            DetectorError: If there is a rule, but the training ended before the first check.
        """
        curve = self._curves["image_auroc"]
        if self._rule and not self._best_epoch:
            raise DetectorError(
                f"Detector {self._twin.class_path}: training ended after {len(curve)} epochs, before the first check. "
                "Lower stopping.every_n_epochs."
            )
        largest = max((value for value in curve if value is not None), default=None)
        return {
            "stopped_epoch": len(curve),
            "best_epoch": self._best_epoch or curve.index(largest) + 1,
            "validation": self._curves,
            "validation_seconds": self._seconds,
            "n_validation": len(self._twin.is_bad),
            "n_validation_bad": int(self._twin.is_bad.sum()),
        }

    def _measure(self, epoch: int, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._twin.take_state(module)
        try:
            self._curves["image_auroc"].append(self._twin.image_auroc())
        except UndefinedMetric as error:
            self._diverged(epoch, f"the validation images have no AUROC. {error}")
        if "good_loss" not in self._curves:
            return
        try:
            loss = self._twin.good_loss(trainer, module)
        except Exception as error:  # a training step may need what only the network in training has been given
            self._without_good_loss(str(error), error)
            return
        finite = math.isfinite(loss)
        if not finite and self._watches_loss:
            self._diverged(epoch, f"the loss on the good validation images is {loss}.")
        self._curves["good_loss"].append(loss if finite else None)

    @property
    def _watches_loss(self) -> bool:
        return self._rule is not None and self._rule.monitor == "good_loss"

    def _without_good_loss(self, reason: str, error: Exception | None = None) -> None:
        """Goes on without the loss, unless the rule needs it."""
        message = f"Detector {self._twin.class_path} has no loss on validation images: {reason}"
        if self._watches_loss:
            raise DetectorError(f"{message} It can be stopped by image_auroc.") from error
        _logger.warning(message)
        del self._curves["good_loss"]

    def _diverged(self, epoch: int, what: str) -> NoReturn:
        raise DetectorError(
            f"Detector {self._twin.class_path}, epoch {epoch}: {what} Training has diverged (lower the learning rate "
            "or clip gradients), or there were too few training images for this detector."
        ) from None


class _Scores(pl.Callback):
    """Takes the raw scores from each batch."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: ImageBatch, *_: int
    ) -> None:
        if outputs.pred_score is None:
            raise DetectorError(f"{type(pl_module).__name__} gives no pred_score.")
        self.batches.append(outputs.pred_score.double().cpu().numpy().reshape(len(batch.image_path or [])))


@contextmanager
def _apart(seed: int) -> Iterator[None]:
    """While open, random numbers come from a stream of its own; the one from before goes on afterwards."""
    isolated = isolate_rng()
    isolated.__enter__()
    pl.seed_everything(seed, workers=True, verbose=False)
    try:
        yield
    finally:  # after an error too, which `with isolate_rng()` would not do
        isolated.__exit__(None, None, None)


def _why_no_loss(trainer: pl.Trainer, module: pl.LightningModule) -> str | None:
    """Some detectors return a loss only because Lightning wants one; others step their optimisers by themselves."""
    if not module.automatic_optimization:
        return "optimises by itself inside its training step."
    trained = {id(part) for each in trainer.optimizers for group in each.param_groups for part in group["params"]}
    if trained.isdisjoint(map(id, module.parameters())):
        return "does not learn by a loss."
    return None


def _ignore(*_: Any, **__: Any) -> None:
    """Logs nothing."""


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("the training step uses its optimisers or their schedules by itself.")
