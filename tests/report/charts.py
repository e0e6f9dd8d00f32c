"""What stands in the specification of a chart, and what is drawn of it."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from shopfloor.report.figures.rendering import png, print_picture, svg


def panels(chart: Any) -> list[dict[str, Any]]:
    """The panels of a chart as specifications, with their data in place."""
    content = chart.to_dict()
    datasets = content.get("datasets", {})
    return [_whole(panel, datasets) for panel in _panels(content)]


def _panels(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "vconcat" not in content:
        yield content
    for part in content.get("vconcat", ()):
        yield from _panels({"data": content.get("data", {}), **part})  # data of all parts stand above them


def _whole(part: dict[str, Any], datasets: dict[str, Any]) -> dict[str, Any]:
    values = part.get("data", {})
    known = {"values": datasets[values["name"]]} if "name" in values else values
    layers = [_whole({"data": values, **layer}, datasets) for layer in part.get("layer", ())]
    return {**part, "data": known, **({"layer": layers} if layers else {})}


def marks(chart: Any, kind: str) -> list[dict[str, Any]]:
    """All views of a chart that have this mark."""
    views = [view for panel in panels(chart) for view in panel.get("layer", [panel])]
    return [view for view in views if view["mark"]["type"] == kind]


def values(chart: Any, kind: str = "point") -> list[dict[str, Any]]:
    """The data of all views of a chart that have this mark."""
    return [record for view in marks(chart, kind) for record in view["data"]["values"]]


def drawn(chart: Any) -> ElementTree.Element:
    """The chart as SVG."""
    return ElementTree.fromstring(svg(chart))


def shapes(chart: Any, description: str) -> list[ElementTree.Element]:
    """Drawn shapes that Vega describes so, such as ``point`` and ``line mark``."""
    return [shape for shape in drawn(chart).iter() if shape.get("aria-roledescription") == description]


def texts(chart: Any) -> list[str]:
    """Everything that is written."""
    found = drawn(chart).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()).strip() for text in found]


def pixels(chart: Any) -> np.ndarray:
    """The chart in print (height, width, 3)."""
    return np.asarray(print_picture(chart)).astype(int)


def edges(chart: Any) -> dict[str, bool]:
    """Whether something is drawn at the edges of the picture, where it would be cut."""
    dark = np.asarray(Image.open(BytesIO(png(chart))).convert("L")) < 250
    sides = {"above": dark[0], "below": dark[-1], "left": dark[:, 0], "right": dark[:, -1]}
    return {name: bool(side.any()) for name, side in sides.items()}
