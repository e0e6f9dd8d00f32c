"""Synthetic drift: what a moved camera, other light and a worse recording do to test images (protocol 4.3).

One or two transforms are drawn for every test image, at most one of each category, and are kept as a table. What they
do is a function of the image, the drawn parameters and the settings. Where the paper leaves a choice, protocol 5 makes
it, and the number stands with the code:

* no. 1 and 2: the seven transforms of the paper's Table 10. Salt-and-pepper noise exists and is on when the settings
  name it.
* no. 3: noise is added to the image in [0, 1], independently for every pixel and colour channel.
* no. 4: a shadow layer is a random polygon; all layers together reach the factor.
* no. 5: the scale of a crop is a share of the area, the aspect ratio stays.
* no. 6: what a rotation or a change of perspective uncovers is filled, black unless the settings say otherwise.
* no. 7: corners move inwards by at most half of ``distortion_scale`` times the side, as in torchvision.
* no. 8: ``resolution`` says where the caller applies the drift; nothing here depends on the size of the image.
* no. 9: one or two categories with equal probability, in the order of a physical camera.

Protocol 5 is silent on these: colour jitter changes brightness, contrast and saturation in this order (torchvision
draws the order), and a shadow polygon has five corners, which do not cross (see :func:`_polygons`).

Pillow images are handed to torchvision where it takes them: that code runs on one thread, so the result cannot depend
on their number, and images drift side by side without competing for cores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from shopfloor.entries import Settings
from shopfloor.perturbations.drift_settings import (
    CATEGORY_OF,
    WHITE,
    Crop,
    DriftSettings,
    GaussianBlur,
    GaussianNoise,
    Perspective,
    SaltAndPepper,
    Shadow,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image
    from torchvision.transforms import InterpolationMode

Drawn = Mapping[str, Any]  # parameters of a transform

SHADOW_CORNERS = 5  # albumentations' RandomShadow has as many


def draw_drift(test: pd.DataFrame, settings: DriftSettings, dataset: str, category: str, seed: int) -> pd.DataFrame:
    """Draw transforms and their parameters for every test image (protocol 4.3, steps 1 to 5).

    All that is random about an image comes from a generator that is seeded by a hash of seed, dataset, category and
    relative path. So it depends on no other image and on no order, and nothing of it on the size of the image.

    Args:
        test: Table of the test images; ``image`` holds paths relative to the dataset root.
        settings: What may be drawn.
        dataset: Name of the dataset.
        category: Name of the category.
        seed: Seed of the draw.

    Returns:
        One line per image, in the order of ``test``: ``image``; ``transforms``, names joined by " + " in the order in
        which they are applied; a column per transform category with the name of its transform or an empty text; and
        ``parameters``, JSON by transform. Lengths in it are shares of width and height.
    """
    import pandas as pd

    order = list(settings.order)
    lines = []
    for image in test["image"]:
        parameters = _draw_image(settings, f"{seed}/{dataset}/{category}/{image}")
        chosen = dict.fromkeys(order, "") | {CATEGORY_OF[name]: name for name in parameters}
        names = {"image": image, "transforms": " + ".join(parameters)}
        lines.append({**names, **chosen, "parameters": json.dumps(parameters)})
    return pd.DataFrame(lines, columns=["image", "transforms", *order, "parameters"], dtype="str")


def parameters_of(line: Any) -> dict[str, dict[str, Any]]:
    """Drawn parameters by transform, from a line of the table of :func:`draw_drift` (tuple with names, or Series)."""
    parameters: dict[str, dict[str, Any]] = json.loads(line.parameters)
    return parameters


def drift_image(
    image: NDArray[np.uint8], parameters: Mapping[str, Drawn], settings: DriftSettings
) -> NDArray[np.uint8]:
    """Apply drawn transforms to an image.

    Args:
        image: Array (H, W, 3), uint8, of any size from 32 pixels on.
        parameters: Drawn by transform, see :func:`parameters_of`.
        settings: The settings that they were drawn with.

    Returns:
        Array of the same shape; the argument is left as it was.
    """
    for name in settings.in_order(parameters):
        if CATEGORY_OF[name] == "camera_position":
            image = _move_image(image, name, parameters[name], settings.fill)
        else:
            image = _PIXEL_CHANGES[name](image, parameters[name], settings.transform(name))
    return image


def drift_mask(mask: NDArray[np.uint8], parameters: Mapping[str, Drawn], settings: DriftSettings) -> NDArray[np.uint8]:
    """Let a mask follow the camera: nearest neighbour, filled with 0. Light and quality leave it as it is.

    Args:
        mask: Array (H, W), uint8, values 0 and 1, of the size of its image.
        parameters: As in :func:`drift_image`.
        settings: As in :func:`drift_image`.

    Returns:
        Array of the same shape, or ``mask`` itself if the camera did not move. It may be empty.
    """
    from torchvision.transforms import InterpolationMode

    for name in settings.in_order(parameters):
        if CATEGORY_OF[name] == "camera_position":
            mask = _move(mask, name, parameters[name], InterpolationMode.NEAREST, fill=0)
    return mask


# --- draws -----------------------------------------------------------------------------------------------------------


def _draw_image(settings: DriftSettings, key: str) -> dict[str, dict[str, Any]]:
    """Parameters of one image by transform, in the order in which the transforms are applied.

    Everything is drawn from sorted names, so that neither the order of keys in a parameter file nor the order of
    application changes what is drawn.
    """
    import numpy as np

    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest(), "big"))
    transforms = settings.transforms.on
    counts = sorted(settings.categories_per_image)
    count = counts[rng.integers(len(counts))]
    drawn = {}
    for category in sorted(rng.permutation(sorted(transforms))[:count].tolist()):
        names = sorted(transforms[category])
        name = names[rng.integers(len(names))]
        drawn[name] = _draw_parameters(transforms[category][name], rng)
    return {name: drawn[name] for name in settings.in_order(drawn)}


def _draw_parameters(options: Settings, rng: np.random.Generator) -> dict[str, Any]:
    """Draw a value from every range of a transform, and what else it needs to be repeated exactly."""
    ranges = {key: value for key, value in sorted(options) if isinstance(value, tuple)}
    drawn: dict[str, Any] = {key: float(rng.uniform(*value)) for key, value in ranges.items()}
    match options:
        case Crop():
            side = drawn["scale"] ** 0.5  # share of the area (no. 5)
            top, left = (rng.random(2) * (1 - side)).tolist()
            return {"top": top, "left": left, "height": side, "width": side}
        case Perspective(distortion_scale=share):
            # torchvision's share is one of half the side (no. 7)
            return {"corner_offsets": rng.uniform(0, share / 2, (4, 2)).tolist()}
        case Shadow(layers=layers):
            return {"polygons": _polygons(layers, rng)}
        case GaussianNoise() | SaltAndPepper():
            return {**drawn, "seed": int(rng.integers(2**32))}  # of the noise field
    return drawn


def _polygons(count: int, rng: np.random.Generator) -> list[list[list[float]]]:
    """Polygons with corners (x, y) anywhere in the image.

    The corners are joined in the order in which they are seen from their centre: an outline that crosses itself would
    leave holes in its shadow.
    """
    import numpy as np

    corners = rng.random((count, SHADOW_CORNERS, 2))
    from_centre = corners - corners.mean(axis=1, keepdims=True)
    order = np.argsort(np.arctan2(from_centre[..., 1], from_centre[..., 0]), axis=1)
    polygons: list[list[list[float]]] = np.take_along_axis(corners, order[..., None], axis=1).tolist()
    return polygons


# --- camera position -------------------------------------------------------------------------------------------------


def _move_image(image: NDArray[np.uint8], name: str, drawn: Drawn, fill: int) -> NDArray[np.uint8]:
    """Move the camera, with bilinear interpolation.

    Channel by channel in floats, because Pillow cuts off the fractions of 8-bit values: the image would become darker
    by half a grey level, which is not what a moved camera does.
    """
    import numpy as np
    from torchvision.transforms import InterpolationMode

    def moved(channel: NDArray[np.uint8]) -> NDArray[np.uint8]:
        values = _move(channel.astype(np.float32), name, drawn, InterpolationMode.BILINEAR, fill)
        return np.rint(values).astype(np.uint8)

    return np.stack([moved(image[..., channel]) for channel in range(image.shape[2])], axis=2)


def _move(plane: NDArray[Any], name: str, drawn: Drawn, interpolation: InterpolationMode, fill: int) -> NDArray[Any]:
    """Apply a transform of the camera position to an array (H, W)."""
    import numpy as np
    from PIL import Image
    from torchvision.transforms.v2 import functional

    picture = Image.fromarray(plane)
    if name == "rotation":  # counter-clockwise about the centre
        picture = functional.rotate(picture, drawn["degrees"], interpolation=interpolation, fill=fill)
    elif name == "crop":
        picture = _crop(picture, drawn, interpolation)
    else:
        coefficients = _perspective_coefficients(drawn["corner_offsets"], picture.size)
        picture = functional.perspective(picture, None, None, interpolation, fill, coefficients)
    return np.array(picture)


def _crop(picture: Image.Image, drawn: Drawn, interpolation: InterpolationMode) -> Image.Image:
    """Cut to whole pixels, and resize back."""
    from torchvision.transforms.v2 import functional

    height = max(1, round(drawn["height"] * picture.height))
    width = max(1, round(drawn["width"] * picture.width))
    top = min(round(drawn["top"] * picture.height), picture.height - height)
    left = min(round(drawn["left"] * picture.width), picture.width - width)
    size = [picture.height, picture.width]
    cropped: Image.Image = functional.resized_crop(picture, top, left, height, width, size, interpolation)
    return cropped


def _perspective_coefficients(corner_offsets: list[list[float]], size: tuple[int, int]) -> list[float]:
    """Coefficients of the map from a pixel of the result to the image.

    torchvision's own come from whole pixels and in single precision.

    Args:
        corner_offsets: How far each corner moves inwards, as shares of width and height; clockwise from top left.
        size: Width and height.
    """
    import cv2
    import numpy as np

    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    moved = corners + (1 - 2 * corners) * np.array(corner_offsets)
    matrix = cv2.getPerspectiveTransform((moved * size).astype(np.float32), (corners * size).astype(np.float32))
    coefficients: list[float] = (matrix / matrix[2, 2]).ravel()[:8].tolist()
    return coefficients


# --- lighting and quality --------------------------------------------------------------------------------------------


def _colour_jitter(image: NDArray[np.uint8], drawn: Drawn, options: Settings) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image
    from torchvision.transforms.v2 import functional

    picture = Image.fromarray(image)
    picture = functional.adjust_brightness(picture, drawn["brightness"])
    picture = functional.adjust_contrast(picture, drawn["contrast"])
    return np.array(functional.adjust_saturation(picture, drawn["saturation"]))


def _shadow(image: NDArray[np.uint8], drawn: Drawn, options: Shadow) -> NDArray[np.uint8]:
    """Darken what the polygons cover, each by its part of the way to the factor (no. 4)."""
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    layers = np.zeros((height, width), np.uint8)
    for polygon in drawn["polygons"]:
        corners = np.rint(np.array(polygon) * (width - 1, height - 1)).astype(np.int32)
        layer = np.zeros_like(layers)
        cv2.fillPoly(layer, [corners], 1)
        layers += layer
    count = len(drawn["polygons"])
    weights = 1 - (1 - options.factor) * np.arange(count + 1) / count
    darkened = np.rint(np.outer(weights, np.arange(WHITE + 1))).astype(np.uint8)  # by layers and value
    return darkened[layers[..., None], image]


def _gaussian_blur(image: NDArray[np.uint8], drawn: Drawn, options: GaussianBlur) -> NDArray[np.uint8]:
    """Blur rows and columns one after the other; torchvision's two-dimensional kernel takes three times as long."""
    import numpy as np
    import torch
    from kornia.filters import gaussian_blur2d

    pixels = torch.from_numpy(np.array(image.transpose(2, 0, 1)[None], np.float32, order="C"))
    blurred = gaussian_blur2d(pixels, options.kernel_size, (drawn["sigma"], drawn["sigma"]))
    return np.ascontiguousarray(blurred[0].round().to(torch.uint8).permute(1, 2, 0).numpy())


