"""Checks of how images are named, split, labelled and counted, and of copies among them."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.findings import Finding
from shopfloor.readers.index_table import SEPARATOR
from shopfloor.readers.listing import IMAGE_EXTENSIONS, stem_key
from shopfloor.readers.types import FileFacts

if TYPE_CHECKING:
    import pandas as pd

# --- on names


def with_usable_names(files: CategoryFiles) -> CategoryFiles:
    """Set paths aside that the index table cannot hold: with ``;``, control or undecodable characters.

    Returns:
        The category without them, and with the finding ``NAME_INVALID`` that names them.
    """
    usable = [sample for sample in files.samples if all(map(_fits_table, (sample.image, *sample.masks)))]
    refused = [path for path in (*files.images, *files.masks) if not _fits_table(path)]
    if not refused:
        return files
    what = f"{len(refused)} paths hold a {SEPARATOR!r}, a control character or bytes that are not text"
    finding = files.finding("NAME_INVALID", what, refused, action="Rename the files")
    orphans = tuple(filter(_fits_table, files.orphan_masks))
    return replace(files, samples=usable, orphan_masks=orphans, findings=(*files.findings, finding))


def _fits_table(path: str) -> bool:
    return SEPARATOR not in path and not any(unicodedata.category(c) in ("Cc", "Cs") for c in path)


def name_collision(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Paths that differ in case or extension only, and masks that fit several images."""
    by_stem = defaultdict(list)
    for image in index["image"]:
        by_stem[stem_key(image.lower())].append(image)
    if colliding := [names for names in by_stem.values() if len(names) > 1]:
        what = f"{len(colliding)} groups of images differ only in case or extension, so masks are ambiguous"
        paths = [path for names in colliding for path in names]
        where = f"first: {' and '.join(colliding[0])}"
        yield files.finding("NAME_COLLISION", what, paths, where=where, action="Keep one file of each")
    if files.ambiguous_masks:
        what = f"{len(files.ambiguous_masks)} masks fit several images, or several masks one image"
        yield files.finding("NAME_COLLISION", what, files.ambiguous_masks, action="Rename the masks")


# --- on the split


def split_empty(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Good images in train, good and bad images in test; a missing folder has its own finding."""
    for split, label in (("train", "good"), ("test", "good"), ("test", "bad")):
        folder = files.folders.get((split, label))
        missing = any(f.code == "FOLDER_MISSING" and f.paths == (folder,) for f in files.findings)
        if missing or ((index["split"] == split) & (index["label"] == label)).any():
            continue
        extensions = ", ".join(extension.lstrip(".") for extension in IMAGE_EXTENSIONS)
        others = [
            p for f in files.findings if f.code == "FILE_IGNORED" for p in f.paths if folder and p.startswith(folder)
        ]
        ignored = f"{len(others)} files with other extensions were ignored"
        where = f"{folder or 'no row'}; accepted extensions {extensions}; {ignored}"
        action = "Add images or correct the split"
        yield files.finding("SPLIT_EMPTY", f"no {label} image in {split}", others, where=where, action=action)


def bad_in_train(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Bad images in the training list of a dataset that has none there."""
    bad = index.loc[(index["split"] == "train") & (index["label"] == "bad"), "image"].tolist()
    if bad and not files.allows_bad_in_train:
        what = f"{len(bad)} bad images in the training list of a one-class run"
        yield files.finding("BAD_IN_TRAIN", what, bad, action="Remove them from the training part")


def count_mismatch(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Numbers of images that differ from the published ones."""
    found = index.groupby(["split", "label"]).size().to_dict()
    counts = {
        f"{split} {label}": (found.get((split, label), 0), n) for (split, label), n in files.expected.counts.items()
    }
    if files.expected.defects is not None:
        bad = index[(index["split"] == "test") & (index["label"] == "bad")]
        types = Counter(bad["defect_type"])
        for name in sorted({*types, *files.expected.defects}):
            counts[f"defect {name}"] = (types[name], files.expected.defects.get(name, 0))
    wrong = [f"{what}: {n} found, {expected} expected" for what, (n, expected) in counts.items() if n != expected]
    if wrong:
        what = f"{len(wrong)} of {len(counts)} numbers of images are not {files.expected.source}"
        action = "Unpack the archive again, or compare with the project page if it holds a newer release"
        level: Literal["error", "warning"] = "error" if files.strict_counts else "warning"
        yield files.finding("COUNT_MISMATCH", what, where="; ".join(wrong), action=action, level=level)


# --- on identical bytes


def duplicates(files: CategoryFiles, index: pd.DataFrame, _facts: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Identical images in train and test, under both labels, or twice in one place."""
    repeated = index[(index["sha256"] != "") & index.duplicated("sha256", keep=False) & (index["file_size"] > 0)]
    groups = [group for _, group in repeated.groupby("sha256", sort=False)]
    across = [group for group in groups if "test" in set(group["split"]) and set(group["split"]) != {"test"}]
    labels = [group for group in groups if group["label"].nunique() > 1]
    within = [group for group in groups if group.duplicated(["split", "label"]).any()]
    if across:
        test = [group.loc[group["split"] == "test", "image"].iloc[0] for group in across]
        train = across[0].loc[across[0]["split"] != "test", "image"].iloc[0]
        what = f"{len(across)} files are identical in train and test"
        action = "Test results would be invalid: remove one of each"
        yield files.finding("DUPLICATE_TRAIN_TEST", what, test, where=f"first: {train} = {test[0]}", action=action)
    if labels:
        what = f"{len(labels)} files are both good and bad"
        where = f"first: {' = '.join(labels[0]['image'])}"
        paths = [path for group in labels for path in group["image"]]
        yield files.finding("DUPLICATE_LABEL", what, paths, where=where, action="Remove the wrong one of each")
    if within:
        what = f"{len(within)} files occur twice in one split under one label"
        where = f"first: {' = '.join(within[0]['image'])}"
        paths = [path for group in within for path in group["image"]]
        yield files.finding("DUPLICATE_WITHIN", what, paths, where=where, level="warning")
