"""The picture of the foreground: whose images it shows, what it darkens, which shares it names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.report.pictures.foreground_preview import draw_foreground

S = 64
TILE, TITLE = 200, 30  # pixels


def colour(row):
    """A colour of its own for each image, which nothing else in the picture has."""
    return (3 * row % 256, 90 + row % 100, 200)


def images_of(count, stack_rows=None):
    stack = np.stack([np.full((S, S, 3), colour(row), np.uint8) for row in range(count)])
    rows = range(count) if stack_rows is None else stack_rows
    return ImagePart(stack, pd.DataFrame({"row": list(rows), "label": "good"}))


def masks_of(shares):
    """Masks whose upper rows are foreground."""
    masks = np.zeros((len(shares), S, S), np.uint8)
    for mask, share in zip(masks, shares, strict=True):
        mask[: round(share * S)] = 1
    return masks


def count_of(picture, wanted):
    return int((np.asarray(picture) == np.array(wanted)).all(axis=-1).sum())


def shown(picture, count):
    return [row for row in range(count) if count_of(picture, colour(row)) > 500]


def test_all_of_a_few_images_are_shown():
    for count in (1, 5):
        picture = draw_foreground(images_of(count), masks_of([1] * count))
        assert shown(picture, count) == list(range(count))


def test_eight_of_many_images_are_shown_in_two_rows_of_four():
    picture = draw_foreground(images_of(40), masks_of([0.5] * 40))
    assert len(shown(picture, 40)) == 8
    assert picture.mode == "RGB"
    assert picture.size == (4 * TILE, 2 * (TILE + TITLE))
    assert draw_foreground(images_of(4), masks_of([0.5] * 4)).size == (4 * TILE, TILE + TITLE)


def test_the_least_and_the_most_foreground_are_among_them():
    shares = [0.5] * 40
    shares[5], shares[22], shares[13], shares[31] = 0.2, 0.25, 0.9, 0.95
    picture = draw_foreground(images_of(40), masks_of(shares))
    assert {5, 22, 13, 31} <= set(shown(picture, 40))


def test_the_others_are_spread_over_the_whole_training_part():
    shares = [0.5] * 80
    shares[0], shares[1], shares[2], shares[3] = 0.2, 0.25, 0.9, 0.95
    others = set(shown(draw_foreground(images_of(80), masks_of(shares)), 80)) - {0, 1, 2, 3}
    assert len(others) == 4
    assert max(others) >= 60 and max(np.diff(sorted(others))) <= 40, sorted(others)


def test_background_is_darkened_and_the_part_is_as_it_is():
    picture = draw_foreground(images_of(11), masks_of([0.75] * 11))
    part = count_of(picture, colour(10))
    dark = count_of(picture, [int(0.3 * value) for value in colour(10)])
    assert part > 5000
    assert part / (part + dark) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(("share", "outlined"), [(0, False), (0.5, True), (1, False)])
def test_only_a_part_of_the_image_has_an_outline(share, outlined):
    picture = np.asarray(draw_foreground(images_of(1), masks_of([share]))).astype(int)
    orange = picture[..., 0] - picture[..., 2] > 60  # the image is blue, its title grey
    assert orange.any() == outlined


def test_masks_belong_to_the_images_of_the_part_and_not_of_the_stack():
    """Row 0 of the foreground is that of the part's first image, wherever that lies in the stack."""
    picture = draw_foreground(images_of(6, stack_rows=[5, 2]), masks_of([1, 0.25]))
    assert shown(picture, 6) == [2, 5]
    assert count_of(picture, colour(5)) > 3 * count_of(picture, colour(2))


def test_images_and_masks_are_only_read():
    images, masks = images_of(2), masks_of([0.5, 0.7])
    images.stack.flags.writeable = masks.flags.writeable = False  # as those of memory maps
    before = images.stack.copy(), masks.copy()
    first, second = draw_foreground(images, masks), draw_foreground(images, masks)
    assert np.array_equal(images.stack, before[0]) and np.array_equal(masks, before[1])
    assert np.array_equal(np.asarray(first), np.asarray(second))


def test_share_is_written_above_each_image(monkeypatch):
    from matplotlib.axes import Axes

    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda _, text, **__: titles.append(text))
    draw_foreground(images_of(3), masks_of([0.25, 1, 0]))
    assert sorted(titles) == ["0% foreground", "100% foreground", "25% foreground"]