def _gaussian_noise(image: NDArray[np.uint8], drawn: Drawn, options: GaussianNoise) -> NDArray[np.uint8]:
    """Add ``scale * n`` to the image in [0, 1], ``n`` normal (no. 3). The mean above 0 makes it brighter."""
    import numpy as np

    scale = drawn["scale"] * WHITE
    noise = np.random.default_rng(drawn["seed"]).standard_normal(image.shape, np.float32)
    noise *= np.float32(scale * options.standard_deviation)
    noise += np.float32(scale * options.mean)
    noise += image
    return np.rint(noise.clip(0, WHITE, out=noise), out=noise).astype(np.uint8)


def _salt_and_pepper(image: NDArray[np.uint8], drawn: Drawn, options: Settings) -> NDArray[np.uint8]:
    """Make a share of the pixels black or white, half of them each (no. 1)."""
    import numpy as np

    field = np.random.default_rng(drawn["seed"]).random(image.shape[:2], np.float32)
    image = image.copy()
    image[field < drawn["share"] / 2] = 0
    image[field >= 1 - drawn["share"] / 2] = WHITE
    return image


_PIXEL_CHANGES: dict[str, Callable[[NDArray[np.uint8], Drawn, Any], NDArray[np.uint8]]] = {
    "colour_jitter": _colour_jitter,
    "shadow": _shadow,
    "gaussian_blur": _gaussian_blur,
    "gaussian_noise": _gaussian_noise,
    "salt_and_pepper": _salt_and_pepper,
}
