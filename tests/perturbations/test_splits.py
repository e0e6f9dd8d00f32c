"""Splits against the rules of protocol 4.1 and 4.5."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shopfloor.perturbations.splits import (
    SplitError,
    clean_split,
    holdout_split,
    noise_count,
    noisy_split,
    share_split,
    supervised_split,
)


def make_index(train_good: int = 50, test_good: int = 20, test_bad: int = 30, train_bad: int = 0) -> pd.DataFrame:
    parts = [
        ("train", "good", train_good), ("train", "bad", train_bad),
        ("test", "good", test_good), ("test", "bad", test_bad),
    ]  # fmt: skip
    rows = [
        {"split": split, "label": label, "image": f"{split}/{label}/{i:03d}.png"}
        for split, label, count in parts
        for i in range(count)
    ]
    index = pd.DataFrame(rows).sort_values("image", ignore_index=True)
    index["defect_type"] = index["label"].map({"good": "good", "bad": "scratch"})
    return index.assign(dataset="d", category="c", domain="", has_pixel_labels=True, sha256=index["image"])


def names(table: pd.DataFrame) -> set[str]:
    return set(table["image"])


def test_clean_split_trains_on_good_images_and_tests_on_the_whole_test_set() -> None:
    train, test = clean_split(make_index(train_bad=7))
    assert names(train) == {f"train/good/{i:03d}.png" for i in range(50)}
    assert len(test) == 50 and set(test["image"].str.split("/").str[0]) == {"test"}


def test_rows_point_at_the_index() -> None:
    index = make_index()
    for part in clean_split(index):
        assert (index["image"].to_numpy()[part["row"]] == part["image"]).all()


def test_noisy_split_replaces_and_moves() -> None:
    index = make_index()
    train, test, draw = noisy_split(index, 16, seed=3341, minimum_bad=5)
    moved = names(draw[draw["drawn"] == "moved_to_train"])
    removed = names(draw[draw["drawn"] == "removed_from_train"])
    assert len(moved) == len(removed) == 8  # 16 % of 50
    assert len(train) == 50, "the size of the training set stays the same"
    assert moved <= names(train) and all("test/bad" in name for name in moved)
    assert not removed & (names(train) | names(test)), "removed images are used nowhere"
    assert set(train["label"]) == {"good"} and set(train["defect_type"]) == {"good"}, "moved images are labelled good"
    assert names(test) == {name for name in index["image"] if name.startswith("test")} - moved
    assert (test["label"] == "good").sum() == 20, "the test set keeps all good images"


def test_draws_are_nested() -> None:
    index = make_index()
    taken = []
    for percent in (4, 8, 16):
        draw = noisy_split(index, percent, seed=1954, minimum_bad=5)[2]
        taken.append({what: names(draw[draw["drawn"] == what]) for what in ("moved_to_train", "removed_from_train")})
    for what in taken[0]:
        assert taken[0][what] < taken[1][what] < taken[2][what]


def test_the_draw_depends_on_seed_and_category_and_not_on_the_order_of_rows() -> None:
    index = make_index()
    same = noisy_split(index, 8, seed=1, minimum_bad=5)[2]["image"].tolist()
    shuffled = index.sample(frac=1, random_state=0, ignore_index=True)
    assert noisy_split(shuffled, 8, seed=1, minimum_bad=5)[2]["image"].tolist() == same
    assert noisy_split(index, 8, seed=2, minimum_bad=5)[2]["image"].tolist() != same
    assert noisy_split(index.assign(category="other"), 8, seed=1, minimum_bad=5)[2]["image"].tolist() != same


def test_every_bad_image_is_drawn_about_equally_often() -> None:
    index = make_index(train_good=50, test_bad=20)
    count = pd.Series(0, index=sorted(name for name in index["image"] if "test/bad" in name))
    for seed in range(400):
        draw = noisy_split(index, 10, seed=seed, minimum_bad=5)[2]
        count[list(names(draw[draw["drawn"] == "moved_to_train"]))] += 1
    expected = 400 * 5 / 20
    assert np.abs(count - expected).max() < 4 * np.sqrt(expected)  # about four standard deviations


@pytest.mark.parametrize(
    ("good_train", "percent", "count"),
    # the table of protocol 4.5: VAD, SensumSODF capsule and softgel
    [(2000, 4, 80), (2000, 8, 160), (2000, 16, 320), (686, 4, 27), (686, 8, 55), (686, 16, 110), (696, 4, 28)]
    + [(696, 8, 56), (696, 16, 111), (10, 4, 1), (50, 5, 3)],  # at least one; halves go up
)
def test_number_of_exchanged_images(good_train: int, percent: float, count: int) -> None:
    assert noise_count(good_train, percent) == count


def test_too_few_bad_images_left_is_an_error_that_says_so() -> None:
    index = make_index(test_bad=12)
    assert (noisy_split(index, 14, seed=0, minimum_bad=5)[1]["label"] == "bad").sum() == 5
    with pytest.raises(SplitError, match=r"\[TOO_FEW_BAD\] d/c: 8 bad test images .* 12 exist and 5 must remain"):
        noisy_split(index, 16, seed=0, minimum_bad=5)


def test_a_twin_of_a_moved_image_leaves_the_test_set() -> None:
    index = make_index()
    bad = index.index[(index["label"] == "bad") & (index["split"] == "test")]
    index.loc[bad[::2], "sha256"] = index.loc[bad[1::2], "sha256"].to_numpy()  # every bad image exists twice
    train, test, draw = noisy_split(index, 16, seed=3, minimum_bad=5)
    content = index.set_index("image")["sha256"]
    assert not set(content[list(names(train))]) & set(content[list(names(test))])
    assert (draw["drawn"] == "removed_from_test").any()


def test_content_shared_by_train_and_test_is_refused() -> None:
    index = make_index()
    index.loc[index["image"] == "train/good/003.png", "sha256"] = "test/good/004.png"
    with pytest.raises(SplitError, match=r"DUPLICATE_TRAIN_TEST.*train/good/003.png"):
        clean_split(index)


# --- a share, labelled bad images, a held-out part


def test_a_share_keeps_its_percentage_and_nests() -> None:
    index = make_index(train_good=48)
    quarter, test, draw = share_split(index, 25, 3341)
    half, _, _ = share_split(index, 50, 3341)
    assert (len(quarter), len(half), len(test)) == (12, 24, 50)
    assert set(quarter["image"]) < set(half["image"])
    assert set(draw["drawn"]) == {"removed_from_train"} and len(draw) == 36
    assert set(share_split(index, 25, 1954)[0]["image"]) != set(quarter["image"])


def test_supervised_images_move_with_their_label() -> None:
    index = make_index(train_good=50, test_good=20, test_bad=30)
    train, test, draw = supervised_split(index, 10, 3341, 5)
    assert train["label"].value_counts().to_dict() == {"good": 50, "bad": 10}
    assert test["label"].value_counts().to_dict() == {"good": 20, "bad": 20}
    assert set(train["image"]) & set(test["image"]) == set()
    assert set(draw["image"]) == set(train.loc[train["label"] == "bad", "image"])
    more, _, _ = supervised_split(index, 20, 3341, 5)
    assert set(train["image"]) < set(more["image"]), "a smaller number is part of a larger one"


def test_supervised_on_all_bad_training_images_leaves_the_test_set() -> None:
    index = make_index(train_bad=9)
    train, test, draw = supervised_split(index, "train", 3341, 5)
    assert (train["label"] == "bad").sum() == 9 and len(draw) == 0
    assert test.equals(clean_split(index)[1])


def test_supervised_asks_for_what_is_there() -> None:
    with pytest.raises(SplitError, match=r"TOO_FEW_BAD.*26 bad test images.*30 exist and 5 must remain"):
        supervised_split(make_index(test_bad=30), 26, 1, 5)
    assert len(supervised_split(make_index(test_bad=30), 25, 1, 5)[1]) == 25
    with pytest.raises(SplitError, match=r"FOLDER_MISSING.*no bad training images; experiment supervised"):
        supervised_split(make_index(), "train", 1, 5)


def test_the_held_out_part_is_cut_from_training_data_good_and_bad_apart() -> None:
    index = make_index(train_good=50, train_bad=20)
    train, validation, test, draw = holdout_split(index, 10, 3341)
    assert validation["label"].value_counts().to_dict() == {"good": 5, "bad": 2}
    assert len(train) == 45 and set(train["label"]) == {"good"}
    assert test.equals(clean_split(index)[1]), "the test set has no part in it"
    assert set(draw["image"]) == set(validation["image"])
    assert not set(validation["image"]) & {*train["image"], *test["image"]}
    with pytest.raises(SplitError, match="no bad training images; experiment validation"):
        holdout_split(make_index(), 10, 3341)
