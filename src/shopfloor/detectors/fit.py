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
from shopfloor.detectors.backbones import StateDict, use_networks, weights_from_hub
from shopfloor.detectors.building import Blueprint, DetectorError, build
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.running import check_image_size, device_name, quiet_trainer, release_memory
from shopfloor.detectors.stopping import Twin, ValidationWatch
from shopfloor.detectors.stopping_rule import StoppingRule
from shopfloor.detectors.textures import UsesTextures
from shopfloor.detectors.training_log import TrainingLog
from shopfloor.planning.settings import BackboneSettings, DetectorSettings

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

    encoder_weights: StateDict | None = None
    textures: np.ndarray | None = None
    foreground: np.ndarray | None = None
    network_weights: Mapping[str, StateDict] = field(default_factory=dict)


def fit(  # noqa: PLR0913, PLR0917 (what a training depends on)
    train: ImagePart,
    detector: DetectorSettings,
    backbone: BackboneSettings | None,
    weights: StateDict | None,
    image_size: int,
    seed: int,
    validation: ImagePart | None = None,
    stopping: StoppingRule | None = None,
    extras: TrainingExtras = TrainingExtras(),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains one detector on one training part, on the GPU if there is one.

    Seeds the global random generators of Python, NumPy and torch first, so two calls with the same arguments on a CPU
    give the same bits. One call per process at a time.

    A validation part is looked at after each epoch and changes no weight of any epoch. Only with ``stopping`` does it
    choose: when the training ends, and that the checkpoint holds the best state instead of the last.

    Args:
        train: Training images S x S; the labels are those the detector is told.
        detector: The detector; its ``trainer`` arguments win over those that the class asks for.
        backbone: Its backbone; ``mean`` and ``std`` replace those of the class's own pre-processor.
        weights: Its weights, from :func:`shopfloor.detectors.backbones.read_weights`.
        image_size: Side S of the images, in pixels.
        seed: Seed of everything random.
        validation: Images S x S, good and bad, none of them in ``train``; their labels are not told to the detector.
        stopping: Rule of early stopping; None trains to the full length.
        extras: What only some detectors are trained with.

    Returns:
        The checkpoint, for :func:`shopfloor.detectors.predict.predict`: a dict of plain values and tensors that
        ``torch.load(..., weights_only=True)`` can read. And the record of the training, see :func:`_record`.

    Raises:
        DetectorError: Settings or images do not serve, or a loss or a validation value is not a finite number.
        WeightsMismatch: The detector does not use the given weights.
        WeightsMissing: The detector wants weights from the hub and these cannot be had.
    """
    _check_training_part(train, detector, image_size, extras.foreground)
    _check_validation_part(train, validation, stopping, detector, image_size)
    networks, given = _networks(detector, weights, extras)
    blueprint = _blueprint(detector, backbone, networks, image_size)
    module = _build(blueprint, given, seed, extras.textures)
    arguments = _trainer_arguments(module, detector)
    watch = _watch(blueprint, validation, stopping, detector.batch_size, seed, arguments, extras.textures)
    log = TrainingLog()
    trainer = quiet_trainer(**arguments, callbacks=[log] if watch is None else [log, watch])
    data = PartDataModule(train, detector.batch_size, seed, detector.num_workers, detector.balance, extras.foreground)
    with _Measured() as measured:
        trainer.fit(module, datamodule=data)  # ends with the module on the CPU: a GPU has done its work by then
    record = _record(train, module, trainer, measured, log, watch)
    best = watch.best_state if watch is not None else None
    state_dict = best or {key: tensor.cpu() for key, tensor in module.state_dict().items()}
    del module, trainer, watch, data, log  # Lightning has hung the module onto each of them
    release_memory()
    return {**blueprint, "state_dict": state_dict}, record


def _blueprint(
    detector: DetectorSettings, backbone: BackboneSettings | None, networks: dict[str, str], image_size: int
) -> Blueprint:
    """What the detector is built of, plain values only."""
    mean, std = (backbone.mean, backbone.std) if backbone else (None, None)
    return {
        "class_path": detector.class_path,
        "init_args": dict(detector.init_args),
        "networks": networks,
        "image_size": image_size,
        "mean": None if mean is None else list(mean),
        "std": None if std is None else list(std),
    }


def _build(
    blueprint: Blueprint, given: Mapping[str, StateDict], seed: int, textures: np.ndarray | None
) -> AnomalibModule:
    """Builds the detector with its weights, as the first that is drawn by this seed."""
    # Before the detector is built: some draw numbers in their constructor.
    pl.seed_everything(seed, workers=True, verbose=False)
    with use_networks(given) if given else weights_from_hub():
        module = build(**blueprint)
    _use_textures(module, textures)
    return module


def _watch(
    blueprint: Blueprint,
    validation: ImagePart | None,
    stopping: StoppingRule | None,
    batch_size: int,
    seed: int,
    arguments: Mapping[str, Any],
    textures: np.ndarray | None,
) -> ValidationWatch | None:
    """Looks at the validation part, if there is one, after each epoch."""
    if stopping is not None:
        stopping.check_length(arguments.get("max_epochs"), blueprint["class_path"])
    if validation is None:
        return None
    twin = Twin(blueprint, validation, batch_size, seed, arguments)
    _use_textures(twin.module, textures)
    return ValidationWatch(twin, stopping)


def _record(
    train: ImagePart,
    module: AnomalibModule,
    trainer: pl.Trainer,
    measured: _Measured,
    log: TrainingLog,
    watch: ValidationWatch | None,
) -> dict[str, Any]:
    """What there is to know of a training, plain values only.

    Returns:
        ``fit_seconds``; ``peak_memory_mb``, the most main memory the process held meanwhile, libraries included, and
        ``peak_gpu_memory_mb`` (None without GPU), both in 10^6 bytes; ``parameters``, the number of them; ``epochs``;
        ``losses``, per logged name one value per epoch; ``log``, the lines of
        :class:`shopfloor.detectors.training_log.TrainingLog`; ``device``; ``n_train``; ``n_train_bad``; ``versions``.
        With a validation part also what :meth:`shopfloor.detectors.stopping.ValidationWatch.record` gives; its seconds
        are part of ``fit_seconds``, its memory of the peaks.
    """
    return {
        "fit_seconds": measured.seconds,
        "peak_memory_mb": measured.peak_mb,
        "peak_gpu_memory_mb": measured.peak_gpu_mb,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "epochs": trainer.current_epoch,
        "losses": log.losses,
        "log": log.lines,
        "device": device_name(trainer.strategy.root_device),
        "n_train": len(train),
        "n_train_bad": int(train.is_bad.sum()),
        "versions": {library: version(library) for library in _LIBRARIES},
        **(watch.record() if watch is not None else {}),
    }


def _networks(
    detector: DetectorSettings, weights: StateDict | None, extras: TrainingExtras
) -> tuple[dict[str, str], dict[str, StateDict]]:
    """Names of the pretrained networks by what they are to the detector, and by name the weights they are given."""
    names, given = detector.named_networks, dict(extras.network_weights)
    for role, read in (("backbone", weights), ("encoder", extras.encoder_weights)):
        name = names.get(role)
        if (name is None) != (read is None):
            state = "none were read" if read is None else "weights were read"
            raise DetectorError(f"Detector {detector.class_path} names the {role} {name!r}, but {state}.")
        if name is not None and read is not None:
            given[name] = read
    if set(detector.networks) != set(extras.network_weights):
        named, read_of = ", ".join(detector.networks) or "none", ", ".join(extras.network_weights) or "none"
        raise DetectorError(f"Detector {detector.class_path} names the networks {named}, weights were read: {read_of}.")
    return names, given


def _use_textures(module: AnomalibModule, textures: np.ndarray | None) -> None:
    if textures is None:
        return
    if not isinstance(module, UsesTextures):
        raise DetectorError(
            f"Detector {type(module).__name__} makes no use of textures. Remove 'textures' from its entry, or give its "
            "class a method use_textures(textures)."
        )
    module.use_textures(textures)


def _check_training_part(
    train: ImagePart, detector: DetectorSettings, image_size: int, foreground: np.ndarray | None
) -> None:
    class_path = detector.class_path
    if not len(train):
        raise DetectorError(f"Detector {class_path}: the training part has no image.")
    check_image_size(train, image_size)
    bad = train.table.loc[train.is_bad, "image"]
    if detector.learning_type == "one_class" and len(bad):
        raise DetectorError(
            f"BAD_IN_TRAIN: {class_path} learns from good images only, but {len(bad)} of {len(train)} "
            f"training images are labelled bad (the first: {bad.iloc[0]}). Correct the split, or set learning_type."
        )
    if foreground is not None and len(foreground) != len(train):
        raise DetectorError(
            f"Detector {class_path}: there are {len(foreground)} foreground masks for {len(train)} "
            "training images, so they belong to other images. Make the foreground of this training part again."
        )


def _check_validation_part(
    train: ImagePart,
    validation: ImagePart | None,
    stopping: StoppingRule | None,
    detector: DetectorSettings,
    image_size: int,
) -> None:
    """Refuses what cannot be validated on, before anything is trained."""
    class_path = detector.class_path
    if validation is None:
        if stopping is not None:
            raise DetectorError(f"Detector {class_path}: stopping needs a validation part, and there is none.")
        return
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


def _trainer_arguments(module: AnomalibModule, detector: DetectorSettings) -> dict[str, Any]:
    """The class's and, above them, the settings'; refused if nothing ends the training but Lightning's 1000 epochs."""
    unknown = sorted(set(detector.trainer) - set(inspect.signature(pl.Trainer).parameters))
    if unknown:
        raise DetectorError(f"Detector {detector.class_path}: Lightning's Trainer does not take {unknown}.")
    arguments = {**module.trainer_arguments, **detector.trainer}
    if arguments.get("max_epochs") is None and arguments.get("max_steps", -1) == -1:
        raise DetectorError(
            f"Detector {detector.class_path} has no end of training. Add e.g. trainer: {{max_epochs: 100}} "
            "(or max_steps) to its entry."
        )
    return arguments


class _Measured:
    """Takes the time of a block, and samples the memory of this process while it runs."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0
        self.peak_mb = 0.0
        self.peak_gpu_mb: float | None = None
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Measured:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread.start()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self._done.set()
        self._thread.join()
        if torch.cuda.is_available():
            self.peak_gpu_mb = torch.cuda.max_memory_allocated() / 1e6

    def _watch(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 1e6)
            if self._done.wait(_MEMORY_SAMPLE_SECONDS):
                return
