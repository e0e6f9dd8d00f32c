"""Checks of a category before anything is trained on it.

A check is a small function over the index table that returns findings. All checks of a category run, then
:func:`~shopfloor.readers.findings.report` logs the warnings and raises every error at once.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from shopfloor.readers.findings import SHOWN_PATHS, Finding, report
from shopfloor.readers.index_table import SEPARATOR, Sample, build_index, split_paths
from shopfloor.readers.listing import IMAGE_EXTENSIONS, stem_key
from shopfloor.readers.measure import FileFacts, measure

if TYPE_CHECKING:
    import pandas as pd

SMALLEST_SIDE = 32
_GREY_OR_COLOUR = ("1", "L", "RGB", "CMYK", "YCbCr")
_UNPACK_AGAIN = "Unpack the archive again or replace the files"


@dataclass(frozen=True)
class CategoryFiles:
    """A category as a reader lists it, before anything is decoded.

    Attributes:
        root: Dataset root.
        dataset: Name of the dataset.
        category: Name of the category.
        samples: Its images.
        has_pixel_labels: Whether bad test images must have masks.
        folders: Folder of a (split, label), relative to the root, for the text of ``SPLIT_EMPTY``.
        orphan_masks: Masks that belong to no image.
        ambiguous_masks: Masks that fit several images.
        expected_mask: Where the mask of an image is expected.
        documented_values: Mask values that the dataset documents; None where it documents nothing.
        findings: Findings of the reader itself.
    """

    root: Path
    dataset: str
    category: str
    samples: Sequence[Sample]
    has_pixel_labels: bool
    folders: Mapping[tuple[str, str], str] = field(default_factory=dict)
    orphan_masks: tuple[str, ...] = ()
    ambiguous_masks: tuple[str, ...] = ()
    expected_mask: Callable[[str], str] | None = None
    documented_values: frozenset[int] | None = None
    findings: tuple[Finding, ...] = ()

    def finding(
        self,
        code: str,
        what: str,
        paths: Iterable[str] = (),
        *,
        where: str | None = None,
        action: str = "",
        level: Literal["error", "warning"] = "error",
    ) -> Finding:
        """A finding about this category; unless told otherwise, ``where`` names the first path."""
        paths = tuple(paths)
        if where is None:
            where = f"first: {paths[0]}" if paths else ""
        return Finding(code, self.dataset, self.category, what, where, action, paths, level)


def checked_index(files: CategoryFiles) -> pd.DataFrame:
    """Measure every file of a category, run all common checks and return the index table.

    Args:
        files: The category as listed.

    Returns:
        Index table; good images have no masks, since an all-zero mask on disk says the same.

    Raises:
        DatasetError: With every error found.
    """
    samples, refused = usable_names(files)
    title = f"Checking {files.dataset}/{files.category}"
    masks = [mask for sample in samples for mask in sample.masks]
    facts = measure(files.root, [sample.image for sample in samples], [*masks, *files.orphan_masks], title)
    index = build_index(files.dataset, files.category, samples, files.has_pixel_labels, facts)
    found = [finding for check in COMMON_CHECKS for finding in check(files, index, facts)]
    report([*files.findings, *refused, *found])
    index.loc[index["label"] == "good", ["masks", "mask_sha256", "mask_file_size", "mask_modified_ns"]] = ""
    return index


# --- on names


def usable_names(files: CategoryFiles) -> tuple[list[Sample], list[Finding]]:
    """Set samples aside whose paths the index table cannot hold: ``;``, control or undecodable characters.

    Returns:
        The usable samples, and ``NAME_INVALID`` for the others.
    """
    usable, refused = [], []
    for sample in files.samples:
        bad = [path for path in (sample.image, *sample.masks) if not _fits_table(path)]
        refused.extend(bad)
        if not bad:
            usable.append(sample)
    if not refused:
        return usable, []
    what = f"{len(refused)} paths hold a {SEPARATOR!r}, a control character or bytes that are not text"
    return usable, [files.finding("NAME_INVALID", what, refused, action="Rename the files")]


def _fits_table(path: str) -> bool:
    return SEPARATOR not in path and not any(unicodedata.category(c) in ("Cc", "Cs") for c in path)


def name_collision(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Paths that differ in case or extension only, and masks that fit several images."""
    findings = []
    by_stem = defaultdict(list)
    for image in index["image"]:
        by_stem[stem_key(image.lower())].append(image)
    if colliding := [names for names in by_stem.values() if len(names) > 1]:
        what = f"{len(colliding)} groups of images differ only in case or extension, so masks are ambiguous"
        paths = [path for names in colliding for path in names]
        where = f"first: {' and '.join(colliding[0])}"
        findings.append(files.finding("NAME_COLLISION", what, paths, where=where, action="Keep one file of each"))
    if files.ambiguous_masks:
        what = f"{len(files.ambiguous_masks)} masks fit several images, or several masks one image"
        findings.append(files.finding("NAME_COLLISION", what, files.ambiguous_masks, action="Rename the masks"))
    return findings


