"""Turn charts into pictures and files, without a browser and without a network."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from shopfloor.catalog.atomic import VegaLite
from shopfloor.report.figures.style import Chart, one_line

if TYPE_CHECKING:
    from PIL import Image

_PRINT_SCALE = 2.5
_LEGENDS = ("color", "shape", "strokeDash", "stroke", "fillOpacity")
_TOP_LEVEL = ("$schema", "config", "usermeta", "datasets", "padding", "autosize", "background")


def print_picture(chart: Chart | Mapping[str, Any]) -> Image.Image:
    """Draw a chart for print: a panel is 1,400 pixels wide, 300 to the inch in a column of text."""
    from PIL import Image

    return Image.open(BytesIO(png(chart, _PRINT_SCALE))).convert("RGB")


def png(chart: Chart | Mapping[str, Any], scale: float = 1.0) -> bytes:
    """Draw a chart as a PNG file.

    Args:
        chart: The chart, or its Vega-Lite specification.
        scale: Pixels of the file per pixel of the chart.
    """
    import vl_convert

    return vl_convert.vegalite_to_png(_content(chart), scale=scale, allowed_base_urls=[])


def svg(chart: Chart | Mapping[str, Any]) -> str:
    """Draw a chart as the text of an SVG file."""
    import vl_convert

    return vl_convert.vegalite_to_svg(_content(chart), allowed_base_urls=[])


def pdf(chart: Chart | Mapping[str, Any]) -> bytes:
    """Draw a chart as a PDF file of one page."""
    import vl_convert

    return vl_convert.vegalite_to_pdf(_content(chart), allowed_base_urls=[])


def below_one_another(charts: Mapping[str, Chart | Mapping[str, Any]]) -> VegaLite:
    """Put charts below one another, each under its title.

    Args:
        charts: At least one, by title.
    """
    parts: list[dict[str, Any]] = []
    datasets: dict[str, Any] = {}
    for title, chart in charts.items():
        content = _content(chart)
        datasets |= content.get("datasets", {})
        part = {name: value for name, value in content.items() if name not in _TOP_LEVEL}
        part = {"vconcat": [part]} if "title" in part else part
        parts.append({**part, "title": one_line(title)})
    shared = {"$schema": content["$schema"], "config": content["config"], "datasets": datasets}
    return VegaLite(shared, vconcat=parts, resolve={"scale": dict.fromkeys(_LEGENDS, "independent")})


def _content(chart: Chart | Mapping[str, Any]) -> dict[str, Any]:
    return dict(chart) if isinstance(chart, Mapping) else chart.to_dict(validate=False)
