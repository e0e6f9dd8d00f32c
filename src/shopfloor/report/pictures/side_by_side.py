"""What several detectors make of the same images of a category (the paper's Figures 1, 3 and 4).

The images are chosen by a rule, not by hand. In it the percentile of an image is the share of all images that the same
detector scores lower, equal ones counted half: raw scores of different detectors have no common scale.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.report.figures.scores import score_thresholds
from shopfloor.report.pictures.canvas import TEXT_COLOUR, add_tile, new_figure, picture_of
from shopfloor.report.pictures.examples import finite_range, lay_over, outline_defect, places_of, write_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

    from shopfloor.catalog.image_stack import ImagePart

DISAGREED = "bad, the detectors disagree most"
MISSED = "bad, missed by the most detectors"
REJECTED = "good, rejected by the most detectors"

_LOW_PERCENT, _HIGH_PERCENT = 1.0, 99.9
_MOST_GOOD_MAPS = 24
_MOST_VALUES = 8_192  # of one map: percentiles of a regular part of the pixels are as good as those of all

_TILE_INCHES = 1.3
_GAP_INCHES = 0.05
_MARGIN_INCHES = 0.1
_LINE_INCHES = 0.155
_HEADING_INCHES = 0.42
_CAPTION_INCHES = 3 * _LINE_INCHES - 0.02
_SCORE_INCHES = 2 * _LINE_INCHES + 0.16
_DPI = 110
_TEXT_POINTS = 8
_CHARACTERS_PER_INCH = 14.0
_RIGHT_COLOUR, _WRONG_COLOUR = "#00674d", "#a84700"


class _Row(NamedTuple):
    """An image that is shown: why, its place among the images, its pixels and its mask."""

    line: Mapping[Any, Any]
    place: int
    image: np.ndarray
    mask: np.ndarray | None


class _Column(NamedTuple):
    """A detector: raw scores by image, its threshold, its maps and the values of their darkest and brightest colour."""

    name: str
    scores: Mapping[str, float]
    threshold: float
    maps: Any
    limits: tuple[float, float]


def pick_shared_examples(scores_by_detector: Mapping[str, pd.DataFrame], k: int = 2) -> pd.DataFrame:
    """Choose the images that tell the detectors apart, the worst bad one and the worst good one.

    Only images that every detector scores with a finite number are chosen, each once. Ties go to the first name.

    1. `DISAGREED`: the ``k`` bad images whose percentiles differ most between detectors (largest less smallest); none
       where all detectors agree, as a single one does with itself.
    2. `MISSED`: the bad image that the most detectors miss at their PB2 threshold (2 % of good images rejected);
       among these the one of the lowest mean percentile.
    3. `REJECTED`: the good image that the most detectors reject there; among these that of the highest mean percentile.

    Args:
        scores_by_detector: Per detector one line per test image: ``image``, ``label`` (good or bad), ``defect_type``,
            ``pred_score`` (raw).
        k: How many images of disagreement at most.

    Returns:
        The chosen lines in this order: ``image, label, defect_type``, ``kind`` and ``remark``, which gives the numbers.

    Raises:
        ValueError: Two detectors were told different labels of an image.
    """
    scored = {name: _finite(scores) for name, scores in scores_by_detector.items()}
    percentiles = pd.DataFrame({name: _percentiles(scores) for name, scores in scored.items()}).dropna()
    above = pd.DataFrame({name: scores["pred_score"] > score_thresholds(scores).pb2 for name, scores in scored.items()})
    table = _names(scored, percentiles.index).assign(
        spread=percentiles.max(axis="columns") - percentiles.min(axis="columns"),
        mean=percentiles.mean(axis="columns"),
        above=above.reindex(percentiles.index).astype(bool).sum(axis="columns"),
    )
    bad, good = table[table["label"] == "bad"], table[table["label"] == "good"]
    disagreed = bad[bad["spread"] > 0].sort_values(["spread", "image"], ascending=[False, True]).head(k)
    missed = bad.drop(disagreed.index).sort_values(["above", "mean", "image"]).head(1)
    rejected = good.sort_values(["above", "mean", "image"], ascending=[False, False, True]).head(1)
    kinds = {DISAGREED: disagreed, MISSED: missed, REJECTED: rejected}
    picked = pd.concat([part.assign(kind=kind) for kind, part in kinds.items()]).reset_index()
    remarks = [_remark(line, percentiles.loc[line["image"]]) for line in picked.to_dict("records")]
    picked["remark"] = pd.Series(remarks, dtype=object)
    return picked[["image", "label", "defect_type", "kind", "remark"]]


def _finite(scores: pd.DataFrame) -> pd.DataFrame:
    """The images with a number, by name."""
    return scores[np.isfinite(scores["pred_score"].astype(float))].set_index("image")


def _percentiles(scores: pd.DataFrame) -> pd.Series:
    return 100 * (scores["pred_score"].astype(float).rank() - 0.5) / len(scores)


def _names(scored: Mapping[str, pd.DataFrame], images: pd.Index) -> pd.DataFrame:
    """Label and type of defect of each image, on which all detectors must agree."""
    known = pd.DataFrame({"label": [], "defect_type": []}, index=images[:0], dtype=object)
    for name, scores in scored.items():
        told = scores.loc[images, ["label", "defect_type"]]
        known = told if known.empty else known
        different = images[(told["label"] != known["label"]).to_numpy()]
        if len(different):
            raise ValueError(f"{name!r} was told another label of {different[0]!r} than {next(iter(scored))!r}.")
    return known.rename_axis("image")


def _remark(line: Mapping[Any, Any], percentiles: pd.Series) -> str:
    """The numbers of the rule."""
    count = len(percentiles)
    if line["kind"] == DISAGREED:
        low, high = percentiles.idxmin(), percentiles.idxmax()
        return f"percentile {percentiles.min():.0f} ({low}) to {percentiles.max():.0f} ({high})"
    number, verb = (count - line["above"], "missed") if line["kind"] == MISSED else (line["above"], "rejected")
    return f"{verb} by {number} of {count}, mean percentile {line['mean']:.0f}"


def draw_side_by_side(
    images: ImagePart,
    gt_masks: ImagePart | None,
    maps_by_detector: Mapping[str, Any],
    scores_by_detector: Mapping[str, pd.DataFrame],
    k: int = 2,
) -> Image.Image:
    """One row per image of `pick_shared_examples`: the image, then what each detector makes of it.

    A detector's map lies in colour over the grey image. Each detector has its own scale, taken from good images: from
    the 1st percentile of their map values to the 99.9th, so that the same colour is equally rare among good pixels for
    all. Under it stand the raw score and whether it lies above the detector's PB2 threshold. Of the maps only the rows
    that are shown and those of at most 24 good images are read.

    Args:
        images: Test images; ``table["image"]`` names them as the scores do.
        gt_masks: Defect masks, or None where the dataset has none.
        maps_by_detector: Raw maps ``(N, H, W)`` in the order of ``images``, by name, of those detectors that give some.
        scores_by_detector: As for `pick_shared_examples`; its order is that of the columns.
        k: As there.

    Raises:
        ValueError: Maps do not belong to the images or to no detector, or a scored image is not among the images.
    """
    for name, maps in maps_by_detector.items():
        if name not in scores_by_detector:
            raise ValueError(f"There are anomaly maps of {name!r} but no scores.")
        if len(maps) != len(images):
            raise ValueError(f"{name!r} has {len(maps)} anomaly maps for {len(images)} images; they must match.")
    picked = pick_shared_examples(scores_by_detector, k)
    if picked.empty:
        return draw_note("No image has a finite score of every detector: nothing to put side by side.")
    places = places_of(picked["image"], images)
    masks = (
        [None] * len(picked) if gt_masks is None else [gt_masks[row] for row in places_of(picked["image"], gt_masks)]
    )
    lines = picked.to_dict("records")
    rows = [_Row(line, place, images[place], mask) for line, place, mask in zip(lines, places, masks, strict=True)]
    good = np.flatnonzero((images.table["label"] == "good").to_numpy())
    columns = [
        _column(name, scores, maps_by_detector.get(name), good, places) for name, scores in scores_by_detector.items()
    ]
    return _draw(rows, columns)


def draw_note(text: str) -> Image.Image:
    """A picture that holds a sentence, in place of one that cannot be drawn.

    Args:
        text: The sentence.
    """
    lines = textwrap.wrap(text, 52)
    figure = new_figure(4.0, 0.2 + _LINE_INCHES * len(lines), _DPI)
    _write_lines(figure, 0.1 + _LINE_INCHES * len(lines), lines)
    return picture_of(figure)


def colour_limits(maps: Any, good: Sequence[int] | np.ndarray, shown: Sequence[int]) -> tuple[float, float]:
    """Map values of the darkest and of the brightest colour of one detector.

    Args:
        maps: Raw maps ``(N, H, W)``, read row by row.
        good: Places of the good images; at most 24 of them, evenly chosen, are read.
        shown: Places of the images that are shown; they give the scale where the good ones have a single value or none.

    Returns:
        The 1st and the 99.9th percentile of the values of the good maps.
    """
    chosen = np.unique(np.linspace(0, len(good) - 1, min(len(good), _MOST_GOOD_MAPS)).round().astype(int))
    parts = [_some_values(maps[int(good[place])]) for place in chosen]
    values = np.concatenate([part[np.isfinite(part)] for part in parts]) if parts else np.empty(0)
    if values.size:
        low, high = np.percentile(values, [_LOW_PERCENT, _HIGH_PERCENT])
        if high > low:
            return float(low), float(high)
    return finite_range([np.asarray(maps[place], dtype=float) for place in shown])


def _some_values(anomaly_map: Any) -> np.ndarray:
    values = np.asarray(anomaly_map, dtype=float).ravel()
    return values[:: max(1, values.size // _MOST_VALUES) | 1]  # an odd step meets all columns of the map


def _column(name: str, scores: pd.DataFrame, maps: Any, good: np.ndarray, shown: Sequence[int]) -> _Column:
    by_image = dict(zip(scores["image"], scores["pred_score"].astype(float), strict=True))
    limits = (0.0, 1.0) if maps is None else colour_limits(maps, good, shown)
    return _Column(name, by_image, score_thresholds(scores).pb2, maps, limits)


def _draw(rows: list[_Row], columns: list[_Column]) -> Image.Image:
    has_masks = any(row.mask is not None for row in rows)
    has_maps = any(column.maps is not None for column in columns)
    width = 2 * _MARGIN_INCHES + (1 + len(columns)) * _TILE_INCHES
    width = max(width, 2 * _MARGIN_INCHES + 3 * _TILE_INCHES)  # a caption needs the width of three tiles
    legend = _legend(has_masks, has_maps, int((width - 2 * _MARGIN_INCHES) * _CHARACTERS_PER_INCH))
    foot = _MARGIN_INCHES + _LINE_INCHES * len(legend)
    row_inches = _CAPTION_INCHES + _TILE_INCHES + _SCORE_INCHES
    figure = new_figure(width, _HEADING_INCHES + len(rows) * row_inches + foot, _DPI)
    for place, heading in enumerate(["image", *(column.name for column in columns)]):
        _write_heading(figure, place, heading)
    for number, row in enumerate(rows):
        top = figure.get_figheight() - _HEADING_INCHES - number * row_inches
        _write_lines(figure, top, _caption(row.line), is_first_bold=True)
        bottom = top - _CAPTION_INCHES - _TILE_INCHES
        lefts = [_MARGIN_INCHES + place * _TILE_INCHES for place in range(1 + len(columns))]
        tiles = [add_tile(figure, left, bottom, _TILE_INCHES - _GAP_INCHES) for left in lefts]
        tiles[0].imshow(row.image)
        for place, (tile, column) in enumerate(zip(tiles[1:], columns, strict=True), start=1):
            _show_map(tile, row, column)
            _write_score(figure, place, bottom, row.line, column)
        if row.mask is not None:
            with_maps = [tile for tile, column in zip(tiles[1:], columns, strict=True) if column.maps is not None]
            for tile in [tiles[0], *with_maps]:
                outline_defect(tile, row.mask, is_bad=row.line["label"] == "bad" and tile is tiles[0])
    _write_lines(figure, foot - 0.02, legend)
    return picture_of(figure)


def _show_map(tile: Axes, row: _Row, column: _Column) -> None:
    if column.maps is None:
        tile.set(xlim=(0, 1), ylim=(0, 1))
        tile.add_patch(_grey_square())
        tile.text(0.5, 0.5, "no map", ha="center", va="center", fontsize=_TEXT_POINTS, color=TEXT_COLOUR)
    else:
        lay_over(tile, row.image, np.asarray(column.maps[row.place], dtype=float), column.limits)


def _grey_square() -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, facecolor="#eef0f2", edgecolor="none")


def _write_heading(figure: Figure, place: int, name: str) -> None:
    """A name over its column, on two lines where it is long."""
    longest = int(_TILE_INCHES * _CHARACTERS_PER_INCH * 0.85)
    lines = textwrap.wrap(name.replace("_", "_ "), longest) or [""]
    lines = [line.replace("_ ", "_") for line in lines]
    if len(lines) > 2:
        lines = [lines[0], lines[1][: longest - 1] + "…"]
    top = figure.get_figheight() - 0.06
    _write_centred(figure, place, top, "\n".join(lines), TEXT_COLOUR, weight="bold")


def _write_score(figure: Figure, place: int, bottom: float, line: Mapping[Any, Any], column: _Column) -> None:
    """The raw score and what the detector would have done at its PB2 threshold."""
    score = column.scores[line["image"]]
    _write_centred(figure, place, bottom - 0.02, f"{score:.4g}", TEXT_COLOUR)
    if np.isfinite(column.threshold):
        is_bad, is_above = line["label"] == "bad", score > column.threshold
        verdict = {
            (True, True): "✓ caught",
            (True, False): "✗ missed",
            (False, True): "✗ rejected",
            (False, False): "✓ passed",
        }[is_bad, is_above]
        colour = _RIGHT_COLOUR if is_bad == is_above else _WRONG_COLOUR
        _write_centred(figure, place, bottom - 0.02 - _LINE_INCHES, verdict, colour, weight="bold")


def _write_centred(figure: Figure, place: int, top: float, text: str, colour: str, weight: str = "normal") -> None:
    width, height = figure.get_size_inches()
    centre = _MARGIN_INCHES + place * _TILE_INCHES + (_TILE_INCHES - _GAP_INCHES) / 2
    figure.text(
        centre / width, top / height, text, fontsize=_TEXT_POINTS, fontweight=weight, color=colour, ha="center",
        va="top", linespacing=1.1, parse_math=False,
    )  # fmt: skip


def _write_lines(figure: Figure, top: float, lines: Sequence[str], is_first_bold: bool = False) -> None:
    for place, line in enumerate(lines):
        weight = "bold" if is_first_bold and place == 0 else "normal"
        write_line(figure, _MARGIN_INCHES, top - place * _LINE_INCHES, line, weight)


def _caption(line: Mapping[Any, Any]) -> list[str]:
    """Why the image is here, the numbers of that, its path."""
    defect = f" ({line['defect_type']})" if line["label"] == "bad" and line["defect_type"] else ""
    return [f"{line['kind']}{defect}", str(line["remark"]), str(line["image"])]


def _legend(has_masks: bool, has_maps: bool, characters: int) -> list[str]:
    """How to read the picture."""
    sentences = [
        "Numbers: raw scores. ✓ and ✗: what happens at each detector's own threshold, which rejects 2 % of its good "
        "images (PB2). Percentile: share of all images that the same detector scores lower."
    ]
    if has_maps:
        sentences.append(
            f"Colours: each detector's own scale, dark at the {_LOW_PERCENT:g}st and bright from the "
            f"{_HIGH_PERCENT:g}th percentile of its map values in good images."
        )
    if has_masks:
        sentences.append("Outline: the labelled defect.")
    return textwrap.wrap(" ".join(sentences), characters)
