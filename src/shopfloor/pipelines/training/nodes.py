"""Fetch backbone weights and fit detectors."""

from __future__ import annotations

from typing import Any

from shopfloor.catalog.image_stack import ImagePart

Settings = dict[str, Any]


def load_weights(backbone: Settings, *, name: str) -> dict[str, Any]:
    """Read the pretrained weights of a backbone from where its entry says.

    Args:
        backbone: The backbone's entry.
        name: timm name of the network.

    Returns:
        State dict in timm's keys.

    Raises:
        WeightsMissing: They are not there; the text says how to get them.
    """
    from shopfloor.detectors.backbones import read_weights

    return read_weights(name, backbone)


def fit_detector(
    train_images: ImagePart,
    detector: Settings,
    backbone: Settings | None = None,
    weights: dict[str, Any] | None = None,
    validation_images: ImagePart | None = None,
    *,
    image_size: int,
    seed: int,
    stopping: Settings | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit one detector on the training part of one category.

    Args:
        train_images: Training images with the labels they are given, (N, S, S, 3) uint8.
        detector: The detector's entry.
        backbone: Entry of its backbone.
        weights: Weights of its backbone.
        validation_images: Images held out of the training data, good and bad, to watch the training by.
        image_size: Side of the model input in pixels.
        seed: Seed of everything that is random in the training.
        stopping: Rule of early stopping; None trains to the full length.

    Returns:
        The checkpoint and the record of the fit (seconds, memory, parameters, losses, versions).
    """
    from shopfloor.detectors.fit import fit

    return fit(
        train_images, detector, backbone, weights, image_size, seed, validation=validation_images, stopping=stopping
    )
