"""From a detector's settings to its Lightning module, the same way for training and for prediction."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import click
from anomalib.models import AnomalibModule
from anomalib.models.components import TimmFeatureExtractor
from torch import nn
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.errors import DetectorError
from shopfloor.detectors.pre_processing import steps_of

# Thresholds, metrics and pictures are made from the stored raw scores, not by the detector (protocol 2.3).
_LEFT_OUT = ("post_processor", "evaluator", "visualizer")
_SET_HERE = ("pre_processor", *_LEFT_OUT)
_PARTS = (Unpack[AnomalibParts], "Unpack[AnomalibParts]")  # the second where annotations are not evaluated


class Blueprint(TypedDict):
    """Arguments of :func:`build`; a checkpoint holds them."""

    class_path: str
    init_args: Mapping[str, Any]
    networks: Mapping[str, str]
    image_size: int
    mean: Sequence[float] | None
    std: Sequence[float] | None


def build(
    class_path: str,
    init_args: Mapping[str, Any],
    networks: Mapping[str, str],
    image_size: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> AnomalibModule:
    """Builds a detector. Which weights its networks get is up to the context this is called in.

    Args:
        class_path: Importable name of an anomalib-style Lightning module.
        init_args: Its arguments, without those that are set here.
        networks: Names of the pretrained networks that the settings choose, by the argument of the class that takes
            them: ``backbone``, ``encoder``.
        image_size: Side S of the square input, in pixels.
        mean: Mean per channel of the input normalisation; replaces that of the class's own pre-processor.
        std: Standard deviation per channel, likewise.

    Returns:
        The module with its own pre-processor for S x S pixels, of which it crops none away, and without
        post-processor, evaluator and visualizer.

    Raises:
        DetectorError: If there is no such class or it does not take these arguments.
    """
    detector_class = _import_class(class_path)
    accepted = _accepted_arguments(class_path, detector_class)
    _check_arguments(class_path, init_args, networks, accepted)
    arguments = {**init_args, **networks}
    try:
        pre_processor = _pre_processor(detector_class, image_size)
        _set_normalisation(pre_processor, mean, std)
        parts: dict[str, Any] = {"pre_processor": pre_processor, **dict.fromkeys(_LEFT_OUT, False)}
        module = detector_class(**arguments, **{name: part for name, part in parts.items() if name in accepted})
    except click.ClickException:
        raise
    except Exception as error:  # a class may fail in any way: what matters is which one, and with which settings
        raise DetectorError(
            f"Detector {class_path} cannot be built with {arguments} for images of {image_size} pixels: "
            f"{type(error).__name__}: {error}"
        ) from error
    _check_layers(class_path, arguments, module)
    # For a class whose constructor does not pass these on to AnomalibModule.
    module.pre_processor = pre_processor
    for name in _LEFT_OUT:
        setattr(module, name, None)
    return module


def _import_class(class_path: str) -> type[AnomalibModule]:
    module_name, _, class_name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise DetectorError(
            f"Detector {class_path!r} cannot be imported: {error}. class_path must be the full name of an importable "
            "class, e.g. shopfloor.detectors.patchcore.Patchcore or anomalib.models.Padim."
        ) from error
    if not (inspect.isclass(found) and issubclass(found, AnomalibModule)):
        raise DetectorError(
            f"Detector {class_path} is not a class derived from anomalib.models.AnomalibModule, as it must be."
        )
    return found


def _accepted_arguments(class_path: str, detector_class: type[AnomalibModule]) -> list[str]:
    accepted: list[str] = []
    for parameter in list(inspect.signature(detector_class.__init__).parameters.values())[1:]:
        if parameter.annotation in _PARTS:
            accepted += AnomalibParts.__annotations__
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DetectorError(
                f"Detector {class_path} takes *args or **kwargs, so its settings cannot be checked. "
                "Give its constructor named arguments only."
            )
        else:
            accepted.append(parameter.name)
    return accepted


def _check_arguments(
    class_path: str, init_args: Mapping[str, Any], networks: Mapping[str, str], accepted: list[str]
) -> None:
    set_elsewhere = sorted(set(init_args) & {*_SET_HERE, *networks})
    if set_elsewhere:
        raise DetectorError(f"Detector {class_path}: {', '.join(set_elsewhere)} cannot stand in init_args.")
    unknown = sorted({*init_args, *networks} - set(accepted))
    if unknown:
        possible = ", ".join(name for name in accepted if name not in _SET_HERE) or "no arguments"
        raise DetectorError(f"Detector {class_path} does not take {', '.join(unknown)}. It takes: {possible}.")


def _pre_processor(detector_class: type[AnomalibModule], image_size: int) -> nn.Module:
    """The class's own, without its centre crop: the border of the part is judged like the rest of it."""
    arguments: dict[str, Any] = {"image_size": (image_size, image_size)}
    if "crop_size" in inspect.signature(detector_class.configure_pre_processor).parameters:
        arguments["crop_size"] = image_size  # of these classes the default is refused for smaller images
    pre_processor = detector_class.configure_pre_processor(**arguments)
    steps = steps_of(pre_processor)
    if any(isinstance(step, CenterCrop) for step in steps):
        pre_processor.transform = Compose([step for step in steps if not isinstance(step, CenterCrop)])
    return pre_processor


def _set_normalisation(pre_processor: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    if mean is None and std is None:
        return
    if mean is None or std is None:
        raise DetectorError("The input normalisation of a backbone needs both, mean and std.")
    steps = steps_of(pre_processor)
    steps = [Normalize(mean=mean, std=std) if isinstance(step, Normalize) else step for step in steps]
    pre_processor.transform = Compose(steps)


def _check_layers(class_path: str, arguments: Mapping[str, Any], module: AnomalibModule) -> None:
    """anomalib drops a layer that the network lacks, with a warning, and fails much later."""
    for part in module.modules():
        if not isinstance(part, TimmFeatureExtractor) or not hasattr(part.feature_extractor, "feature_info"):
            continue
        absent = set(arguments.get("layers", ())) - set(part.layers)
        if absent:
            layers = ", ".join(info["module"] for info in part.feature_extractor.feature_info.info)
            raise DetectorError(
                f"Detector {class_path}: '{part.backbone}' has no layers {sorted(absent)}. It has: {layers}."
            )
