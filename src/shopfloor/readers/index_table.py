"""The index table: one row per image of a category, the only thing the rest of the code sees of a dataset.

| column | content |
|---|---|
| dataset, category | names as configured |
| split | train, val or test |
| label, defect_type | good or bad; the defect's name, ``good`` for good images |
| domain | recording condition, empty where a dataset has none |
| image | path relative to the dataset root, with ``/``; identifies the sample |
| masks | paths of its masks joined by ``;``, empty for none |
| width, height | pixels |
| has_pixel_labels | whether the category comes with masks |
| sha256, file_size, modified_ns | of the image: digest, bytes, modification time in nanoseconds |
| mask_sha256, mask_file_size, mask_modified_ns | of each mask in the order of ``masks``, joined by ``;`` |

Rows are sorted by ``image`` in byte order, so that a seed means the same split on every file system.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from shopfloor.readers.measure import FileFacts

SEPARATOR = ";"

INDEX_DTYPES: dict[str, str] = {
    "dataset": "str",
    "category": "str",
    "split": "str",
    "label": "str",
    "defect_type": "str",
    "domain": "str",
    "image": "str",
    "masks": "str",
    "width": "int64",
    "height": "int64",
    "has_pixel_labels": "bool",
    "sha256": "str",
    "file_size": "int64",
    "modified_ns": "int64",
    "mask_sha256": "str",
    "mask_file_size": "str",
    "mask_modified_ns": "str",
}

READ_ARGUMENTS: dict[str, Any] = {"dtype": INDEX_DTYPES, "keep_default_na": False}
"""Arguments of ``pandas.read_csv`` that give the table back as written: "NA" and "007" stay strings."""


@dataclass(frozen=True)
class Sample:
    """One image as a reader lists it, before anything is decoded; paths are relative to the dataset root."""

    split: str
    label: str
    defect_type: str
    image: str
    masks: tuple[str, ...] = ()
    domain: str = ""


def byte_order(path: str) -> bytes:
    """Sort key that gives the same order of names on every system."""
    return os.fsencode(path)


def join_paths(paths: Iterable[str]) -> str:
    """Join paths for the column ``masks``."""
    return SEPARATOR.join(paths)


def split_paths(cell: str) -> list[str]:
    """Split a cell of the column ``masks`` (or of one of the ``mask_...`` columns) into its parts."""
    return cell.split(SEPARATOR) if cell else []


def build_index(
    dataset: str,
    category: str,
    samples: Sequence[Sample],
    has_pixel_labels: bool,
    facts: Mapping[str, FileFacts],
) -> pd.DataFrame:
    """Build the index table of one category.

    Args:
        dataset: Name of the dataset.
        category: Name of the category.
        samples: Its images, in any order.
        has_pixel_labels: Whether the category comes with masks.
        facts: What was measured of every image and mask, by relative path.

    Returns:
        One row per sample with the columns and types of ``INDEX_DTYPES``, sorted by ``image`` in byte order.
    """
    import pandas as pd

    rows = []
    for sample in sorted(samples, key=lambda sample: byte_order(sample.image)):
        image, masks = facts[sample.image], [facts[mask] for mask in sample.masks]
        rows.append(
            {
                "dataset": dataset,
                "category": category,
                "split": sample.split,
                "label": sample.label,
                "defect_type": sample.defect_type,
                "domain": sample.domain,
                "image": sample.image,
                "masks": join_paths(sample.masks),
                "width": image.width,
                "height": image.height,
                "has_pixel_labels": has_pixel_labels,
                "sha256": image.sha256,
                "file_size": image.file_size,
                "modified_ns": image.modified_ns,
                "mask_sha256": join_paths(mask.sha256 for mask in masks),
                "mask_file_size": join_paths(str(mask.file_size) for mask in masks),
                "mask_modified_ns": join_paths(str(mask.modified_ns) for mask in masks),
            }
        )
    return pd.DataFrame(rows, columns=list(INDEX_DTYPES)).astype(INDEX_DTYPES)


def changed_files(index: pd.DataFrame, root: Path) -> list[str]:
    """Name the images and masks that are no longer what the index was made from.

    Size and modification time are compared. Only where the size is the same and the time is not, as after a
    copy of the folder, the content is read and its SHA-256 decides. Files added since are not seen: they are
    in no row.

    Args:
        index: Index table of one or several categories of one dataset.
        root: The dataset root now.

    Returns:
        Relative paths of missing and changed files in byte order; empty when nothing changed.
    """
    known: dict[str, tuple[int, int, str]] = {}
    for row in index.to_dict("records"):
        known[row["image"]] = (row["file_size"], row["modified_ns"], row["sha256"])
        columns = ("masks", "mask_file_size", "mask_modified_ns", "mask_sha256")
        masks = zip(*(split_paths(row[column]) for column in columns), strict=True)
        known.update({path: (int(size), int(modified), digest) for path, size, modified, digest in masks})
    return sorted((path for path, facts in known.items() if _changed(root / path, *facts)), key=byte_order)


def _changed(path: Path, file_size: int, modified_ns: int, sha256: str) -> bool:
    try:
        status = path.stat()
        if status.st_size != file_size:
            return True
        if status.st_mtime_ns == modified_ns:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() != sha256
    except OSError:
        return True
