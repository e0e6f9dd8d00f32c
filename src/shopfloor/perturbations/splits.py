"""Which images of a category a detector trains on and which it is tested on.

A split is two tables, ``train`` and ``test``, with one line per image: its ``row`` in the category's index table (and
image stack), its path, the label it is given, defect type, domain and whether the dataset has pixel labels. No image
content occurs in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import click
import numpy as np
import pandas as pd

SPLIT_COLUMNS = ["row", "image", "label", "defect_type", "domain", "has_pixel_labels"]


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
    _check_disjoint(index, good_train, test)
    return _table(index, good_train), _table(index, test)


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
    is_bad = (index["label"] == "bad").to_numpy()
    bad_test = test[is_bad[test]]
    count = noise_count(len(good_train), noise_percent)
    removed = _permuted(index, good_train, seed, "good")[:count]
    moved = _permuted(index, bad_test, seed, "bad")[:count]

    content = index["sha256"].to_numpy()
    left = np.setdiff1d(test, moved)
    twins = left[np.isin(content[left], content[moved])]
    left = np.setdiff1d(left, twins)
    bad_left = int(is_bad[left].sum())
    if len(moved) < count or bad_left < minimum_bad:
        first = index.iloc[0]
        raise SplitError(
            f"[TOO_FEW_BAD] {first['dataset']}/{first['category']}: {count} bad test images are to be moved to "
            f"training, {len(bad_test)} exist and {minimum_bad} must remain. Leave {noise_percent:g} % out of "
            f"noisy_labels.noise_percent for this dataset, or add bad test images."
        )
    train = np.union1d(np.setdiff1d(good_train, removed), moved)
    _check_disjoint(index, train, left)
    return (
        _table(index, train).assign(label="good", defect_type="good"),
        _table(index, left),
        _draw_table(index, {"removed_from_train": removed, "moved_to_train": moved, "removed_from_test": twins}),
    )


def noise_count(good_train: int, noise_percent: float) -> int:
    """Number of images to exchange: nearest integer (halves up), at least 1 (protocol 4.5, step 1)."""
    return max(1, int(np.floor(good_train * noise_percent / 100 + 0.5)))


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


def _check_disjoint(index: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> None:
    content = index["sha256"].to_numpy()
    shared = train[np.isin(content[train], content[test])]
    if len(shared):
        first = index.iloc[shared[0]]
        raise SplitError(
            f"[DUPLICATE_TRAIN_TEST] {first['dataset']}/{first['category']}: {len(shared)} training images are also "
            f"test images (first: {first['image']}). Test results would be invalid; remove the copies."
        )


def _table(index: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    return index.assign(row=np.arange(len(index))).iloc[rows][SPLIT_COLUMNS].reset_index(drop=True)


def _draw_table(index: pd.DataFrame, drawn: Mapping[str, Any]) -> pd.DataFrame:
    parts = [_table(index, rows).assign(drawn=what, order=range(len(rows))) for what, rows in drawn.items()]
    return pd.concat(parts, ignore_index=True)
