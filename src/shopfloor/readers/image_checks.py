"""Checks of what images are: whether they decode, how deep and how large they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.findings import Finding
from shopfloor.readers.types import FileFacts

if TYPE_CHECKING:
    import pandas as pd

SMALLEST_SIDE = 32
_GREY_OR_COLOUR = ("1", "L", "RGB", "CMYK", "YCbCr")
_UNPACK_AGAIN = "Unpack the archive again or replace the files"


def image_unreadable(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Images that are empty, truncated or damaged."""
    return unreadable(files, "IMAGE_UNREADABLE", "images", index["image"].tolist(), facts)


def unreadable(
    files: CategoryFiles, code: str, kind: str, paths: Iterable[str], facts: Mapping[str, FileFacts]
) -> Iterator[Finding]:
    """Files of one kind that are empty, truncated or damaged."""
    broken = [path for path in paths if facts[path].problem]
    if broken:
        where = f"first: {broken[0]}: {facts[broken[0]].problem}"
        what = f"{len(broken)} {kind} cannot be decoded"
        yield files.finding(code, what, broken, where=where, action=_UNPACK_AGAIN)


def image_mode(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """More than 8 bits is an error; palette, alpha and orientation tags are worth a warning."""
    decoded = [image for image in index["image"] if not facts[image].problem]
    deep = [image for image in decoded if facts[image].bits > 8]
    unusual = [image for image in decoded if image not in set(deep) and facts[image].mode not in _GREY_OR_COLOUR]
    turned = [image for image in decoded if facts[image].oriented]
    if deep:
        what = f"{len(deep)} images have more than 8 bits per channel"
        where = f"first: {deep[0]}: {facts[deep[0]].bits} bits, mode {facts[deep[0]].mode}"
        action = "Convert them to 8 bits; how to scale is a choice of yours"
        yield files.finding("IMAGE_MODE", what, deep, where=where, action=action)
    if unusual:
        what = f"{len(unusual)} images have a palette or an alpha channel, which is resolved or dropped"
        yield files.finding("IMAGE_MODE", what, unusual, level="warning")
    if turned:
        what = f"{len(turned)} images carry an orientation tag, which is not applied: pixels are used as stored"
        yield files.finding("IMAGE_ORIENTATION", what, turned, level="warning")


def image_size(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Below 32 pixels is an error; different sizes in one category are worth a warning."""
    decoded = index[index["width"] > 0]
    small = decoded[decoded[["width", "height"]].min(axis=1) < SMALLEST_SIDE]
    if len(small):
        what = f"{len(small)} images are smaller than {SMALLEST_SIDE} pixels on a side"
        where = f"first: {small['image'].iloc[0]}: {small['width'].iloc[0]} x {small['height'].iloc[0]}"
        action = "Remove them or use larger images"
        yield files.finding("IMAGE_SIZE", what, small["image"], where=where, action=action)
    sizes = decoded[["width", "height"]].value_counts()
    if len(sizes) > 1:
        (width, height), count = sizes.index[0], int(sizes.iloc[0])
        what = f"images have {len(sizes)} different sizes; all are resized to one square"
        where = f"most frequent: {width} x {height} pixels, {count} of {len(decoded)}"
        others = decoded.loc[(decoded["width"] != width) | (decoded["height"] != height), "image"]
        yield files.finding("IMAGE_SIZE", what, others, where=where, level="warning")
    if files.expected.size:
        width, height = files.expected.size
        other = decoded[(decoded["width"] != width) | (decoded["height"] != height)]
        if len(other):
            what = f"{len(other)} images are not {width} x {height} pixels as published"
            where = f"first: {other['image'].iloc[0]}: {other['width'].iloc[0]} x {other['height'].iloc[0]}"
            yield files.finding("IMAGE_SIZE", what, other["image"], where=where, level="warning")
