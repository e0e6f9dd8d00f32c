"""A CSV that lists the images of a dataset whose folders do not say what is in them.

``<root>/manifest.csv`` with the columns image, split, label and optionally mask, defect_type, domain, category;
``split`` is train, val or test, ``label`` is good or bad, paths are relative to the CSV, several masks are joined by
``;``. Without the column ``category`` the one category is the root's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.findings import DatasetError, Finding
from shopfloor.readers.index_table import split_paths
from shopfloor.readers.layout_checks import ignored_files, missing_files, split_file_invalid, unlisted_files
from shopfloor.readers.listing import files_below
from shopfloor.readers.split_file import Row, SplitFileError, list_samples, path_inside, read_rows
from shopfloor.readers.types import Sample

MANIFEST = "manifest.csv"
_REQUIRED = ("image", "split", "label")
_OPTIONAL = ("mask", "defect_type", "domain", "category")
_COLUMNS = "columns image, split, label and optionally mask, defect_type, domain, category"


def find_manifest(root: Path, manifest: str | None) -> str | None:
    """The manifest to use, relative to the root, if any; one that is asked for must exist.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``.
    """
    if manifest is None:
        return MANIFEST if (root / MANIFEST).is_file() else None
    try:
        path = path_inside(root, root, manifest)
        if not (root / path).is_file():
            raise ValueError("the file does not exist")
    except ValueError as error:
        raise DatasetError(*split_file_invalid("", "", manifest, [(1, str(error))], _COLUMNS)) from error
    return path


def manifest_categories(root: Path, source: str) -> list[str]:
    """Names in the column ``category``, or the root's name.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``.
    """
    return sorted({_category_of(row, root) for row in _rows(root, source)}) or [root.resolve().name]


def list_manifest(root: Path, dataset: str, category: str, source: str) -> CategoryFiles:
    """List the images of one category.

    Args:
        root, dataset, category: As a reader's ``list_files`` gets them.
        source: The manifest, relative to the root.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``: the manifest cannot be read at all.
    """
    rows, folder = _rows(root, source), (root / source).parent
    own = [row for row in rows if _category_of(row, root) == category]
    listed = list_samples(own, lambda row: _sample(row, root, folder))
    missing = missing_files(dataset, category, root, listed.lines, source)
    return CategoryFiles(
        root,
        dataset,
        category,
        listed.without(path for finding in missing for path in finding.paths),
        has_pixel_labels=any(sample.masks for sample in listed.samples.values()),
        allows_bad_in_train=True,
        expected_mask=lambda image: f"a path in column mask, {source} line {listed.lines[image]}",
        findings=(
            *split_file_invalid(dataset, category, source, listed.problems, _COLUMNS),
            *missing,
            *_unlisted(root, dataset, category, source, rows),
        ),
    )


def _sample(row: Row, root: Path, folder: Path) -> Sample:
    """The sample of one row.

    Raises:
        ValueError: Unknown value or a path that leaves the root; the text is the reason.
    """
    if row["split"] not in ("train", "val", "test"):
        raise ValueError(f"split {row['split']!r} is none of train, val, test")
    if row["label"] not in ("good", "bad"):
        raise ValueError(f"label {row['label']!r} is neither good nor bad")
    defect_type = row["defect_type"] or row["label"]
    if (defect_type == "good") != (row["label"] == "good"):
        raise ValueError(f"defect_type {defect_type!r} contradicts label {row['label']!r}")
    image = path_inside(root, folder, row["image"])
    masks = tuple(path_inside(root, folder, mask.strip()) for mask in split_paths(row["mask"]))
    return Sample(row["split"], row["label"], defect_type, image, masks, row["domain"])


def _unlisted(root: Path, dataset: str, category: str, source: str, rows: Sequence[Row]) -> list[Finding]:
    """Images near the manifest that no row of any category names, be it as image or as mask, and other files."""
    folder, named = (root / source).parent, set()
    for row in rows:
        for value in (row["image"], *split_paths(row["mask"])):
            try:
                named.add(path_inside(root, folder, value.strip()))
            except ValueError:
                continue  # reported with its row
    on_disk, others = files_below(root, folder)
    return [*unlisted_files(dataset, category, on_disk, named, source), *ignored_files(dataset, category, others)]


def _rows(root: Path, source: str) -> list[Row]:
    """Rows of the manifest, each with a category that can be used as a name."""
    try:
        rows = read_rows(root / source, _REQUIRED, _OPTIONAL)
    except SplitFileError as error:
        raise DatasetError(*split_file_invalid("", "", source, [(error.line, error.reason)], _COLUMNS)) from error
    wrong = [
        (row.line, f"category {row['category']!r} is not a plain name")
        for row in rows
        if "category" in row.cells and not _is_plain_name(row["category"])
    ]
    if wrong:
        raise DatasetError(*split_file_invalid("", "", source, wrong, _COLUMNS))
    return rows


def _category_of(row: Row, root: Path) -> str:
    return row.cells.get("category", root.resolve().name)


def _is_plain_name(name: str) -> bool:
    """Whether a name from a file can be used as a category: one path component of printable characters."""
    plain = PurePosixPath(name.replace("\\", "/")).name == name
    return bool(name) and name.isprintable() and name not in (".", "..") and plain
