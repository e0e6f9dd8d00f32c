"""Which images of a category a detector trains on and which it is tested on.

A split is two tables, ``train`` and ``test``, with one line per image: its ``row`` in the category's index table (and
image stack), its path and the digest of its file, the label it is given, defect type, domain and whether the dataset
has pixel labels. No image content occurs in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import click
import numpy as np
import pandas as pd

SPLIT_COLUMNS = ["row", "image", "sha256", "label", "defect_type", "domain", "has_pixel_labels"]


class SplitError(click.ClickException):
    """A split that the experiment needs cannot be drawn from this category."""


def clean_split(index: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All good training images against the full test set (protocol 4.1).

    Args:
        index: Index table of one category.

    Returns:
        Tables ``train`` (good images only) and ``test``.

    Raises:
        SplitError: Both hold an image of the same content.
    """
    good_train, test = _parts(index)
    return _disjoint_tables(index, good_train, test)


def noisy_split(
    index: pd.DataFrame, noise_percent: float, seed: int, minimum_bad: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A contaminated training set: good training images replaced by bad test images (protocol 4.5).

    ``n`` is the share of the good training images, rounded to the nearest integer and at least 1. ``n`` good images
    leave the training set and are used nowhere; ``n`` bad images move from the test set into the training set, where
    they are labelled good (protocol 5, no. 13 and 17). One permutation of the good and one of the bad images is drawn
    per (seed, dataset, category) and its beginning is used, so that a smaller level is part of a larger one (no. 14).
    A test image with the same content as a moved one leaves the test set too, or it would be tested on after training.

    Args:
        index: Index table of one category.
        noise_percent: Share in percent, between 0 and 100.
        seed: Seed of the draw.
        minimum_bad: Bad images that must remain in the test set.

    Returns:
        Tables ``train`` and ``test`` as of :func:`clean_split`, and ``draw``: the images that were taken, with what
        happened to each (``removed_from_train``, ``moved_to_train``, ``removed_from_test`` for a twin of a moved one).

    Raises:
        SplitError: Fewer than ``minimum_bad`` bad test images would remain.
    """
    good_train, test = _parts(index)
    count = noise_count(len(good_train), noise_percent)
    removed = _permuted(index, good_train, seed, "good")[:count]
    remedy = f"Leave {noise_percent:g} % out of noisy_labels.noise_percent for this dataset"
    moved, left, twins = _move_bad(index, test, count, seed, minimum_bad, remedy)
    train, test_table = _disjoint_tables(index, np.union1d(np.setdiff1d(good_train, removed), moved), left)
    draw = _draw_table(index, {"removed_from_train": removed, "moved_to_train": moved, "removed_from_test": twins})
    return train.assign(label="good", defect_type="good"), test_table, draw


def noise_count(good_train: int, noise_percent: float) -> int:
    """Number of images to exchange: nearest integer (halves up), at least 1 (protocol 4.5, step 1)."""
    return max(1, int(np.floor(good_train * noise_percent / 100 + 0.5)))


def share_split(index: pd.DataFrame, percent: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A random share of the good training images against the full test set (protocol 4.2).

    Args:
        index: Index table of one category.
        percent: Share in percent.
        seed: Seed of the draw; a smaller share is part of a larger one.

    Returns:
        Tables ``train`` and ``test`` as of :func:`clean_split`, and ``draw``: the images that were
        ``removed_from_train``.

    Raises:
        SplitError: Both hold an image of the same content.
    """
    good_train, test = _parts(index)
    order = _permuted(index, good_train, seed, "good")
    kept = np.sort(order[: noise_count(len(good_train), percent)])
    draw = _draw_table(index, {"removed_from_train": order[len(kept) :]})
    return *_disjoint_tables(index, kept, test), draw


def supervised_split(
    index: pd.DataFrame, bad_images: int | str, seed: int, minimum_bad: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All good training images and labelled bad ones (protocol 4.6).

    Args:
        index: Index table of one category.
        bad_images: How many bad test images, drawn over all defect types, move to the training set; or ``train`` for
            all bad training images, which leaves the test set as it is.
        seed: Seed of the draw; a smaller number is part of a larger one.
        minimum_bad: Bad images that must remain in the test set.

    Returns:
        Tables ``train`` (good and bad, labelled as they are) and ``test``, and ``draw``: the images that were
        ``moved_to_train``, and ``removed_from_test`` for a twin of a moved one.

    Raises:
        SplitError: Too few bad images, or no bad training image where all of them are asked for.
    """
    good_train, test = _parts(index)
    if bad_images == "train":
        bad, left = _bad_train(index, "supervised"), test
        drawn = {"moved_to_train": bad[:0]}
    else:
        remedy = "Ask for fewer in supervised.bad_images"
        bad, left, twins = _move_bad(index, test, int(bad_images), seed, minimum_bad, remedy)
        drawn = {"moved_to_train": bad, "removed_from_test": twins}
    return *_disjoint_tables(index, np.union1d(good_train, bad), left), _draw_table(index, drawn)


def holdout_split(
    index: pd.DataFrame, percent: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A validation part cut from the training data, good and bad apart (protocol 4.7 and 5, no. 19).

    The test set has no part in it. The other bad training images are unused: the detectors learn from good ones.

    Args:
        index: Index table of one category.
        percent: Share of the good and of the bad training images that is held out, in percent; at least one of each.
        seed: Seed of the draw.

    Returns:
        Tables ``train`` (good images), ``validation`` (good and bad) and ``test``, and ``draw``: the images that were
        ``held_out``.

    Raises:
        SplitError: The category has no bad training image, or two of the parts hold an image of the same content.
    """
    good_train, test = _parts(index)
    good = _permuted(index, good_train, seed, "good")[: noise_count(len(good_train), percent)]
    bad_train = _bad_train(index, "validation")
    bad = _permuted(index, bad_train, seed, "bad")[: noise_count(len(bad_train), percent)]
    held_out = np.union1d(good, bad)
    train = np.setdiff1d(good_train, good)
    if not len(train):
        raise SplitError(f"[SPLIT_EMPTY] {_place(index)}: {percent:g} % held out leaves no good image for training.")
    train_table, test_table = _disjoint_tables(index, train, test)
    held_out_table, _ = _disjoint_tables(index, held_out, test)
    _check_disjoint(index, train, held_out, "training", "validation")
    return train_table, held_out_table, test_table, _draw_table(index, {"held_out": held_out})


def _bad_train(index: pd.DataFrame, experiment: str) -> np.ndarray:
    bad = np.flatnonzero(((index["split"] == "train") & (index["label"] == "bad")).to_numpy())
    if not len(bad):
        raise SplitError(
            f"[FOLDER_MISSING] {_place(index)}: there are no bad training images; experiment {experiment} needs them. "
            f"Use a dataset that has them (VAD's original release, or train/bad in your own folders), or leave this "
            f"one out of {experiment}.datasets."
        )
    return bad


def _move_bad(
    index: pd.DataFrame, test: np.ndarray, count: int, seed: int, minimum_bad: int, remedy: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw bad test images that move to training: them, what is left of the test set, and its twins.

    A twin is a test image with the same content as a moved one; it would be tested on after training.

    Raises:
        SplitError: Too few bad test images exist or are left.
    """
    is_bad, content = (index["label"] == "bad").to_numpy(), index["sha256"].to_numpy()
    bad_test = test[is_bad[test]]
    moved = _permuted(index, bad_test, seed, "bad")[:count]
    stays = np.setdiff1d(test, moved)
    is_twin = np.isin(content[stays], content[moved])
    left = stays[~is_twin]
    if len(bad_test) < count or is_bad[left].sum() < minimum_bad:
        raise SplitError(
            f"[TOO_FEW_BAD] {_place(index)}: {count} bad test images are to be moved to training, {len(bad_test)} "
            f"exist and {minimum_bad} must remain. {remedy}, or add bad test images."
        )
    return moved, left, stays[is_twin]


def _place(index: pd.DataFrame) -> str:
    first = index.iloc[0]
    return f"{first['dataset']}/{first['category']}"


def _parts(index: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the good training images and of the test images."""
    is_train = index["split"] == "train"
    good_train = np.flatnonzero(is_train & (index["label"] == "good"))
    return good_train, np.flatnonzero(index["split"] == "test")


def _permuted(index: pd.DataFrame, rows: np.ndarray, seed: int, stream: str) -> np.ndarray:
    """The rows in an order that depends on nothing but the seed, the category, the stream and the images' paths."""
    first = index.iloc[0]
    key = hashlib.sha256(f"{seed}/{first['dataset']}/{first['category']}/{stream}".encode()).digest()
    by_path = rows[np.argsort(index["image"].to_numpy()[rows].astype(str), kind="stable")]
    return np.random.default_rng(int.from_bytes(key[:8], "big")).permutation(by_path)


def _check_disjoint(
    index: pd.DataFrame, one: np.ndarray, other: np.ndarray, first: str = "training", second: str = "test"
) -> None:
    """Refuse two parts that share an image, be it under another name."""
    content = index["sha256"].to_numpy()
    shared = one[np.isin(content[one], content[other])]
    if len(shared):
        code = "DUPLICATE_TRAIN_TEST" if second == "test" else "DUPLICATE_TRAIN_VALIDATION"
        raise SplitError(
            f"[{code}] {_place(index)}: {len(shared)} {first} images are also {second} images (first: "
            f"{index.iloc[shared[0]]['image']}). Results would be invalid; remove the copies."
        )


def _disjoint_tables(index: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    _check_disjoint(index, train, test)
    return _table(index, train), _table(index, test)


def _table(index: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    return index.assign(row=np.arange(len(index))).iloc[rows][SPLIT_COLUMNS].reset_index(drop=True)


def _draw_table(index: pd.DataFrame, drawn: Mapping[str, Any]) -> pd.DataFrame:
    parts = [_table(index, rows).assign(drawn=what, order=range(len(rows))) for what, rows in drawn.items()]
    return pd.concat(parts, ignore_index=True).astype({"drawn": "str"})
