"""Index, decode and resize the images of one category."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from shopfloor.catalog.image_stack import LazyStack
from shopfloor.catalog.index import FolderChangedError
from shopfloor.pipelines.lazy_stack import lazy_stack
from shopfloor.readers import DEFAULT_READER, find_root, list_category
from shopfloor.readers.account import ACCOUNT_COLUMNS, COUNT_COLUMNS, check_line, codes_in
from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.checks import check_category
from shopfloor.readers.index_table import changed_files, join_paths, split_paths
from shopfloor.readers.measure import facts_from_table, facts_table, measure, thread_pool
from shopfloor.readers.pixels import read_image, read_mask, resize_mask
from shopfloor.runners.missing import MissingResult

logger = logging.getLogger(__name__)

Settings = dict[str, Any]


def render_parts(settings: Settings, category: str) -> dict[str, np.ndarray]:
    """Render a category of the generated dataset.

    Args:
        settings: The dataset's entry; ``generator`` holds seed, counts and size.
        category: Name of the part.

    Returns:
        Images and masks (H, W[, 3]), uint8, by path relative to the dataset root.
    """
    from shopfloor.generated.render import render_category

    files = render_category(category, **settings["generator"])
    return {f"{category}/{path}": pixels for path, pixels in files.items()}


def measure_files(
    settings: Settings, known_files: pd.DataFrame, folder: Path | None = None, *, dataset: str, category: str
) -> pd.DataFrame:
    """Decode and hash every image and mask of a category; a file that is known by path, size and time stays closed.

    Args:
        settings: The dataset's entry: reader, root, options.
        known_files: This table as an earlier run left it.
        folder: Root of a generated dataset; None to take the root from the entry.
        dataset: Name of the dataset.
        category: Name of the category.

    Returns:
        One line per file, see :class:`~shopfloor.readers.measure.FileFacts`. A damaged file is a line like any other,
        so that nothing is decoded twice while damage is mended.

    Raises:
        DatasetError: The category cannot be listed.
    """
    files, known = _list(settings, folder, dataset, category), facts_from_table(known_files)
    start = time.perf_counter()
    facts = measure(files, known)
    seconds = time.perf_counter() - start
    unchanged = sum(known.get(path) is fact for path, fact in facts.items())
    decoded = len(facts) - unchanged
    logger.info(
        "%s/%s: %d files decoded and hashed in %.1f s (%.0f per second), %d known by path, size and time.",
        *(dataset, category, decoded, seconds, decoded / seconds, unchanged),
    )
    return facts_table(facts)


def index_category(
    settings: Settings, files: pd.DataFrame, folder: Path | None = None, *, dataset: str, category: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check a category and make its index.

    Args:
        settings: The dataset's entry.
        files: What was measured of its files; those that changed since are measured again.
        folder: Root of a generated dataset.
        dataset: Name of the dataset.
        category: Name of the category.

    Returns:
        The index table, and one line on the check: counts found and expected, sizes, warnings.

    Raises:
        DatasetError: A check failed; all findings of the category in one error.
    """
    listed = _list(settings, folder, dataset, category)
    index, warnings = check_category(listed, measure(listed, facts_from_table(files)))
    return index, check_line(index, listed.expected, warnings)


def write_plan(*, plan: dict[str, Any]) -> dict[str, Any]:
    """Which categories the table of datasets is to hold; as a file it tells whether the table is that of this grid."""
    return plan


def account_for_datasets(
    plan: dict[str, Any], *checks: pd.DataFrame | MissingResult, categories: Sequence[dict[str, str]]
) -> pd.DataFrame:
    """One table of all categories: what is there, what should be, what is wrong.

    Args:
        plan: The categories that the table is to hold.
        checks: Line of each category.
        categories: Dataset, category, licence and project page of each.

    Returns:
        One line per category: ``status`` (``passed``, ``failed``, ``missing``), ``codes`` of warnings or errors, counts
        found and expected per split and label, sizes, licence, project page, and ``note`` with the texts. A category
        that could not be read has no counts.
    """
    lines = [
        {**names, "status": check.status, "codes": ", ".join(codes_in(check.reason)), "note": check.reason}
        if isinstance(check, MissingResult)
        else {**names, "status": "passed", **check.iloc[0].to_dict()}
        for names, check in zip(categories, checks, strict=True)
    ]
    return pd.DataFrame(lines, columns=ACCOUNT_COLUMNS).astype(dict.fromkeys(COUNT_COLUMNS, "Int64"))


