"""Which images are chosen, worked by hand, and that every shape of a picture can be drawn."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.report.pictures.side_by_side import (
    DISAGREED,
    MISSED,
    REJECTED,
    colour_limits,
    draw_note,
    draw_side_by_side,
    pick_shared_examples,
)
from tests.report.conftest import cell_scores, image_part


def table(**scores):
    """Good images are named g..., bad ones b..."""
    labels = ["good" if image.startswith("g") else "bad" for image in scores]
    columns = {"image": list(scores), "label": labels, "defect_type": "crack", "pred_score": list(scores.values())}
    return pd.DataFrame(columns)


# Of 8 images the percentiles are 6.25, 18.75, ... 93.75 by rank.
FIRST = table(g1=1, g2=2, g3=3, g4=4, b1=5, b2=6, b3=2.5, b4=8)
SECOND = table(g1=10, g2=20, g3=50, g4=40, b1=80, b2=15, b3=30, b4=70)
# Ranks of the first: g1 1, g2 2, b3 3, g3 4, g4 5, b1 6, b2 7, b4 8. Of the second: g1 1, b2 2, g2 3, b3 4, g4 5, g3 6,
# b4 7, b1 8. Spreads of the bad in ranks: b1 2, b2 5, b3 1, b4 1.


def picks(*tables, k=2):
    picked = pick_shared_examples({f"d{number}": scores for number, scores in enumerate(tables)}, k)
    return list(zip(picked["kind"], picked["image"], picked["remark"], strict=True))


def test_picks_by_hand():
    # PB2 thresholds: 3.94 (position 2.94 of 1, 2, 3, 4) and 49.4 (of 10, 20, 40, 50).
    assert picks(FIRST, SECOND) == [
        (DISAGREED, "b2", "percentile 19 (d1) to 81 (d0)"),
        (DISAGREED, "b1", "percentile 69 (d0) to 94 (d1)"),
        (MISSED, "b3", "missed by 2 of 2, mean percentile 38"),
        # g4 is above the threshold of the first, g3 above that of the second: 4.5 and 4.5 in the mean, but not the
        # same: (5 + 5) / 2 ranks against (4 + 6) / 2; the name decides.
        (REJECTED, "g3", "rejected by 1 of 2, mean percentile 56"),
    ]


def test_ties_go_to_the_first_name_and_no_image_is_chosen_twice():
    first, second = table(g1=0, b2=1, b1=1, b3=5), table(g1=0, b2=9, b1=9, b3=5)
    assert [image for _, image, _ in picks(first, second, k=1)] == ["b3", "b1", "g1"]
    assert [image for _, image, _ in picks(first, second, k=3)] == ["b3", "b1", "b2", "g1"]


def test_one_detector_and_detectors_that_agree_have_no_disagreement():
    assert [kind for kind, _, _ in picks(FIRST)] == [MISSED, REJECTED]
    assert picks(FIRST)[0][1:] == ("b3", "missed by 1 of 1, mean percentile 31")
    scaled = FIRST.assign(pred_score=10 * FIRST["pred_score"] - 3)
    assert [kind for kind, _, _ in picks(FIRST, scaled)] == [MISSED, REJECTED]


def test_only_images_with_a_number_of_every_detector():
    holes = SECOND.assign(pred_score=SECOND["pred_score"].where(SECOND["image"] != "b2"))
    assert "b2" not in [image for _, image, _ in picks(FIRST, holes)]
    absent = SECOND[SECOND["image"] != "b2"]
    assert "b2" not in [image for _, image, _ in picks(FIRST, absent)]
    assert picks(FIRST, SECOND.assign(pred_score=np.nan)) == []
    assert pick_shared_examples({}).empty


def test_missed_by_more_detectors_goes_before_a_lower_percentile():
    first = table(g1=1, ba=2, g2=3, bb=4, bc=10, bd=11)  # misses ba alone
    second = table(bb=1, bc=2, bd=3, g1=4, ba=5, g2=6)  # misses all, ba with the highest score
    assert picks(first, second, k=0)[0] == (MISSED, "ba", "missed by 2 of 2, mean percentile 50")


def test_one_class_alone():
    only_good = [scores[scores["label"] == "good"] for scores in (FIRST, SECOND)]
    assert [kind for kind, _, _ in picks(*only_good)] == [REJECTED]
    only_bad = [scores[scores["label"] == "bad"] for scores in (FIRST, SECOND)]
    assert [kind for kind, _, _ in picks(*only_bad, k=1)] == [DISAGREED, MISSED]


def test_the_order_of_the_lines_does_not_matter():
    shuffled = SECOND.sample(frac=1, random_state=3)
    assert picks(FIRST, shuffled) == picks(FIRST, SECOND)


def test_labels_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="'d1' was told another label of 'b1' than 'd0'"):
        picks(FIRST, SECOND.assign(label=["good"] * 5 + ["bad"] * 3))


@pytest.fixture(scope="module")
def category():
    """Scores of three detectors, images, their maps and masks."""
    scores = cell_scores(1, n_good=12, n_bad=12)
    images, maps, masks = image_part(scores)
    generator = np.random.default_rng(3)
    noisy = {
        name: scores.assign(pred_score=scores["pred_score"] + generator.normal(0, spread, len(scores)))
        for name, spread in (("sure", 0.2), ("so_so", 1.0), ("a_detector_with_a_very_long_name_of_$its_<b>own", 3.0))
    }
    return noisy, images, maps, masks


def pixels_close_to(picture, colour, tolerance=40):
    return int((np.abs(np.asarray(picture).astype(int) - colour).max(axis=-1) < tolerance).sum())


@pytest.mark.parametrize("with_masks", [True, False])
def test_draws_with_and_without_masks_and_maps(category, with_masks):
    scores, images, maps, masks = category
    some = dict.fromkeys(list(scores)[:2], maps)
    yellow = (0xF0, 0xE4, 0x42)
    for given_maps in (some, {}):
        picture = draw_side_by_side(images, masks if with_masks else None, given_maps, scores)
        assert picture.mode == "RGB"
        assert picture.width == pytest.approx(110 * (0.2 + 4 * 1.3), abs=2)
    assert (pixels_close_to(picture, yellow) > 50) == with_masks  # the colours of maps have such a yellow too


class Counting:
    """Maps that note which of them are read."""

    def __init__(self, maps):
        self.maps, self.read = maps, []

    def __len__(self):
        return len(self.maps)

    def __getitem__(self, row):
        self.read.append(row)
        return self.maps[row]


def test_only_the_rows_that_are_needed_are_read(category):
    scores, images, maps, masks = category
    counting, picked = Counting(maps), pick_shared_examples(scores)
    draw_side_by_side(images, masks, {"sure": counting}, scores)
    order = list(images.table["image"])
    good = np.flatnonzero(images.table["label"] == "good")
    assert set(counting.read) == set(good) | {order.index(image) for image in picked["image"]}


def test_of_many_good_maps_few_are_read_from_all_over():
    counting = Counting(np.random.default_rng(0).random((500, 8, 8)))
    colour_limits(counting, np.arange(100, 500), [0])
    assert len(set(counting.read)) == 24
    assert (min(counting.read), max(counting.read)) == (100, 499)


def test_colour_scale_of_the_good_images():
    generator = np.random.default_rng(0)
    maps = generator.random((40, 50, 50))
    maps[30:] += 100  # the bad ones
    low, high = colour_limits(maps, np.arange(30), [35])
    assert (low, high) == pytest.approx((0.01, 0.999), abs=2e-3)
    maps[:30] = 7.0
    assert colour_limits(maps, np.arange(30), [35]) == (maps[35].min(), maps[35].max())
    assert colour_limits(maps, [], [35]) == (maps[35].min(), maps[35].max())
    maps[0, :25] = np.nan
    maps[0, 25:] = np.linspace(0, 1, 1250).reshape(25, 50)
    assert np.isfinite(colour_limits(maps, [0], [35])).all()


def test_scales_of_detectors_are_their_own(category):
    scores, images, maps, _ = category
    names = list(scores)[:2]
    two = {name: scores[name] for name in names}
    same = draw_side_by_side(images, None, {names[0]: maps, names[1]: 1000 * maps - 7}, two)
    plain = draw_side_by_side(images, None, dict.fromkeys(names, maps), two)
    # Not to the bit: colours are rounded.
    assert np.abs(np.asarray(same).astype(int) - np.asarray(plain).astype(int)).max() <= 6


def test_maps_that_do_not_belong_are_refused(category):
    scores, images, maps, _ = category
    with pytest.raises(ValueError, match="'sure' has 23 anomaly maps for 24 images"):
        draw_side_by_side(images, None, {"sure": maps[:-1]}, scores)
    with pytest.raises(ValueError, match="anomaly maps of 'other' but no scores"):
        draw_side_by_side(images, None, {"other": maps}, scores)
    part = ImagePart(images.stack, images.table.iloc[:5])
    with pytest.raises(ValueError, match="Scored but not among the 5 images"):
        draw_side_by_side(part, None, {}, scores)


def test_odd_names_are_drawn_as_they_are(category):
    scores, images, maps, masks = category
    odd = {image: f"a $\\frac{{1}}{{$ <b>{'long ' * 60}{image}" for image in images.table["image"]}
    renamed = {
        f"$x_{{{name}": part.assign(image=part["image"].map(odd), defect_type="$x_{$") for name, part in scores.items()
    }
    shown, outlined = [
        ImagePart(part.stack, part.table.assign(image=part.table["image"].map(odd))) for part in (images, masks)
    ]
    picture = draw_side_by_side(shown, outlined, {f"$x_{{{name}": maps for name in scores}, renamed)
    assert picture.height > 500


def test_nothing_in_common_gives_a_note(category):
    scores, images, maps, _ = category
    unscored = {name: part.assign(pred_score=np.nan) for name, part in scores.items()}
    picture = draw_side_by_side(images, None, {}, unscored)
    assert picture.height < 100 and pixels_close_to(picture, (0x1F, 0x29, 0x33)) > 100
    assert draw_note("Nothing $to <see>.").width == 440


def test_eight_detectors_and_four_images_stay_small():
    scores = cell_scores(1, n_good=20, n_bad=20)
    images, maps, masks = image_part(scores, side=256)
    generator = np.random.default_rng(2)
    eight = {
        f"detector_{number}": scores.assign(pred_score=scores["pred_score"] + generator.normal(0, 2, len(scores)))
        for number in range(8)
    }
    picture = draw_side_by_side(images, masks, dict.fromkeys(eight, maps), eight)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85, optimize=True)
    assert buffer.tell() < 250_000
    assert picture.width < 1400 and picture.height < 1400
