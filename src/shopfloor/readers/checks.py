"""All checks of a category before anything is trained on it.

A check is a small function over the index table that yields findings. All checks of a category run, then every error
is raised at once. What the checks of a dataset's own layout find comes with the listing, see
:mod:`shopfloor.readers.layout_checks`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from shopfloor.readers import image_checks, mask_checks, split_checks
from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.findings import DatasetError, Finding
from shopfloor.readers.index_table import build_index
from shopfloor.readers.types import FileFacts

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Check = Callable[[CategoryFiles, "pd.DataFrame", Mapping[str, FileFacts]], Iterator[Finding]]

COMMON_CHECKS: tuple[Check, ...] = (
    split_checks.name_collision,
    split_checks.split_empty,
    split_checks.bad_in_train,
    split_checks.count_mismatch,
    image_checks.image_unreadable,
    image_checks.image_mode,
    image_checks.image_size,
    mask_checks.mask_missing,
    mask_checks.mask_orphan,
    mask_checks.mask_unreadable,
    mask_checks.mask_size,
    mask_checks.mask_empty,
    mask_checks.mask_on_good,
    mask_checks.mask_values,
    split_checks.duplicates,
)
"""Checks that hold for every dataset; a reader adds its own findings through ``CategoryFiles.findings``."""


def check_category(files: CategoryFiles, facts: Mapping[str, FileFacts]) -> tuple[pd.DataFrame, list[Finding]]:
    """Run all checks of a category and build its index table.

    Args:
        files: The category as listed.
        facts: What was measured of every image and mask.

    Returns:
        Index table and warnings, which are logged too. Good images have no masks in the table, since an all-zero mask
        on disk says the same.

    Raises:
        DatasetError: With every error found.
    """
    index = build_index(files.dataset, files.category, files.samples, files.has_pixel_labels, facts)
    findings = [*files.findings, *(finding for check in COMMON_CHECKS for finding in check(files, index, facts))]
    warnings = [finding for finding in findings if finding.level == "warning"]
    for warning in warnings:
        logger.warning("%s", warning.text)
    if errors := [finding for finding in findings if finding.level == "error"]:
        raise DatasetError(*errors)
    index.loc[index["label"] == "good", ["masks", "mask_sha256", "mask_file_size"]] = ""
    return index, warnings
