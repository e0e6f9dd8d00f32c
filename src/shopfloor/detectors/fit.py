"""Training of any detector: a plain Lightning Trainer that writes nothing, watched on validation images if wanted."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from types import TracebackType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import psutil
import torch
from anomalib.models import AnomalibModule

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.backbones import use_networks, weights_from_hub
from shopfloor.detectors.building import DetectorError, build
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.running import check_image_size, device_name, quiet_trainer, release_memory
from shopfloor.detectors.stopping import StoppingRule, Twin, ValidationWatch
from shopfloor.detectors.textures import UsesTextures
from shopfloor.detectors.training_log import TrainingLog

_MEMORY_SAMPLE_SECONDS = 0.02
_LIBRARIES = ("torch", "torchvision", "anomalib", "lightning", "timm")


@dataclass(frozen=True)
class TrainingExtras:
    """What only some detectors are trained with beside the training images.

    Attributes:
        encoder_weights: Weights of the network that the settings name as ``encoder``.
        textures: Texture images ``(M, S, S, 3)``, uint8, of which synthetic defects are made.
        foreground: Where the part is in each training image, ``(N, S, S)``, 0 or 1, in the order of the training part.
        network_weights: By name, weights of the ``networks`` of the settings, which the class asks for by itself.
    """

    encoder_weights: dict[str, torch.Tensor] | None = None
    textures: np.ndarray | None = None
    foreground: np.ndarray | None = None
    network_weights: Mapping[str, dict[str, torch.Tensor]] = field(default_factory=dict)


def fit(  # noqa: PLR0913, PLR0917 (what a training depends on)
    train: ImagePart,
    detector: dict[str, Any],
    backbone: dict[str, Any] | None,
    weights: dict[str, torch.Tensor] | None,
    image_size: int,
    seed: int,
    validation: ImagePart | None = None,
    stopping: dict[str, Any] | None = None,
    extras: TrainingExtras = TrainingExtras(),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains one detector on one training part, on the GPU if there is one.

    Seeds the global random generators of Python, NumPy and torch first, so two calls with the same arguments on a CPU
    give the same bits. One call per process at a time.

    A validation part is looked at after each epoch and changes no weight of any epoch. Only with ``stopping`` does it
    choose: when the training ends, and that the checkpoint holds the best state instead of the last.

    Args:
        train: Training images S x S; the labels are those the detector is told.
        detector: Entry of the detectors' parameter file: ``class_path``, ``init_args``, ``learning_type``,
            ``batch_size``, ``trainer`` (arguments of Lightning's Trainer; they win over those the class asks for;
            ``precision: 16-mixed`` or ``bf16-mixed`` trains in mixed precision), and, if wanted, ``backbone`` and
            ``encoder`` (names), ``networks`` (names of pretrained networks that the class chooses by itself or by
            another argument), ``balance`` (images of each label per batch) and ``num_workers``.
        backbone: Settings of that backbone; its ``mean`` and ``std`` replace those of the class's own pre-processor.
        weights: Its weights, from :func:`shopfloor.detectors.backbones.read_weights`.
        image_size: Side S of the images, in pixels.
        seed: Seed of everything random.
        validation: Images S x S, good and bad, none of them in ``train``; their labels are not told to the detector.
        stopping: Rule of early stopping, the attributes of :class:`shopfloor.detectors.stopping.StoppingRule`; None
            trains to the full length.
        extras: What only some detectors are trained with.

    Returns:
        The checkpoint, for :func:`shopfloor.detectors.predict.predict`: a dict of plain values and tensors that
        ``torch.load(..., weights_only=True)`` can read. And the record of the training, plain values only:
        ``fit_seconds``; ``peak_memory_mb``, the most main memory the process held meanwhile, libraries included, and
        ``peak_gpu_memory_mb`` (None without GPU), both in 10^6 bytes; ``parameters``, the number of them; ``epochs``;
        ``losses``, per logged name one value per epoch; ``log``, the lines of
        :class:`shopfloor.detectors.training_log.TrainingLog`; ``device``; ``n_train``; ``n_train_bad``; ``versions``.
        With a validation part also what :meth:`shopfloor.detectors.stopping.ValidationWatch.record` gives; its seconds
        are part of ``fit_seconds``, its memory of the peaks.

    Raises:
        DetectorError: If the settings are not usable, a one-class detector is given images labelled bad, the
            validation part cannot serve (see there), or a loss or a validation value is not a finite number.
        WeightsMismatch: If the detector does not use the given weights.
        WeightsMissing: If the detector wants weights from the hub and these cannot be had.
    """
    _check_training_part(train, detector, image_size)
    _check_foreground(train, detector, extras.foreground)
    rule = _check_validation_part(train, validation, stopping, detector, image_size)
    networks, given = _networks(detector, {"backbone": weights, "encoder": extras.encoder_weights})
    given |= _networks_of_the_class(detector, extras.network_weights)
    settings = backbone or {}
    blueprint = {
        "class_path": detector["class_path"],
        "init_args": detector.get("init_args") or {},
        "networks": networks,
        "image_size": image_size,
        "mean": settings.get("mean"),
        "std": settings.get("std"),
    }
    # Before the detector is built: some draw numbers in their constructor.
    pl.seed_everything(seed, workers=True, verbose=False)
    with use_networks(given) if given else weights_from_hub():
        module = build(**blueprint)
    _use_textures(module, extras.textures)
    arguments = _trainer_arguments(module, detector)
    if rule is not None:
        rule.check_length(arguments.get("max_epochs"), detector["class_path"])
    log = TrainingLog()
    twin = watch = None
    if validation is not None:
        twin = Twin(blueprint, validation, detector["batch_size"], seed, arguments)
        _use_textures(twin.module, extras.textures)
        watch = ValidationWatch(twin, rule)
    trainer = quiet_trainer(**arguments, callbacks=[log] if watch is None else [log, watch])
    data = PartDataModule(
        train, detector["batch_size"], seed, detector.get("num_workers", 0), detector.get("balance"), extras.foreground
    )
    with _PeakMemory() as memory:
        start = time.perf_counter()
        trainer.fit(module, datamodule=data)  # ends with the module on the CPU: a GPU has done its work by then
        fit_seconds = time.perf_counter() - start
    record = {
        "fit_seconds": fit_seconds,
        "peak_memory_mb": memory.peak_mb,
        "peak_gpu_memory_mb": memory.peak_gpu_mb,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "epochs": trainer.current_epoch,
        "losses": log.losses,
        "log": log.lines,
        "device": device_name(trainer.strategy.root_device),
        "n_train": len(train),
        "n_train_bad": int(train.is_bad.sum()),
        "versions": {library: version(library) for library in _LIBRARIES},
    }
    state_dict = {key: tensor.cpu() for key, tensor in module.state_dict().items()}
    if watch is not None:
        record |= watch.record()
        state_dict = watch.best_state or state_dict
    del module, trainer, twin, watch, data, log  # Lightning has hung the module onto each of them
    release_memory()
    return {**blueprint, "state_dict": state_dict}, record


