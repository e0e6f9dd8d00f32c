"""Settings of synthetic drift: the transforms by category, with the range of every number (protocol 4.3 and 5).

All keys of a transform are required: a default in the code would be a setting that nobody sees. A transform or category
that is null is off: an environment can override a key of another file and cannot remove one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ValidationInfo, field_validator

from shopfloor.entries import Expected, Listed, Settings, refusal

WHITE = 255


class _Within(Expected):
    """A number, or each number of a list, lies in a range, ends included."""

    def __init__(self, low: float, high: float, what: str = "a number") -> None:
        super().__init__(f"{what} from {low:g} to {high:g}")
        self.low, self.high = low, high

    def allows(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)


class _Range(_Within):
    """A list of a lowest and a highest number, both in a range."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__(low, high, "a list of a lowest and a highest number")

    def allows(self, value: Any) -> bool:
        lowest, highest = value
        return bool(self.low <= lowest <= highest <= self.high)


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise refusal("expected an odd number.")
    return value


_Pair = Annotated[tuple[int | float, int | float], Listed]


class Rotation(Settings):
    """Turned about its centre.

    Attributes:
        degrees: Range of the angle, counter-clockwise.
    """

    degrees: Annotated[_Pair, _Range(-180, 180)]


class Crop(Settings):
    """Cut out and resized back.

    Attributes:
        scale: Range of the share of the area that is kept.
    """

    scale: Annotated[_Pair, _Range(0.01, 1)]


class Perspective(Settings):
    """Seen from another side.

    Attributes:
        distortion_scale: Corners move inwards by at most half of this share of the side.
    """

    distortion_scale: Annotated[int | float, _Within(0, 0.6)]  # from 2/3 on the picture can fold over


class ColourJitter(Settings):
    """Other colours.

    Attributes:
        brightness: Range of its factor.
        contrast: Range of its factor.
        saturation: Range of its factor.
    """

    brightness: Annotated[_Pair, _Range(0, 10)]
    contrast: Annotated[_Pair, _Range(0, 10)]
    saturation: Annotated[_Pair, _Range(0, 10)]


class Shadow(Settings):
    """Darkened by polygons.

    Attributes:
        layers: Number of polygons.
        factor: What is left of the brightness where all of them lie.
    """

    layers: Annotated[int, _Within(1, 20, "a whole number")]
    factor: Annotated[int | float, _Within(0, 1)]


class GaussianBlur(Settings):
    """Out of focus.

    Attributes:
        kernel_size: Side of the kernel, in pixels.
        sigma: Range of the standard deviation, in pixels.
    """

    # half a kernel must fit into an image of 32 pixels
    kernel_size: Annotated[int, AfterValidator(_odd), _Within(3, 63, "an odd number")]
    sigma: Annotated[_Pair, _Range(0.01, 100)]


class GaussianNoise(Settings):
    """A noisy sensor.

    Attributes:
        mean: Mean of the noise before it is scaled.
        standard_deviation: Its standard deviation.
        scale: Range of the scale, of values in [0, 1].
    """

    mean: Annotated[int | float, _Within(-10, 10)]
    standard_deviation: Annotated[int | float, _Within(0, 10)]
    scale: Annotated[_Pair, _Range(0, 1)]


class SaltAndPepper(Settings):
    """Dead pixels.

    Attributes:
        share: Range of the share of pixels, half of them black.
    """

    share: Annotated[_Pair, _Range(0, 1)]


class CameraPosition(Settings):
    """Transforms of where the camera stands."""

    rotation: Rotation | None = None
    crop: Crop | None = None
    perspective: Perspective | None = None


class Lighting(Settings):
    """Transforms of the light."""

    colour_jitter: ColourJitter | None = None
    shadow: Shadow | None = None


class Quality(Settings):
    """Transforms of the recording."""

    gaussian_blur: GaussianBlur | None = None
    gaussian_noise: GaussianNoise | None = None
    salt_and_pepper: SaltAndPepper | None = None


class Transforms(Settings):
    """Transforms by category."""

    camera_position: CameraPosition | None = None
    lighting: Lighting | None = None
    quality: Quality | None = None

    @property
    def on(self) -> dict[str, dict[str, Settings]]:
        """The transforms that are on, by category, without empty categories."""
        by_category = {category: _without_none(names) for category, names in _without_none(self).items()}
        return {category: transforms for category, transforms in by_category.items() if transforms}


def _without_none(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in settings if value is not None}


_CATEGORIES: dict[str, type[Settings]] = {
    "camera_position": CameraPosition, "lighting": Lighting, "quality": Quality
}  # fmt: skip
#: The category of each transform.
CATEGORY_OF = {name: category for category, model in _CATEGORIES.items() for name in model.model_fields}


class DriftSettings(Settings):
    """How test images drift.

    Attributes:
        transforms: The transforms by category.
        categories_per_image: How many categories an image is given a transform of; each entry has equal probability.
        order: Categories in the order in which they are applied.
        fill: Value from 0 to 255 of what a moved image uncovers.
        resolution: Whether an image drifts as it is in its file (``source``) or after the resize (``input``).
    """

    transforms: Transforms
    categories_per_image: tuple[int, ...]
    order: tuple[str, ...]
    fill: Annotated[int, _Within(0, WHITE, "a whole number")]
    resolution: Annotated[Literal["source", "input"], Expected("source or input")]

    @field_validator("transforms")
    @classmethod
    def _some_on(cls, transforms: Transforms) -> Transforms:
        if not transforms.on:
            raise refusal("no transform is on.")
        return transforms

    @field_validator("categories_per_image", mode="before")
    @classmethod
    def _possible(cls, counts: Any, info: ValidationInfo) -> Any:
        most = len(_on(info))
        is_list = isinstance(counts, list | tuple) and counts
        if not is_list or not all(type(count) is int and 1 <= count <= most for count in counts):
            raise refusal(f"expected a list, each entry a whole number from 1 to {most}, found {counts!r}.")
        return tuple(counts)

    @field_validator("order", mode="before")
    @classmethod
    def _each_once(cls, order: Any, info: ValidationInfo) -> Any:
        categories = _on(info)
        if not isinstance(order, list | tuple) or sorted(map(str, order)) != categories:
            raise refusal(f"expected each of {', '.join(categories)} once, found {order!r}.")
        return tuple(order)

    def transform(self, name: str) -> Settings:
        """Give the settings of a transform that is on."""
        return self.transforms.on[CATEGORY_OF[name]][name]

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Sort transforms as they are applied."""
        return sorted(names, key=lambda name: self.order.index(CATEGORY_OF[name]))

    def alone(self, name: str) -> DriftSettings:
        """Give these settings with a single transform."""
        category = CATEGORY_OF[name]
        transforms = {category: {name: self.transform(name).given}}
        only: Mapping[str, Any] = {"transforms": transforms, "order": [category], "categories_per_image": [1]}
        return DriftSettings.model_validate({**self.given, **only})


def _on(info: ValidationInfo) -> list[str]:
    """Names of the categories that are on, or all where the transforms themselves are wrong."""
    transforms = info.data.get("transforms")
    return sorted(transforms.on if transforms else _CATEGORIES)
