"""Checks of masks against their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.findings import SHOWN_PATHS, Finding
from shopfloor.readers.image_checks import unreadable
from shopfloor.readers.index_table import split_paths
from shopfloor.readers.types import FileFacts

if TYPE_CHECKING:
    import pandas as pd


def mask_unreadable(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Masks that are empty files, truncated or damaged."""
    return unreadable(files, "MASK_UNREADABLE", "masks", [mask for _, mask in _pairs(index)], facts)


def mask_missing(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Bad test images without a mask in a category that has masks."""
    bad = index[(index["split"] == "test") & (index["label"] == "bad")]
    missing = bad.loc[bad["masks"] == "", "image"].tolist()
    if missing and files.has_pixel_labels:
        what = f"{len(missing)} of {len(bad)} bad test images have no mask"
        expected = f"; expected {files.expected_mask(missing[0])}" if files.expected_mask else ""
        action = "Unpack the archive again, complete the masks, or remove all of them to go without pixel labels"
        yield files.finding("MASK_MISSING", what, missing, where=f"first: {missing[0]}{expected}", action=action)


def mask_orphan(files: CategoryFiles, _index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Masks without an image."""
    if files.orphan_masks:
        what = f"{len(files.orphan_masks)} masks belong to no image"
        action = "Remove the masks or restore their images; a mask is found by the exact name of its image"
        yield files.finding("MASK_ORPHAN", what, files.orphan_masks, action=action)


def mask_size(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Masks of another size than their image."""
    wrong = [
        (image, mask)
        for image, mask in _pairs(index)
        if not facts[image].problem
        and not facts[mask].problem
        and (facts[image].width, facts[image].height) != (facts[mask].width, facts[mask].height)
    ]
    if wrong:
        image, mask = (facts[path] for path in wrong[0])
        what = f"mask {wrong[0][1]} is {mask.width} x {mask.height}, its image is {image.width} x {image.height}"
        where = f"{len(wrong)} such pairs"
        action = "Draw the masks on the images as they are stored"
        yield files.finding("MASK_SIZE", what, [mask for _, mask in wrong], where=where, action=action)


def mask_empty(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Bad images whose masks are all zero."""
    empty = [
        image
        for image, masks in _images_with_masks(index[index["label"] == "bad"])
        if all(_is_zero(facts[mask]) for mask in masks)
    ]
    if empty:
        what = f"{len(empty)} bad images have an all-zero mask and count as bad images without bad pixels"
        yield files.finding("MASK_EMPTY", what, empty, level="warning")


def mask_on_good(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Good images with a non-empty mask."""
    marked = [
        image
        for image, mask in _pairs(index[index["label"] == "good"])
        if not facts[mask].problem and not _is_zero(facts[mask])
    ]
    if marked:
        what = f"{len(marked)} good images have a mask that marks a defect"
        yield files.finding("MASK_ON_GOOD", what, marked, action="Correct the label or remove the masks")


def mask_values(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Values that the dataset does not document, and lossy files whose values cannot be trusted."""
    masks = list(dict.fromkeys(mask for _, mask in _pairs(index)))
    if lossy := [mask for mask in masks if facts[mask].format in ("JPEG", "MPO")]:
        what = f"{len(lossy)} masks are JPEG files: grey left by the compression counts as defect"
        yield files.finding("MASK_VALUES", what, lossy, level="warning", action="Store masks as PNG")
    if files.documented_values is not None:
        allowed = files.documented_values | {0}
        if other := [mask for mask in masks if not allowed.issuperset(facts[mask].values)]:
            strange = sorted(set(facts[other[0]].values) - allowed)[:SHOWN_PATHS]
            what = f"{len(other)} masks hold undocumented values; any value above 0 is a defect"
            where = f"first: {other[0]}: {', '.join(f'{value:g}' for value in strange)}"
            yield files.finding("MASK_VALUES", what, other, where=where, level="warning")


def _is_zero(mask: FileFacts) -> bool:
    return not mask.problem and max(mask.values) <= 0


def _images_with_masks(index: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Every image that has masks, with them."""
    columns = zip(index["image"], index["masks"], strict=True)
    return [(image, split_paths(masks)) for image, masks in columns if masks]


def _pairs(index: pd.DataFrame) -> list[tuple[str, str]]:
    """Every (image, mask) of the table."""
    return [(image, mask) for image, masks in _images_with_masks(index) for mask in masks]
