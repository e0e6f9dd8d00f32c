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
| sha256, file_size | of the image: digest, bytes |
| mask_sha256, mask_file_size | of each mask in the order of ``masks``, joined by ``;`` |

Rows are sorted by ``image`` in byte order, so that a seed means the same split on every file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from shopfloor.readers.types import FileFacts, Sample

if TYPE_CHECKING:
    import pandas as pd

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
    "mask_sha256": "str",
    "mask_file_size": "str",
}


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
        dataset, category: Names for the columns.
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
                **vars(sample),
                "dataset": dataset,
                "category": category,
                "masks": join_paths(sample.masks),
                "width": image.width,
                "height": image.height,
                "has_pixel_labels": has_pixel_labels,
                "sha256": image.sha256,
                "file_size": image.file_size,
                "mask_sha256": join_paths(mask.sha256 for mask in masks),
                "mask_file_size": join_paths(str(mask.file_size) for mask in masks),
            }
        )
    return pd.DataFrame(rows, columns=list(INDEX_DTYPES)).astype(INDEX_DTYPES)