def _networks(
    detector: dict[str, Any], weights: dict[str, dict[str, torch.Tensor] | None]
) -> tuple[dict[str, str], dict[str, dict[str, torch.Tensor]]]:
    """Names of the pretrained networks by what they are to the detector, and by name the weights they are given."""
    names: dict[str, str] = {}
    given: dict[str, dict[str, torch.Tensor]] = {}
    for role, read in weights.items():
        name = detector.get(role)
        if (name is None) != (read is None):
            state = "none were read" if read is None else "weights were read"
            raise DetectorError(f"Detector {detector['class_path']} names the {role} {name!r}, but {state}.")
        if name is not None and read is not None:
            names[role], given[name] = name, read
    return names, given


def _networks_of_the_class(
    detector: dict[str, Any], weights: Mapping[str, dict[str, torch.Tensor]]
) -> Mapping[str, dict[str, torch.Tensor]]:
    named = detector.get("networks") or []
    if set(named) != set(weights):
        read = ", ".join(weights) or "none"
        raise DetectorError(f"Detector {detector['class_path']} names the networks {named}, weights were read: {read}.")
    return weights


def _use_textures(module: AnomalibModule, textures: np.ndarray | None) -> None:
    if textures is None:
        return
    if not isinstance(module, UsesTextures):
        raise DetectorError(
            f"Detector {type(module).__name__} makes no use of textures. Remove 'textures' from its entry, or give its "
            "class a method use_textures(textures)."
        )
    module.use_textures(textures)


