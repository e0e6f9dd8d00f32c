"""Fetch backbone weights and fit detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.weight_files import weight_file
from shopfloor.planning.binding import Sources, SourcesGoneError, reads
from shopfloor.planning.settings import BackboneSettings, DetectorSettings

#: An entry of the parameter files, as Kedro hands it to a node.
Entry = Mapping[str, Any]

#: How the inputs of :func:`fit_detector` begin that hold the weights of the class's own networks; a number follows.
OWN_NETWORK = "network_weights_"


def list_weight_file(backbone: Entry, *, name: str) -> Sources:
    """Find the file that a network's weights are read from; those of a hub have a name only."""
    file = weight_file(name, backbone.get("weights"))
    if file and not file.is_file():
        raise SourcesGoneError(f"backbones.{name}.weights: there is no file '{file}'.")
    return Sources({"weights": file} if file else {})


@reads(list_weight_file)
def load_weights(backbone: Entry, *, name: str) -> dict[str, Any]:
    """Read the pretrained weights of a backbone from where its entry says.

    Args:
        backbone: The backbone's entry.
        name: Name of the network in timm or torchvision.

    Returns:
        State dict in that library's keys.

    Raises:
        WeightsMissing: They are not there; the text says how to get them.
    """
    from shopfloor.detectors.backbones import read_weights

    return read_weights(name, BackboneSettings.model_validate(backbone))


def fit_detector(  # noqa: PLR0913 (what a training depends on)
    train_images: ImagePart,
    detector: Entry,
    backbone: Entry | None = None,
    backbone_weights: dict[str, Any] | None = None,
    encoder_weights: dict[str, Any] | None = None,
    textures: np.ndarray | None = None,
    foreground: np.ndarray | None = None,
    validation_images: ImagePart | None = None,
    *,
    image_size: int,
    seed: int,
    stopping: Entry | None = None,
    **own_networks: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], pd.DataFrame]:
    """Fit one detector on the training part of one category.

    Args:
        train_images: Training images with the labels they are given, (N, S, S, 3) uint8.
        detector: The detector's entry.
        backbone: Entry of its backbone.
        backbone_weights: Weights of its backbone.
        encoder_weights: Weights of its encoder.
        textures: Texture images (M, S, S, 3), uint8, that it makes synthetic defects of.
        foreground: Where the part is in each training image, (N, S, S), 0 or 1.
        validation_images: Images held out of the training data, good and bad, to watch the training by.
        image_size: Side of the model input in pixels.
        seed: Seed of everything that is random in the training.
        stopping: Rule of early stopping; None trains to the full length.
        **own_networks: Weights of the networks that the entry names as ``networks``: ``network_weights_0`` and so on.

    Returns:
        The checkpoint, the record of the fit (seconds, memory, parameters, versions), and its log: one line per epoch
        with seconds, learning rate and losses.
    """
    from shopfloor.detectors.fit import TrainingExtras, fit
    from shopfloor.detectors.stopping_rule import StoppingRule

    settings = DetectorSettings.model_validate(detector)
    network_weights = {name: own_networks[f"{OWN_NETWORK}{number}"] for number, name in enumerate(settings.networks)}
    checkpoint, record = fit(
        train_images,
        settings,
        None if backbone is None else BackboneSettings.model_validate(backbone),
        backbone_weights,
        image_size,
        seed,
        validation=validation_images,
        stopping=None if stopping is None else StoppingRule.model_validate(stopping),
        extras=TrainingExtras(encoder_weights, textures, foreground, network_weights),
    )
    log = pd.DataFrame(record.pop("log"))
    return checkpoint, record, log
