"""Reads data of the user's own: a folder tree like that of MVTec AD, or a CSV manifest.

Tree::

    <root>/<category>/
    ├── train/good/           required
    ├── train/bad/            optional, used by supervised and validation runs
    ├── validation/good|bad/  optional, used when a run asks for it
    ├── test/good/            required
    ├── test/<defect>/        at least one
    └── ground_truth/<defect>/<stem>_mask.<ext> | <stem>.<ext> | <stem>/<any>.<ext>

Masks belong to test images. A category without ``ground_truth`` has no pixel labels. Bad images of train and
validation carry masks only in the manifest form.

Manifest: ``<root>/manifest.csv`` with the columns image, split, label and optionally mask, defect_type,
domain, category; ``split`` is train, val or test, ``label`` is good or bad, paths are relative to the CSV,
several masks are joined by ``;``. Where the file exists it is used instead of the tree. Without the column
``category`` the one category is the root's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shopfloor.readers.checks import CategoryFiles, checked_index, plain_name
from shopfloor.readers.findings import DatasetError, Finding
from shopfloor.readers.index_table import Sample, split_paths
from shopfloor.readers.layout_checks import (
    ignored_files,
    layout_unknown,
    missing_files,
    missing_folders,
    require_category,
    require_root,
    split_file_invalid,
    unlisted_files,
)
from shopfloor.readers.listing import images_below, list_folder, pair_masks, stem_key
from shopfloor.readers.split_file import Row, SplitFileError, path_inside, read_rows

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.csv"
_REQUIRED = ("image", "split", "label")
_OPTIONAL = ("mask", "defect_type", "domain", "category")
_COLUMNS = "image, split, label and optionally mask, defect_type, domain, category"
_EXPECTED = f"<category>/train/good, <category>/test/good, <category>/test/<defect> or {MANIFEST}"
_SOURCE = "the dataset"


def categories(root: Path, *, manifest: str | None = None) -> list[str]:
    """Name the categories of a folder, without opening an image.

    Args:
        root: Dataset root.
        manifest: Manifest relative to the root, for another name than ``manifest.csv``.

    Returns:
        Sorted names.

    Raises:
        DatasetError: ``ROOT_MISSING``, ``LAYOUT_UNKNOWN``, ``SPLITFILE_INVALID``.
    """
    return _categories("", root, manifest)


def read(root: Path, dataset: str, category: str, *, manifest: str | None = None) -> pd.DataFrame:
    """List, decode and check one category.

    Args:
        root: Dataset root.
        dataset: Name of the dataset, for the table and for messages.
        category: One of ``categories(root)``.
        manifest: Manifest relative to the root, for another name than ``manifest.csv``.

    Returns:
        Index table.

    Raises:
        DatasetError: With every error found in the category.
    """
    require_category(dataset, category, _categories(dataset, root, manifest))
    csv = _manifest(dataset, root, manifest)
    files = _list_manifest(root, dataset, category, csv) if csv else _list_tree(root, dataset, category)
    return checked_index(files)


def _categories(dataset: str, root: Path, manifest: str | None) -> list[str]:
    require_root(dataset, root, _SOURCE)
    csv = _manifest(dataset, root, manifest)
    names = _manifest_categories(dataset, root, csv) if csv else _tree_categories(root)
    if not names:
        raise DatasetError(layout_unknown(dataset, root, _EXPECTED, _right_root(root)))
    return names


# --- tree


def _is_category(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _tree_categories(root: Path) -> list[str]:
    if _is_category(root):
        return []
    return [name for name in list_folder(root).folders if _is_category(root / name)]


def _right_root(root: Path) -> Path | None:
    """The folder that was probably meant: above a category or its splits, or below a folder around it."""
    root = root.resolve()
    if _is_category(root):
        return root.parent
    if _is_category(root.parent) and root.name in ("train", "test", "validation", "ground_truth"):
        return root.parent.parent
    return next((root / name for name in list_folder(root).folders if _tree_categories(root / name)), None)


def _list_tree(root: Path, dataset: str, category: str) -> CategoryFiles:
    folders = {("train", "good"): f"{category}/train/good", ("test", "good"): f"{category}/test/good"}
    places = [
        *[("train", "train", label) for label in ("good", "bad")],
        *[("val", "validation", label) for label in ("good", "bad")],
        *[("test", "test", name) for name in list_folder(root / category / "test").folders],
    ]
    samples, ignored = [], _without_place(root, category)
    for split, parent, name in places:
        path = f"{category}/{parent}/{name}"
        content = list_folder(root / path)
        ignored += [f"{path}/{other}" for other in (*content.folders, *content.unknown)]
        label = "good" if name == "good" else "bad"
        samples += [Sample(split, label, name, f"{path}/{image}") for image in content.images]

    images = [sample.image for sample in samples if sample.split == "test"]
    pairing = pair_masks(
        images,
        images_below(root, root / category / "ground_truth"),
        {image: _mask_places(image) for image in images},
    )
    return CategoryFiles(
        root,
        dataset,
        category,
        [_with_masks(sample, pairing.masks.get(sample.image, ())) for sample in samples],
        has_pixel_labels=(root / category / "ground_truth").is_dir(),
        folders={**folders, ("test", "bad"): f"{category}/test/<defect>"},
        orphan_masks=pairing.orphans,
        ambiguous_masks=pairing.ambiguous,
        expected_mask=lambda image: "{}/{}_mask.png".format(*_mask_places(image)[1]),
        findings=(
            *missing_folders(dataset, category, root, folders.values(), "every experiment"),
            *ignored_files(dataset, category, ignored),
        ),
    )


def _without_place(root: Path, category: str) -> list[str]:
    """Folders and files directly below the category or its split folders that the layout does not know."""
    known = {
        category: {"train", "validation", "test", "ground_truth"},
        f"{category}/train": {"good", "bad"},
        f"{category}/validation": {"good", "bad"},
        f"{category}/test": None,
    }
    ignored = []
    for path, names in known.items():
        content = list_folder(root / path)
        ignored += [f"{path}/{name}" for name in (*content.images, *content.unknown)]
        ignored += [f"{path}/{name}" for name in content.folders if names is not None and name not in names]
    return ignored


def _mask_places(image: str) -> list[tuple[str, str]]:
    """Where the mask of a test image may lie, best first, as (folder, stem)."""
    folder, stem = stem_key(image)
    category, _, defect = folder.rsplit("/", 2)
    masks = f"{category}/ground_truth/{defect}"
    return [(masks, f"{stem}_mask"), (masks, stem), (f"{masks}/{stem}", "*")]


def _with_masks(sample: Sample, masks: tuple[str, ...]) -> Sample:
    return Sample(sample.split, sample.label, sample.defect_type, sample.image, masks, sample.domain)


# --- manifest


def _manifest(dataset: str, root: Path, manifest: str | None) -> Path | None:
    """The manifest to use, if any; one that is asked for must exist."""
    if manifest is None:
        return root / MANIFEST if (root / MANIFEST).is_file() else None
    try:
        path = root / path_inside(root, root, manifest)
    except ValueError as error:
        raise DatasetError(*split_file_invalid(dataset, "", manifest, [(1, str(error))], _COLUMNS)) from error
    if not path.is_file():
        raise DatasetError(*split_file_invalid(dataset, "", manifest, [(1, "the file does not exist")], _COLUMNS))
    return path


def _manifest_rows(dataset: str, root: Path, csv: Path) -> list[Row]:
    """Rows of the manifest, each with a category that can be used as a name."""
    source = csv.relative_to(root).as_posix()
    try:
        rows = read_rows(csv, _REQUIRED, _OPTIONAL)
    except SplitFileError as error:
        problems = [(error.line, error.reason)]
        raise DatasetError(*split_file_invalid(dataset, "", source, problems, _COLUMNS)) from error
    wrong = [
        (row.line, f"category {row['category']!r} is not a plain name")
        for row in rows
        if "category" in row.cells and not plain_name(row["category"])
    ]
    if wrong:
        raise DatasetError(*split_file_invalid(dataset, "", source, wrong, _COLUMNS))
    return rows


def _category_of(row: Row, root: Path) -> str:
    return row.cells.get("category", root.resolve().name)


def _manifest_categories(dataset: str, root: Path, csv: Path) -> list[str]:
    rows = _manifest_rows(dataset, root, csv)
    return sorted({_category_of(row, root) for row in rows}) or [root.resolve().name]


def _list_manifest(root: Path, dataset: str, category: str, csv: Path) -> CategoryFiles:
    source = csv.relative_to(root).as_posix()
    rows = _manifest_rows(dataset, root, csv)
    samples: dict[str, Sample] = {}
    named: dict[str, int] = {}
    problems: list[tuple[int, str]] = []
    for row in rows:
        if _category_of(row, root) != category:
            continue
        try:
            sample = _sample(row, root, csv.parent)
            if sample.image in samples:
                raise ValueError(f"{sample.image} occurs a second time, first on line {named[sample.image]}")
        except ValueError as error:
            problems.append((row.line, str(error)))
            continue
        samples[sample.image] = sample
        named |= dict.fromkeys((sample.image, *sample.masks), row.line)

    missing = missing_files(dataset, category, root, named, source)
    absent = {path for finding in missing for path in finding.paths}
    return CategoryFiles(
        root,
        dataset,
        category,
        [sample for sample in samples.values() if absent.isdisjoint((sample.image, *sample.masks))],
        has_pixel_labels=any(sample.masks for sample in samples.values()),
        expected_mask=lambda image: f"a path in column mask, {source} line {named[image]}",
        findings=(
            *split_file_invalid(dataset, category, source, problems, _COLUMNS),
            *missing,
            *_unlisted(root, dataset, category, csv, rows),
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


def _unlisted(root: Path, dataset: str, category: str, csv: Path, rows: Sequence[Row]) -> list[Finding]:
    """Images near the manifest that no row of any category names, be it as image or as mask."""
    named = set()
    for row in rows:
        for value in (row["image"], *split_paths(row["mask"])):
            try:
                named.add(path_inside(root, csv.parent, value.strip()))
            except ValueError:
                continue  # reported with its row
    source = csv.relative_to(root).as_posix()
    return unlisted_files(dataset, category, images_below(root, csv.parent), named, source)
