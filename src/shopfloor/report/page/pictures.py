"""Pictures and figures of the report's page, as data inside the file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from shopfloor.report.figures.style import is_empty

if TYPE_CHECKING:
    from PIL import Image

    from shopfloor.report.figures.style import Chart

_PICTURE_BYTES = 250_000
_LIMITS = {"examples": 5_000_000, "side_by_side": 2_500_000, "galleries": 1_000_000, "foregrounds": 1_000_000}
"""Characters that the pictures of a kind may take together: with the scripts of figures a page stays below 12 MB."""


class PagePictures(NamedTuple):
    """The pictures of a report. Those that are too many for the page are named on it.

    Attributes:
        examples: Worst misses and best catches, by cell.
        side_by_side: What several detectors make of the same images, by category.
        foregrounds: The foreground found in training images, by category.
        galleries: The drift transforms, by category.
    """

    examples: Mapping[str, Image.Image]
    side_by_side: Mapping[str, Image.Image] = MappingProxyType({})
    foregrounds: Mapping[str, Image.Image] = MappingProxyType({})
    galleries: Mapping[str, Image.Image] = MappingProxyType({})


@dataclass(frozen=True)
class Plot:
    """A figure of the page as the JSON text of its Vega-Lite specification, safe inside a script element."""

    title: str
    json: str
    height: int


@dataclass(frozen=True)
class Picture:
    """A picture of the page as a data URL."""

    title: str
    url: str
    width: int
    height: int


@dataclass(frozen=True)
class Pictures:
    """The pictures that fit into the page and the names of those that do not."""

    shown: list[Picture] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def plots(figures: Iterable[tuple[str, Chart]]) -> list[Plot]:
    """Give figures with their titles as the page's script draws them; those with nothing to show are left out."""
    from jinja2.utils import htmlsafe_json_dumps

    found = []
    for title, figure in figures:
        content = figure.to_dict(validate=False)
        content.pop("config", None)  # the page has one of its own, for light or for dark
        if not is_empty(content):
            found.append(Plot(title, htmlsafe_json_dumps(content, separators=(",", ":")), _height(content)))
    return found


def _height(content: Mapping[str, Any]) -> int:
    """Add up about how many pixels a chart will be high, its axes and titles included."""
    return sum(map(_height, content.get("vconcat", ()))) or int(content.get("height", 300)) + 70


def pictures_that_fit(pictures: PagePictures, kind: str) -> Pictures:
    """The pictures of one kind, in their order, until they are too many for the page.

    Args:
        pictures: All pictures.
        kind: The attribute that holds them.
    """
    fitting, total = Pictures(), 0
    for title, image in getattr(pictures, kind).items():
        url = "data:image/jpeg;base64," + base64.b64encode(_jpeg(image)).decode("ascii")
        total += len(url)
        if total > _LIMITS[kind]:
            fitting.left_out.append(title)
        else:
            fitting.shown.append(Picture(title, url, image.width, image.height))
    return fitting


def _jpeg(image: Image.Image) -> bytes:
    """The best quality that stays below the size of one picture."""
    for quality in (85, 75, 60, 45, 30):
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _PICTURE_BYTES:
            break
    return buffer.getvalue()