# --- on the split


def split_empty(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Good images in train, good and bad images in test; a missing folder has its own finding."""
    findings = []
    for split, label in (("train", "good"), ("test", "good"), ("test", "bad")):
        folder = files.folders.get((split, label))
        missing = any(f.code == "FOLDER_MISSING" and f.paths == (folder,) for f in files.findings)
        if missing or ((index["split"] == split) & (index["label"] == label)).any():
            continue
        extensions = ", ".join(extension.lstrip(".") for extension in IMAGE_EXTENSIONS)
        others = [
            p for f in files.findings if f.code == "FILE_IGNORED" for p in f.paths if folder and p.startswith(folder)
        ]
        where = f"{folder or 'no row'}; accepted extensions {extensions}; {len(others)} others were ignored"
        action = "Add images or correct the split"
        findings.append(
            files.finding("SPLIT_EMPTY", f"no {label} image in {split}", others, where=where, action=action)
        )
    return findings


def bad_in_train(files: CategoryFiles, index: pd.DataFrame) -> list[Finding]:
    """``BAD_IN_TRAIN``, for the training list of a one-class run; not among the common checks."""
    bad = index.loc[(index["split"] == "train") & (index["label"] == "bad"), "image"].tolist()
    if not bad:
        return []
    what = f"{len(bad)} bad images in the training list of a one-class run"
    return [files.finding("BAD_IN_TRAIN", what, bad, action="Remove them from the training part")]


# --- on the pixels of images


def image_unreadable(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Images that are empty, truncated or damaged."""
    return _unreadable(files, "IMAGE_UNREADABLE", "images", index["image"].tolist(), facts)


def mask_unreadable(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Masks that are empty files, truncated or damaged."""
    masks = [mask for _, mask in _pairs(index)]
    return _unreadable(files, "MASK_UNREADABLE", "masks", masks, facts)


def _unreadable(
    files: CategoryFiles, code: str, kind: str, paths: Iterable[str], facts: Mapping[str, FileFacts]
) -> list[Finding]:
    broken = [path for path in paths if facts[path].problem]
    if not broken:
        return []
    where = f"first: {broken[0]}: {facts[broken[0]].problem}"
    what = f"{len(broken)} {kind} cannot be decoded"
    return [files.finding(code, what, broken, where=where, action=_UNPACK_AGAIN)]


def image_mode(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> list[Finding]:
    """More than 8 bits is an error; palette, alpha and orientation tags are worth a warning."""
    decoded = [image for image in index["image"] if not facts[image].problem]
    deep = [image for image in decoded if facts[image].bits > 8]
    unusual = [image for image in decoded if image not in set(deep) and facts[image].mode not in _GREY_OR_COLOUR]
    turned = [image for image in decoded if facts[image].oriented]
    findings = []
    if deep:
        what = f"{len(deep)} images have more than 8 bits per channel"
        where = f"first: {deep[0]}: {facts[deep[0]].bits} bits, mode {facts[deep[0]].mode}"
        action = "Convert them to 8 bits; how to scale is a choice of yours"
        findings.append(files.finding("IMAGE_MODE", what, deep, where=where, action=action))
    if unusual:
        what = f"{len(unusual)} images have a palette or an alpha channel, which is resolved or dropped"
        findings.append(files.finding("IMAGE_MODE", what, unusual, level="warning"))
    if turned:
        what = f"{len(turned)} images carry an orientation tag, which is not applied: pixels are used as stored"
        findings.append(files.finding("IMAGE_ORIENTATION", what, turned, level="warning"))
    return findings


def image_size(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Below 32 pixels is an error; different sizes in one category are worth a warning."""
    decoded = index[index["width"] > 0]
    small = decoded[decoded[["width", "height"]].min(axis=1) < SMALLEST_SIDE]
    findings = []
    if len(small):
        what = f"{len(small)} images are smaller than {SMALLEST_SIDE} pixels on a side"
        where = f"first: {small['image'].iloc[0]}: {small['width'].iloc[0]} x {small['height'].iloc[0]}"
        action = "Remove them or use larger images"
        findings.append(files.finding("IMAGE_SIZE", what, small["image"], where=where, action=action))
    sizes = decoded[["width", "height"]].value_counts()
    if len(sizes) > 1:
        (width, height), count = sizes.index[0], int(sizes.iloc[0])
        what = f"images have {len(sizes)} different sizes; all are resized to one square"
        where = f"most frequent: {width} x {height} pixels, {count} of {len(decoded)}"
        others = decoded.loc[(decoded["width"] != width) | (decoded["height"] != height), "image"]
        findings.append(files.finding("IMAGE_SIZE", what, others, where=where, level="warning"))
    return findings


# --- on masks


def mask_missing(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Bad test images without a mask in a category that has masks."""
    if not files.has_pixel_labels:
        return []
    bad = index[(index["split"] == "test") & (index["label"] == "bad")]
    missing = bad.loc[bad["masks"] == "", "image"].tolist()
    if not missing:
        return []
    what = f"{len(missing)} of {len(bad)} bad test images have no mask"
    expected = f"; expected {files.expected_mask(missing[0])}" if files.expected_mask else ""
    action = "Unpack the archive again, complete the masks, or remove all of them to go without pixel labels"
    return [files.finding("MASK_MISSING", what, missing, where=f"first: {missing[0]}{expected}", action=action)]


def mask_orphan(files: CategoryFiles, _index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Masks without an image."""
    if not files.orphan_masks:
        return []
    what = f"{len(files.orphan_masks)} masks belong to no image"
    action = "Remove the masks or restore their images; a mask is found by the exact name of its image"
    return [files.finding("MASK_ORPHAN", what, files.orphan_masks, action=action)]


def mask_size(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Masks of another size than their image."""
    wrong = [
        (image, mask)
        for image, mask in _pairs(index)
        if not facts[image].problem
        and not facts[mask].problem
        and (facts[image].width, facts[image].height) != (facts[mask].width, facts[mask].height)
    ]
    if not wrong:
        return []
    image, mask = (facts[path] for path in wrong[0])
    what = f"mask {wrong[0][1]} is {mask.width} x {mask.height}, its image is {image.width} x {image.height}"
    where = f"{len(wrong)} such pairs"
    action = "Draw the masks on the images as they are stored"
    return [files.finding("MASK_SIZE", what, [mask for _, mask in wrong], where=where, action=action)]


def mask_empty(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Bad images whose masks are all zero."""
    empty = [
        image
        for image, masks in _images_with_masks(index[index["label"] == "bad"])
        if all(_is_zero(facts[mask]) for mask in masks)
    ]
    if not empty:
        return []
    what = f"{len(empty)} bad images have an all-zero mask and count as bad images without bad pixels"
    return [files.finding("MASK_EMPTY", what, empty, level="warning")]


def mask_on_good(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Good images with a non-empty mask."""
    marked = [
        image
        for image, mask in _pairs(index[index["label"] == "good"])
        if not facts[mask].problem and not _is_zero(facts[mask])
    ]
    if not marked:
        return []
    what = f"{len(marked)} good images have a mask that marks a defect"
    return [files.finding("MASK_ON_GOOD", what, marked, action="Correct the label or remove the masks")]


def mask_values(files: CategoryFiles, index: pd.DataFrame, facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Values that the dataset does not document, and lossy files whose values cannot be trusted."""
    masks = list(dict.fromkeys(mask for _, mask in _pairs(index)))
    findings = []
    if lossy := [mask for mask in masks if facts[mask].format in ("JPEG", "MPO")]:
        what = f"{len(lossy)} masks are JPEG files: grey left by the compression counts as defect"
        findings.append(files.finding("MASK_VALUES", what, lossy, level="warning", action="Store masks as PNG"))
    if files.documented_values is not None:
        allowed = files.documented_values | {0}
        if other := [mask for mask in masks if not allowed.issuperset(facts[mask].values)]:
            strange = sorted(set(facts[other[0]].values) - allowed)[:SHOWN_PATHS]
            what = f"{len(other)} masks hold undocumented values; any value above 0 is a defect"
            where = f"first: {other[0]}: {', '.join(f'{value:g}' for value in strange)}"
            findings.append(files.finding("MASK_VALUES", what, other, where=where, level="warning"))
    return findings


def _is_zero(mask: FileFacts) -> bool:
    return not mask.problem and max(mask.values) <= 0


def _images_with_masks(index: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Every image that has masks, with them."""
    columns = zip(index["image"], index["masks"], strict=True)
    return [(image, split_paths(masks)) for image, masks in columns if masks]


def _pairs(index: pd.DataFrame) -> list[tuple[str, str]]:
    """Every (image, mask) of the table."""
    return [(image, mask) for image, masks in _images_with_masks(index) for mask in masks]


# --- on identical bytes


def duplicates(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Identical images in train and test, under both labels, or twice in one place."""
    repeated = index[(index["sha256"] != "") & index.duplicated("sha256", keep=False) & (index["file_size"] > 0)]
    groups = [group for _, group in repeated.groupby("sha256", sort=False)]
    across = [group for group in groups if "test" in set(group["split"]) and set(group["split"]) != {"test"}]
    labels = [group for group in groups if group["label"].nunique() > 1]
    within = [group for group in groups if group.duplicated(["split", "label"]).any()]
    findings = []
    if across:
        test = [group.loc[group["split"] == "test", "image"].iloc[0] for group in across]
        train = across[0].loc[across[0]["split"] != "test", "image"].iloc[0]
        what = f"{len(across)} files are identical in train and test"
        action = "Test results would be invalid: remove one of each"
        findings.append(
            files.finding("DUPLICATE_TRAIN_TEST", what, test, where=f"first: {train} = {test[0]}", action=action)
        )
    if labels:
        what = f"{len(labels)} files are both good and bad"
        where = f"first: {' = '.join(labels[0]['image'])}"
        paths = [path for group in labels for path in group["image"]]
        findings.append(
            files.finding("DUPLICATE_LABEL", what, paths, where=where, action="Remove the wrong one of each")
        )
    if within:
        what = f"{len(within)} files occur twice in one split under one label"
        where = f"first: {' = '.join(within[0]['image'])}"
        paths = [path for group in within for path in group["image"]]
        findings.append(files.finding("DUPLICATE_WITHIN", what, paths, where=where, level="warning"))
    return findings


Check = Callable[[CategoryFiles, "pd.DataFrame", Mapping[str, FileFacts]], list[Finding]]

COMMON_CHECKS: tuple[Check, ...] = (
    name_collision,
    split_empty,
    image_unreadable,
    image_mode,
    image_size,
    mask_missing,
    mask_orphan,
    mask_unreadable,
    mask_size,
    mask_empty,
    mask_on_good,
    mask_values,
    duplicates,
)
"""Checks that hold for every dataset; a reader adds its own findings through ``CategoryFiles.findings``."""


def plain_name(name: str) -> bool:
    """Whether a name from a file can be used as a category: one path component of printable characters."""
    return (
        bool(name)
        and name.isprintable()
        and name not in (".", "..")
        and PurePosixPath(name.replace("\\", "/")).name == name
    )