def check_unchanged(index: pd.DataFrame, settings: Settings, folder: Path | None = None) -> None:
    """Make sure that the files, and what lists say of them, are still what the index was made from.

    The category is listed again, which opens no image, and path, size and time of every indexed file are compared.

    Args:
        index: Index table of one category.
        settings: The dataset's entry.
        folder: Root of a generated dataset.

    Raises:
        FolderChangedError: Files were added, altered or removed, or a list now says something else of them.
        DatasetError: The folder is gone or cannot be listed any more.
    """
    first = index.iloc[0]
    listed = _list(settings, folder, first["dataset"], first["category"])
    changed = set(changed_files(index, dataset_root(settings, folder)))
    columns = ["image", "split", "label", "defect_type", "domain", "masks"]
    known = set(index[columns].itertuples(index=False, name=None))
    found = {
        # the index has no masks of good images
        (s.image, s.split, s.label, s.defect_type, s.domain, join_paths(s.masks) if s.label == "bad" else "")
        for s in listed.samples
    }
    if changed := changed | {image for image, *_ in known ^ found}:
        raise FolderChangedError(index, changed)


def prepare_images(
    index: pd.DataFrame, settings: Settings, folder: Path | None = None, *, image_size: int
) -> LazyStack:
    """Decode every image once and resize it to the model input.

    Args:
        index: Index table of the category.
        settings: The dataset's entry.
        folder: Root of a generated dataset.
        image_size: Side of the result in pixels.

    Returns:
        Images (N, S, S, 3), uint8 RGB, in the order of the index; made while they are saved.
    """
    root = dataset_root(settings, folder)
    paths = [root / image for image in index["image"]]
    _warn_of_enlarged(index, image_size)

    def prepare(row: int) -> np.ndarray:
        return read_image(paths[row], image_size)

    return lazy_stack(
        prepare, len(index), (image_size, image_size, 3), f"{category_title(index)}: images {image_size} px"
    )


def _warn_of_enlarged(index: pd.DataFrame, image_size: int) -> None:
    """Say so when an image is smaller than what is asked for: enlarging adds no detail."""
    small = index[index[["width", "height"]].min(axis=1) < image_size]
    if small.empty:
        return
    first = small.iloc[0]
    logger.warning(
        "[IMAGE_SIZE] %s/%s: %d of %d images are smaller than the %d pixels asked for and are enlarged (first: %s: "
        "%d x %d).",
        *(first["dataset"], first["category"], len(small), len(index), image_size),
        *(first["image"], first["width"], first["height"]),
    )


def prepare_masks(index: pd.DataFrame, settings: Settings, folder: Path | None = None, *, image_size: int) -> LazyStack:
    """Read every mask once and resize it with nearest neighbour; good images have an all-zero mask.

    Args:
        index: Index table of the category.
        settings: The dataset's entry.
        folder: Root of a generated dataset.
        image_size: Side of the result in pixels.

    Returns:
        Masks (N, S, S), uint8, 0 or 1, in the order of the index; made while they are saved.
    """
    root = dataset_root(settings, folder)
    columns = (index["masks"], index["height"], index["width"])
    masks = [([root / path for path in split_paths(names)], (h, w)) for names, h, w in zip(*columns, strict=True)]

    def prepare(row: int) -> np.ndarray:
        files, shape = masks[row]
        return resize_mask(read_mask(files, shape), image_size) if files else np.zeros((image_size,) * 2, np.uint8)

    return lazy_stack(prepare, len(index), (image_size, image_size), f"{category_title(index)}: masks {image_size} px")


