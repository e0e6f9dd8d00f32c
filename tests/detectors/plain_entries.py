"""Fitting and reading with entries as they stand in a parameter file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors import backbones
from shopfloor.detectors import fit as fitting
from shopfloor.detectors.fit import TrainingExtras
from shopfloor.detectors.stopping_rule import StoppingRule
from shopfloor.planning.settings import BackboneSettings, DetectorSettings

Entry = Mapping[str, Any]
StateDict = dict[str, torch.Tensor]

NO_EXTRAS = TrainingExtras()


def fit(  # noqa: PLR0917 (those of the function itself)
    train: ImagePart,
    detector: Entry,
    backbone: Entry | None,
    weights: StateDict | None,
    image_size: int,
    seed: int,
    validation: ImagePart | None = None,
    stopping: Entry | None = None,
    extras: TrainingExtras = NO_EXTRAS,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train a detector, with entries in the place of settings."""
    return fitting.fit(
        train,
        DetectorSettings.model_validate(detector),
        None if backbone is None else BackboneSettings.model_validate(backbone),
        weights,
        image_size,
        seed,
        validation,
        None if stopping is None else StoppingRule.model_validate(stopping),
        extras,
    )


def read_weights(name: str, backbone: Entry) -> StateDict:
    """Read the weights of a network, with its entry in the place of settings."""
    return backbones.read_weights(name, BackboneSettings.model_validate(backbone))