def _check_training_part(train: ImagePart, detector: dict[str, Any], image_size: int) -> None:
    if not len(train):
        raise DetectorError(f"Detector {detector['class_path']}: the training part has no image.")
    check_image_size(train, image_size)
    bad = train.table.loc[train.is_bad, "image"]
    if detector["learning_type"] == "one_class" and len(bad):
        raise DetectorError(
            f"BAD_IN_TRAIN: {detector['class_path']} learns from good images only, but {len(bad)} of {len(train)} "
            f"training images are labelled bad (the first: {bad.iloc[0]}). Correct the split, or set learning_type."
        )


def _check_foreground(train: ImagePart, detector: dict[str, Any], foreground: np.ndarray | None) -> None:
    if foreground is not None and len(foreground) != len(train):
        raise DetectorError(
            f"Detector {detector['class_path']}: there are {len(foreground)} foreground masks for {len(train)} "
            "training images, so they belong to other images. Make the foreground of this training part again."
        )


def _check_validation_part(
    train: ImagePart,
    validation: ImagePart | None,
    stopping: dict[str, Any] | None,
    detector: dict[str, Any],
    image_size: int,
) -> StoppingRule | None:
    """Refuses what cannot be validated on, before anything is trained; gives the rule of stopping, if there is one."""
    class_path = detector["class_path"]
    if validation is None:
        if stopping is not None:
            raise DetectorError(f"Detector {class_path}: stopping needs a validation part, and there is none.")
        return None
    check_image_size(validation, image_size)
    n_bad = int(validation.is_bad.sum())
    if n_bad in (0, len(validation)):
        raise DetectorError(
            f"Detector {class_path}: the validation part has {len(validation) - n_bad} good and {n_bad} bad images, so "
            "its AUROC is undefined. It needs at least one of each."
        )
    shared = sorted(set(train.table["image"]) & set(validation.table["image"]))
    if shared:
        raise DetectorError(
            f"DUPLICATE_TRAIN_VALIDATION: {len(shared)} images are in the training and in the validation part (the "
            f"first: {shared[0]}). A training watched on its own images stops too late; correct the split."
        )
    return None if stopping is None else StoppingRule.from_settings(stopping, class_path)


def _trainer_arguments(module: AnomalibModule, detector: dict[str, Any]) -> dict[str, Any]:
    """The class's and, above them, the settings'; refused if nothing ends the training but Lightning's 1000 epochs."""
    wanted = detector.get("trainer") or {}
    unknown = sorted(set(wanted) - set(inspect.signature(pl.Trainer).parameters))
    if unknown:
        raise DetectorError(f"Detector {detector['class_path']}: Lightning's Trainer does not take {unknown}.")
    arguments = {**module.trainer_arguments, **wanted}
    if arguments.get("max_epochs") is None and arguments.get("max_steps", -1) == -1:
        raise DetectorError(
            f"Detector {detector['class_path']} has no end of training. Add e.g. trainer: {{max_epochs: 100}} "
            "(or max_steps) to its entry."
        )
    return arguments


class _PeakMemory:
    """Samples the memory of this process while a block runs."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self.peak_gpu_mb: float | None = None
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _PeakMemory:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if torch.cuda.is_available():
            self.peak_gpu_mb = torch.cuda.max_memory_allocated() / 1e6

    def _watch(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 1e6)
            if self._done.wait(_MEMORY_SAMPLE_SECONDS):
                return
