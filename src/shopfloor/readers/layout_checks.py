"""Checks of what a reader finds before any file is opened: folders, categories, lists of files.

``dataset`` and ``category`` are their names, for the text; either may be empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from shopfloor.readers.findings import SHOWN_PATHS, DatasetError, Finding
from shopfloor.readers.index_table import byte_order


def require_root(dataset: str, root: Path, project_page: str = "") -> None:
    """Refuse a root that is not a readable folder.

    Raises:
        DatasetError: ``ROOT_MISSING``.
    """
    if root.is_dir() and os.access(root, os.R_OK | os.X_OK):
        return
    action = "Set the path in the configuration"
    if project_page:
        action = f"Download the dataset from {project_page} and set the path in the configuration"
    if not root.exists():
        what = f"folder {root} does not exist"
    elif not root.is_dir():
        what = f"{root} is not a folder"
    else:
        what, action = f"folder {root} is not readable", "Change its permissions"
    raise DatasetError(Finding("ROOT_MISSING", dataset, "", what, action=action))


def layout_unknown(dataset: str, root: Path, expected: str, right: Path | None = None) -> Finding:
    """The root exists but holds something else; ``right`` is the folder that would fit, if there is one."""
    listed = sorted((entry.name for entry in root.iterdir() if not entry.name.startswith(".")), key=byte_order)
    found = ", ".join(listed[:SHOWN_PATHS]) + (", ..." if len(listed) > SHOWN_PATHS else "")
    what = f"{root} does not look like {dataset or 'a dataset of this layout'}"
    where = f"expected {expected}; found {found or 'an empty folder'}"
    action = f"{right} looks right: use that path" if right else "Set the root to the folder that has this layout"
    return Finding("LAYOUT_UNKNOWN", dataset, "", what, where, action)


def require_category(dataset: str, category: str, available: Mapping[str, str]) -> None:
    """Refuse a category that the root does not hold.

    Args:
        dataset, category: What is asked for.
        available: Folder of each category; named where it is not called like the category.

    Raises:
        DatasetError: ``CATEGORY_MISSING``.
    """
    if category in available:
        return
    names = [name if name == place else f"{name} ({place})" for name, place in available.items()]
    what, where = f"category {category} not found", f"available: {', '.join(names) or 'none'}"
    action = "Correct the configuration, or download this category"
    raise DatasetError(Finding("CATEGORY_MISSING", dataset, "", what, where, action))


def missing_folders(dataset: str, category: str, root: Path, folders: Iterable[str], needed_by: str) -> list[Finding]:
    """``FOLDER_MISSING`` for every required folder (relative to the root) that does not exist."""
    return [
        Finding(
            "FOLDER_MISSING",
            dataset,
            category,
            f"required folder {folder} is missing; {needed_by} needs it",
            action="Unpack the archive again or correct the folder's name",
            paths=(folder,),
        )
        for folder in folders
        if not (root / folder).is_dir()
    ]


def missing_files(
    dataset: str, category: str, root: Path, named: Mapping[str, int], source: str, unit: str = "line"
) -> list[Finding]:
    """``FILE_MISSING`` for the files that a split file names.

    Args:
        dataset, category, root: Where the files are.
        named: Line in the split file of each file, by path relative to the root.
        source: Name of the split file.
        unit: What the numbers count.

    Returns:
        One finding, or none.
    """
    missing = [path for path in named if not _is_file(root / path)]
    if not missing:
        return []
    what = f"{len(missing)} of {len(named)} files named in {source} do not exist"
    where = f"first: {missing[0]}, {unit} {named[missing[0]]}"
    action = "Unpack the archive again or remove the lines"
    return [Finding("FILE_MISSING", dataset, category, what, where, action, tuple(missing))]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False


def unlisted_files(
    dataset: str, category: str, on_disk: Iterable[str], named: Iterable[str], source: str
) -> list[Finding]:
    """``FILE_UNLISTED`` for images on disk that no row of a split file names."""
    unlisted = tuple(sorted(set(on_disk) - set(named), key=byte_order))
    if not unlisted:
        return []
    what = f"{len(unlisted)} images on disk are not named in {source} and stay unused"
    where = f"first: {unlisted[0]}"
    return [Finding("FILE_UNLISTED", dataset, category, what, where, "", unlisted, "warning")]


def ignored_files(dataset: str, category: str, ignored: Sequence[str]) -> list[Finding]:
    """``FILE_IGNORED``: files and folders that have no place in the layout."""
    if not ignored:
        return []
    what = f"{len(ignored)} files or folders have no place in the layout and stay unused"
    return [Finding("FILE_IGNORED", dataset, category, what, f"first: {ignored[0]}", "", tuple(ignored), "warning")]


def split_file_invalid(
    dataset: str, category: str, source: str, problems: Sequence[tuple[int, str]], expected: str, unit: str = "line"
) -> list[Finding]:
    """``SPLITFILE_INVALID``: one finding for all that is wrong with a file.

    Args:
        dataset, category: What the file is of.
        source: Name of the split file.
        problems: Line number and reason of each; none gives no finding.
        expected: What the file must have, e.g. ``columns image, split, label``.
        unit: What the numbers count: ``line``, or ``entry`` of a JSON list.

    Returns:
        One finding, or none.
    """
    if not problems:
        return []
    (number, reason), *others = problems
    more = f", {len(others)} more from {unit} {others[0][0]}" if others else ""
    what = f"{source}, {unit} {number}: {reason}"
    paths = tuple(f"{source}:{number}" for number, _ in problems)
    where = f"expected {expected}{more}"
    return [Finding("SPLITFILE_INVALID", dataset, category, what, where, "Correct the file or unpack it again", paths)]
