"""Which examples are picked, worked by hand, and that every shape of a picture can be drawn."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.report.pictures.examples import HIGHEST_BAD, HIGHEST_GOOD, LOWEST_BAD, draw_examples, pick_examples
from tests.report.conftest import cell_scores, image_part


@pytest.fixture
def scores():
    lines = [
        ("g1", "good", 0.1),
        ("g2", "good", 0.9),
        ("g3", "good", 0.5),
        ("g4", "good", 0.9),
        ("b1", "bad", 0.3),
        ("b2", "bad", 0.95),
        ("b3", "bad", 0.8),
        ("b4", "bad", 0.99),
        ("b5", "bad", 0.2),
        ("b6", "bad", float("nan")),
    ]
    return pd.DataFrame(lines, columns=["image", "label", "pred_score"]).assign(defect_type="crack")


def test_picks_by_hand(scores):
    picked = pick_examples(scores, k=2)
    assert list(zip(picked["kind"], picked["image"], strict=True)) == [
        (LOWEST_BAD, "b5"),
        (LOWEST_BAD, "b1"),
        (HIGHEST_GOOD, "g2"),  # ties with g4, names decide
        (HIGHEST_GOOD, "g4"),
        (HIGHEST_BAD, "b4"),
        (HIGHEST_BAD, "b2"),
    ]
    assert list(picked["remark"]) == [
        "3 of 4 good images score as high or higher",
        "3 of 4 good images score as high or higher",
        "3 of 5 bad images score as low or lower",
        "3 of 5 bad images score as low or lower",
        "0 of 4 good images score as high or higher",
        "0 of 4 good images score as high or higher",
    ]


def test_no_image_is_picked_twice(scores):
    picked = pick_examples(scores, k=4)
    assert picked["image"].is_unique
    assert (picked["kind"] == HIGHEST_BAD).sum() == 1


def test_a_class_without_images_is_simply_absent(scores):
    picked = pick_examples(scores[scores["label"] == "good"], k=1)
    assert list(picked["kind"]) == [HIGHEST_GOOD]
    assert pick_examples(scores.iloc[:0]).empty


@pytest.fixture(scope="module")
def cell():
    scores = cell_scores(1, n_good=6, n_bad=7)
    return scores, *image_part(scores)


@pytest.mark.parametrize("with_maps", [True, False])
@pytest.mark.parametrize("with_masks", [True, False])
def test_draws_with_and_without_maps_and_masks(cell, with_maps, with_masks):
    scores, images, maps, masks = cell
    picture = draw_examples(scores, images, maps if with_maps else None, masks if with_masks else None, k=2)
    tiles = max(2, 1 + with_maps + with_masks)
    assert picture.mode == "RGB"
    assert picture.width == pytest.approx(100 * (0.2 + 1.72 * tiles), abs=2)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    assert buffer.tell() < 250_000


def pixels_close_to(picture, colour, tolerance=40):
    return int((np.abs(np.asarray(picture).astype(int) - colour).max(axis=-1) < tolerance).sum())


def test_mask_outlines_appear_only_with_masks(cell):
    scores, images, _, masks = cell
    yellow = (0xF0, 0xE4, 0x42)
    assert pixels_close_to(draw_examples(scores, images, None, masks, k=1), yellow) > 50
    assert pixels_close_to(draw_examples(scores, images, None, None, k=1), yellow) == 0


def test_one_colour_scale_for_all_maps(cell):
    """A map that is low everywhere stays dark beside one that is high everywhere."""
    scores, images, maps, _ = cell
    order = {name: row for row, name in enumerate(images.table["image"])}
    picked = pick_examples(scores, k=1)
    flat = np.zeros_like(maps)
    flat[order[picked["image"].iloc[-1]]] = 5.0
    picture = np.asarray(draw_examples(scores, images, flat, None, k=1)).astype(int)
    rows = np.array_split(picture[: (3 * 227)], 3)
    brightness = [row[80:200, 200:340].mean() for row in rows]
    assert brightness[2] > brightness[0] + 60
    assert abs(brightness[0] - brightness[1]) < 15


def test_only_the_rows_of_the_part_are_read(cell):
    scores, images, maps, _ = cell
    rows = [3, 8, 10, 0]
    part = ImagePart(images.stack, images.table.iloc[rows])
    picture = draw_examples(scores.iloc[rows], part, maps[rows], None, k=1)
    assert picture.height > 200
    with pytest.raises(ValueError, match="Scored but not among the 4 images"):
        draw_examples(scores, part, None, None)


def test_maps_that_do_not_belong_to_the_images_are_refused(cell):
    scores, images, maps, _ = cell
    with pytest.raises(ValueError, match="12 anomaly maps for 13 images"):
        draw_examples(scores, images, maps[:-1], None)


def test_odd_names_empty_masks_constant_maps_and_no_scores(cell):
    scores, images, maps, masks = cell
    names = [f"a $\\frac{{1}}{{$ {'long ' * 60}{place}.png" for place in range(len(scores))]
    scores = scores.assign(image=names, defect_type="$x_{$")
    table = images.table.assign(image=names)
    empty = ImagePart(np.zeros_like(masks.stack), table)
    picture = draw_examples(scores, ImagePart(images.stack, table), np.ones_like(maps), empty, k=1)
    assert picture.width > 300
    unscored = scores.assign(pred_score=np.nan)
    assert draw_examples(unscored, ImagePart(images.stack, table), None, None).height > 100
