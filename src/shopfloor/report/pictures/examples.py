"""Example pictures of one cell: what it misses, what it wrongly reports, and what it finds best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shopfloor.report.pictures.canvas import TEXT_COLOUR, add_tile, new_figure, picture_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

    from shopfloor.catalog.image_stack import ImagePart

LOWEST_BAD = "bad, lowest score"
HIGHEST_GOOD = "good, highest score"
HIGHEST_BAD = "bad, highest score"

_TILE_INCHES = 1.72
_GAP_INCHES = 0.04
_MARGIN_INCHES = 0.1
_CAPTION_INCHES = 0.55
_SCALE_INCHES = 0.55
_DPI = 100
_CHARACTERS_PER_INCH = 14.5
MAP_COLOURS = "inferno"


def pick_examples(scores: pd.DataFrame, k: int = 3) -> pd.DataFrame:
    """Worst misses, worst false alarms and best catches of one cell.

    Args:
        scores: One line per test image: ``image``, ``label`` (good or bad), ``defect_type``, ``pred_score`` (raw).
        k: How many of each kind at most. No image is picked twice: where there are fewer than ``2 k`` bad images,
            the lowest scores go first.

    Returns:
        The chosen lines with ``kind`` (`LOWEST_BAD`, `HIGHEST_GOOD`, `HIGHEST_BAD`, in this order, the most striking
        first) and ``remark``, which says how many images of the other class score beyond this one. Images with the
        same score are taken in the order of their names. Scores that are not finite are left out.
    """
    scores = scores[np.isfinite(scores["pred_score"].astype(float))]
    bad = scores[scores["label"] == "bad"].sort_values(["pred_score", "image"])
    good = scores[scores["label"] == "good"].sort_values(["pred_score", "image"], ascending=[False, True])
    lowest = bad.head(k).assign(kind=LOWEST_BAD)
    caught = bad.iloc[len(lowest) :].sort_values(["pred_score", "image"], ascending=[False, True]).head(k)
    picked = pd.concat([lowest, good.head(k).assign(kind=HIGHEST_GOOD), caught.assign(kind=HIGHEST_BAD)])
    remarks = [_remark(line["label"], line["pred_score"], good, bad) for line in picked.to_dict("records")]
    return picked.assign(remark=pd.Series(remarks, index=picked.index, dtype=object)).reset_index(drop=True)


def _remark(label: str, score: float, good: pd.DataFrame, bad: pd.DataFrame) -> str:
    if label == "bad":
        return f"{(good['pred_score'] >= score).sum()} of {len(good)} good images score as high or higher"
    return f"{(bad['pred_score'] <= score).sum()} of {len(bad)} bad images score as low or lower"


def draw_examples(
    scores: pd.DataFrame,
    images: ImagePart,
    anomaly_maps: np.ndarray | None,
    gt_masks: ImagePart | None,
    k: int = 3,
) -> Image.Image:
    """One row per picked example: the image, the anomaly map over it, the outline of the defect mask.

    The map has one colour scale over all images shown; its range stands under the picture.

    Args:
        scores: As for `pick_examples`.
        images: Test images; ``table["image"]`` names them as ``scores["image"]`` does.
        anomaly_maps: Raw maps ``(N, H, W)`` in the order of ``images``, or None where the detector gives none.
        gt_masks: Defect masks, or None where the dataset has none.
        k: How many of each kind at most.

    Raises:
        ValueError: The maps do not belong to the images, or a scored image is not among them.
    """
    if anomaly_maps is not None and len(anomaly_maps) != len(images):
        raise ValueError(f"There are {len(anomaly_maps)} anomaly maps for {len(images)} images; they must match.")
    picked = pick_examples(scores, k)
    rows = places_of(picked["image"], images)
    shown_maps = None if anomaly_maps is None else [np.asarray(anomaly_maps[row], dtype=float) for row in rows]
    shown_masks = None if gt_masks is None else [gt_masks[row] for row in places_of(picked["image"], gt_masks)]
    return _draw(picked, [images[row] for row in rows], shown_maps, shown_masks)


def places_of(names: pd.Series, part: ImagePart) -> list[int]:
    """The places of images in a part, by their names.

    Raises:
        ValueError: One of them is not in the part.
    """
    place = {image: row for row, image in enumerate(part.table["image"])}
    unknown = [name for name in names if name not in place]
    if unknown:
        raise ValueError(f"Scored but not among the {len(part)} images of this part: {unknown[0]!r}.")
    return [place[name] for name in names]


def _draw(
    picked: pd.DataFrame, images: list[np.ndarray], maps: list[np.ndarray] | None, masks: list[np.ndarray] | None
) -> Image.Image:
    columns = 1 + (maps is not None) + (masks is not None)
    row_inches, side = _CAPTION_INCHES + _TILE_INCHES, _TILE_INCHES - _GAP_INCHES
    width = 2 * _MARGIN_INCHES + max(columns, 2) * _TILE_INCHES  # a caption needs the width of two tiles
    height = max(len(picked), 1) * row_inches + (_SCALE_INCHES if maps else _MARGIN_INCHES)
    figure = new_figure(width, height, _DPI)
    limits = finite_range(maps) if maps else (0.0, 1.0)
    for row, line in enumerate(picked.to_dict("records")):
        top = height - row * row_inches
        _write_caption(figure, top, line)
        tiles = [
            add_tile(figure, _MARGIN_INCHES + column * _TILE_INCHES, top - row_inches, side)
            for column in range(columns)
        ]
        for tile in tiles:
            tile.imshow(images[row])
        if maps is not None:
            lay_over(tiles[1], images[row], maps[row], limits)
        if masks is not None:
            outline_defect(tiles[-1], masks[row], is_bad=line["label"] == "bad")
    if picked.empty:
        write_line(figure, _MARGIN_INCHES, height - _MARGIN_INCHES, "No image has a finite score.")
    elif maps:
        _write_scale(figure, limits)
    return picture_of(figure)


def _write_caption(figure: Figure, top: float, line: Mapping[Any, Any]) -> None:
    """Three lines: kind, defect type and raw score; path; remark."""
    defect = f", {line['defect_type']}" if line["label"] == "bad" and line["defect_type"] else ""
    texts = (f"{line['kind']}{defect}: {line['pred_score']:.4g}", line["image"], line["remark"])
    for place, text in enumerate(texts):
        write_line(figure, _MARGIN_INCHES, top - 0.06 - 0.155 * place, text, "bold" if place == 0 else "normal")


def write_line(figure: Figure, left: float, top: float, text: str, weight: str = "normal") -> None:
    """One line of text; the end is kept of one that is too long, because there paths differ.

    Args:
        figure: Where to write.
        left: Inches from its left side.
        top: Inches from its lower side to the top of the line.
        text: The line; no letter of it is a sign of a formula.
        weight: Weight of the font.
    """
    width, height = figure.get_size_inches()
    longest = int((width - left) * _CHARACTERS_PER_INCH * (0.88 if weight == "bold" else 1))
    text = text if len(text) <= longest else "…" + text[1 - longest :]
    figure.text(
        left / width,
        top / height,
        text,
        fontsize=8,
        fontweight=weight,
        color=TEXT_COLOUR,
        va="top",
        parse_math=False,  # a dollar sign in a name is no formula
    )


def lay_over(tile: Axes, image: np.ndarray, anomaly_map: np.ndarray, limits: tuple[float, float]) -> None:
    """The map in colour over the grey image.

    Args:
        tile: Where to draw.
        image: ``(H, W, 3)``, 0 to 255.
        anomaly_map: Raw map ``(H, W)``.
        limits: Values of the darkest and the brightest colour.
    """
    grey = np.asarray(image, dtype=float).mean(axis=-1)
    extent = (-0.5, grey.shape[1] - 0.5, grey.shape[0] - 0.5, -0.5)
    tile.imshow(grey, cmap="gray", vmin=0, vmax=255)
    tile.imshow(
        anomaly_map,
        cmap=MAP_COLOURS,
        vmin=limits[0],
        vmax=limits[1],
        alpha=0.6,
        interpolation="bilinear",
        extent=extent,
    )


def outline_defect(tile: Axes, mask: np.ndarray, is_bad: bool) -> None:
    """Light line on a dark one around the defect, to be seen on any image.

    Args:
        tile: Where to draw.
        mask: ``(H, W)``, above 0 in the defect.
        is_bad: Whether the image is labelled bad: then a mask without a defect pixel is remarked.
    """
    if mask.any():
        inside = np.pad(mask > 0, 1).astype(float)  # so that a defect at the border has a closed outline
        rows, columns = (np.arange(-1, side + 1) for side in mask.shape)
        for colour, width in (("black", 2.2), ("#F0E442", 1.0)):
            tile.contour(columns, rows, inside, levels=[0.5], colors=colour, linewidths=width)
    elif is_bad:
        # Small defects disappear when the mask is made smaller (protocol 2.1).
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
        tile.text(0.5, 0.03, "no defect pixel left", transform=tile.transAxes, fontsize=8, ha="center", bbox=box)


def _write_scale(figure: Figure, limits: tuple[float, float]) -> None:
    """Colour bar under the tiles and the range that it stands for."""
    width, height = figure.get_size_inches()
    bar = figure.add_axes((_MARGIN_INCHES / width, 0.35 / height, 1 - 2 * _MARGIN_INCHES / width, 0.1 / height))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=MAP_COLOURS, aspect="auto")
    bar.set_axis_off()
    low, high = limits
    write_line(figure, _MARGIN_INCHES, 0.27, f"all anomaly maps: {low:.4g} (dark) to {high:.4g} (bright)")


def finite_range(maps: list[np.ndarray]) -> tuple[float, float]:
    """Least and greatest finite value of all maps; 0 and 1 where there is none."""
    values = np.concatenate([anomaly_map[np.isfinite(anomaly_map)] for anomaly_map in maps])
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