def prepare_textures(textures: Settings, *, name: str, image_size: int) -> LazyStack:
    """Decode every texture image once and resize it to the model input, or render generated ones.

    Args:
        textures: The entry of the textures: ``folder``, or ``generator`` with ``seed`` and ``count``.
        name: Name of the entry.
        image_size: Side of the result in pixels.

    Returns:
        Images (M, S, S, 3), uint8 RGB, in the order of their paths; made while they are saved.

    Raises:
        DetectorError: There is no such folder, no image in it, or one that cannot be read.
    """
    from shopfloor.detectors.textures import list_textures, read_texture
    from shopfloor.generated.textures import render_texture

    shape, title = (image_size, image_size, 3), f"{name}: textures {image_size} px"
    if generator := textures.get("generator"):
        seed, count = generator["seed"], generator["count"]
        return lazy_stack(lambda row: render_texture(seed, row, image_size), count, shape, title)
    files = list_textures(textures.get("folder"), name)
    return lazy_stack(lambda row: read_texture(files[row], image_size), len(files), shape, title)


def report_resize(
    index: pd.DataFrame, settings: Settings, folder: Path | None = None, *, image_size: int
) -> pd.DataFrame:
    """Count the images of a category and the defects that vanish in the resize (protocol 2.1).

    Args:
        index: Index table of the category.
        settings: The dataset's entry; title, licence and source are passed on.
        folder: Root of a generated dataset.
        image_size: Side of the model input in pixels.

    Returns:
        One line: counts per split and label, ``empty_masks`` (bad test images whose mask is empty as published),
        ``vanished`` (bad test images whose mask became empty), ``regions`` and ``lost_regions`` (8-connected
        regions of the test masks, and those of which no pixel is left).
    """
    root = dataset_root(settings, folder)
    is_bad = index["label"] == "bad"
    test_bad = index[(index["split"] == "test") & is_bad]
    with_masks = test_bad[test_bad["masks"] != ""]
    with thread_pool() as pool:
        counts = list(pool.map(lambda row: _region_counts(root, row, image_size), with_masks.itertuples()))
    regions, left = np.array(counts, dtype=int).reshape(-1, 2).T
    line = {
        "dataset": index["dataset"].iloc[0],
        "category": index["category"].iloc[0],
        "image_size": image_size,
        "title": settings.get("title", ""),
        "licence": settings.get("licence", ""),
        "source": settings.get("source", ""),
        "generated": "generator" in settings,
        "train_good": int(((index["split"] == "train") & ~is_bad).sum()),
        "test_good": int(((index["split"] == "test") & ~is_bad).sum()),
        "test_bad": len(test_bad),
        "has_pixel_labels": bool(index["has_pixel_labels"].any()),
        "empty_masks": int((regions == 0).sum()),
        "vanished": int(((regions > 0) & (left == 0)).sum()),
        "regions": int(regions.sum()),
        "lost_regions": int((regions - left).sum()),
    }
    return pd.DataFrame([line])


def _region_counts(root: Path, row: Any, image_size: int) -> tuple[int, int]:
    """Defect regions of one image before the resize, and how many of them keep at least one pixel."""
    mask = read_mask([root / path for path in split_paths(row.masks)], (row.height, row.width))
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    left = np.unique(resize_mask(labels, image_size))
    return count - 1, len(left[left > 0])


def _list(settings: Settings, folder: Path | None, dataset: str, category: str) -> CategoryFiles:
    return list_category(
        settings.get("reader", DEFAULT_READER),
        folder or settings.get("root"),
        dataset,
        category,
        settings.get("options"),
        project_page=settings.get("project_page", ""),
    )


def dataset_root(settings: Settings, folder: Path | None) -> Path:
    """Where a dataset lies: the folder that was generated, or the root of its entry."""
    return find_root(settings.get("reader", DEFAULT_READER), folder or settings.get("root"))


def category_title(index: pd.DataFrame) -> str:
    """Dataset and category of an index table, for progress bars."""
    first = index.iloc[0]
    return f"{first['dataset']}/{first['category']}"
