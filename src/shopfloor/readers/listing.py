"""Files on disk: which are images, which are passed over, which mask belongs to which image."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shopfloor.readers.index_table import byte_order

IMAGE_EXTENSIONS = (".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_PASSED_OVER_NAMES = {"thumbs.db", "desktop.ini", "__macosx"}
_PASSED_OVER_EXTENSIONS = (".txt", ".md", ".csv", ".json", ".yaml")


@dataclass(frozen=True)
class Folder:
    """Content of one folder by kind, every list of names in byte order."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def is_passed_over(name: str) -> bool:
    """Whether a file is hidden, a by-product of an operating system, or a text beside the images."""
    lower = name.lower()
    return lower.startswith(".") or lower in _PASSED_OVER_NAMES or lower.endswith(_PASSED_OVER_EXTENSIONS)


def is_image(name: str) -> bool:
    """Whether the extension, in any case, is that of an accepted image format."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def list_folder(folder: Path) -> Folder:
    """List a folder without opening its files; a missing folder is an empty one.

    Args:
        folder: The folder, not followed into its subfolders.

    Returns:
        Names of images, of subfolders and of files that are neither; hidden and text files are passed over.
    """
    content = Folder()
    if not folder.is_dir():
        return content
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_passed_over(entry.name):
                continue
            if _is_dir(entry):
                content.folders.append(entry.name)
            elif is_image(entry.name):
                content.images.append(entry.name)
            else:
                content.unknown.append(entry.name)
    for names in (content.images, content.folders, content.unknown):
        names.sort(key=byte_order)
    return content


def folders_with(root: Path, *inside: str, need: Callable[[Iterable[bool]], bool] = any) -> dict[str, str]:
    """The folders of a root by name, relative to it: those that have ``any`` (or ``all``) of some folders in them."""
    folders = list_folder(root).folders
    return {name: name for name in folders if need((root / name / each).is_dir() for each in inside)}


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def files_below(root: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Name the files below a folder, at any depth, as paths relative to the root.

    Returns:
        Images, and files that are neither images nor passed over; both in byte order.
    """
    images: list[str] = []
    unknown: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_passed_over(name)]
        for name in names:
            if not is_passed_over(name):
                (images if is_image(name) else unknown).append((Path(parent) / name).relative_to(root).as_posix())
    return sorted(images, key=byte_order), sorted(unknown, key=byte_order)


def stem_key(path: str) -> tuple[str, str]:
    """Folder and stem: ``test/ko/0000.bmp`` gives ``("test/ko", "0000")``."""
    posix = PurePosixPath(path)
    return posix.parent.as_posix(), posix.stem


@dataclass(frozen=True)
class Pairing:
    """Result of pairing images with masks.

    Attributes:
        masks: Masks of each image by its path; images without a mask are absent.
        orphans: Masks that belong to no image.
        ambiguous: Masks that fit two images, or share folder and stem with another mask.
    """

    masks: dict[str, tuple[str, ...]]
    orphans: tuple[str, ...]
    ambiguous: tuple[str, ...]


def pair_masks(
    images: Sequence[str], masks: Iterable[str], mask_stems: Mapping[str, Sequence[tuple[str, str]]]
) -> Pairing:
    """Pair images with masks by exact names, never by position.

    Args:
        images: Paths of the images.
        masks: Paths of all mask files of the category.
        mask_stems: For each image the (folder, stem) pairs at which its mask may lie, best first; the first
            pair with a file wins. A pair with the stem ``*`` takes every mask of the folder.

    Returns:
        The pairs, and the masks that could not be paired.
    """
    by_stem: dict[tuple[str, str], list[str]] = defaultdict(list)
    by_folder: dict[tuple[str, str], list[str]] = defaultdict(list)
    for mask in sorted(masks, key=byte_order):
        folder, stem = stem_key(mask)
        by_stem[folder, stem].append(mask)
        by_folder[folder, "*"].append(mask)

    pairs: dict[str, tuple[str, ...]] = {}
    owners: dict[str, int] = defaultdict(int)
    ambiguous: set[str] = set()
    for image in images:
        for place in mask_stems[image]:
            found = (by_folder if place[1] == "*" else by_stem).get(place, [])
            if found:
                pairs[image] = tuple(found)
                for mask in found:
                    owners[mask] += 1
                if place[1] != "*" and len(found) > 1:
                    ambiguous.update(found)
                break
    ambiguous.update(mask for mask, owned in owners.items() if owned > 1)
    orphans = [mask for found in by_stem.values() for mask in found if mask not in owners]
    return Pairing(pairs, tuple(sorted(orphans, key=byte_order)), tuple(sorted(ambiguous, key=byte_order)))
