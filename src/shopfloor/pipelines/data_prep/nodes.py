"""Index, decode and resize the images of one category."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pandas as pd

from shopfloor.catalog.image_stack import LazyStack
from shopfloor.catalog.result_table import typed
from shopfloor.pipelines.lazy_stack import lazy_stack
from shopfloor.planning.binding import Sources, SourcesGoneError, reads
from shopfloor.planning.settings import DatasetSettings, TextureSettings
from shopfloor.readers import DatasetError, find_root, list_category
from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.checks import check_category
from shopfloor.readers.index_table import join_paths, split_paths
from shopfloor.readers.measure import facts_from_table, facts_table, measure, thread_pool
from shopfloor.readers.pixels import read_image, read_mask, resize_mask
from shopfloor.readers.summary import SUMMARY_COLUMNS, check_line, codes_in
from shopfloor.runners.missing import MissingResult

logger = logging.getLogger(__name__)

#: An entry of the parameter files, as Kedro hands it to a node.
Entry = Mapping[str, Any]


def render_parts(settings: Entry, category: str) -> dict[str, np.ndarray]:
    """Render a category of the generated dataset.

    Args:
        settings: The dataset's entry; ``generator`` holds seed, counts and size.
        category: Name of the part.

    Returns:
        Images and masks (H, W[, 3]), uint8, by path relative to the dataset root.
    """
    from shopfloor.synthetic_parts.render import render_category

    files = render_category(category, **settings["generator"])
    return {f"{category}/{path}": pixels for path, pixels in files.items()}


def list_photos(settings: Entry, *, dataset: str, category: str) -> Sources:
    """List the images and masks of a category; those of a generated one are made by the pipeline itself."""
    if settings.get("generator") is not None:
        return Sources({})
    files = _list_if_there(settings, dataset, category)
    return Sources({name: files.root / name for name in (*files.images, *files.masks)})


def list_labels(settings: Entry, *, dataset: str, category: str) -> Sources:
    """List what the folders and lists of a category say of each image: split, label, defect type, domain, masks."""
    if settings.get("generator") is not None:
        return Sources({})
    files = _list_if_there(settings, dataset, category)
    return Sources(
        {},
        {
            each.image: "\t".join(  # which names do not hold, unlike spaces
                # the index has no masks of good images
                (each.split, each.label, each.defect_type, each.domain, join_paths(each.masks) * (each.label == "bad"))
            )
            for each in files.samples
        },
    )


def _list_if_there(settings: Entry, dataset: str, category: str) -> CategoryFiles:
    try:
        return _list(settings, None, dataset, category)
    except DatasetError as error:
        if error.code == "ROOT_MISSING":
            raise SourcesGoneError(error.message) from error
        raise


@reads(list_photos)
def measure_files(
    settings: Entry, folder: Path | None = None, *, dataset: str, category: str
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Hash every image and mask of a category, and decode those whose content is not known from an earlier run.

    Args:
        settings: The dataset's entry: reader, root, options.
        folder: Root of a generated dataset; None to take the root from the entry.
        dataset: Name of the dataset.
        category: Name of the category.

    Returns:
        A function that does it, given the table of an earlier run (empty where there is none). It makes the new table:
        one line per file, see :class:`~shopfloor.readers.types.FileFacts`. A damaged file is a line like any other,
        so that nothing is decoded twice while damage is mended.

    Raises:
        DatasetError: The category cannot be listed.
    """
    files = _list(settings, folder, dataset, category)

    def update(known_files: pd.DataFrame) -> pd.DataFrame:
        known = facts_from_table(known_files)
        start = time.perf_counter()
        facts = measure(files, known)
        seconds = time.perf_counter() - start
        unchanged = sum(known.get(path) is fact for path, fact in facts.items())
        decoded = len(facts) - unchanged
        logger.info(
            "%s/%s: %d files decoded in %.1f s (%.0f per second), the content of %d was known.",
            *(dataset, category, decoded, seconds, decoded / seconds, unchanged),
        )
        return facts_table(facts)

    return update


@reads(list_labels)
def index_category(
    settings: Entry, files: pd.DataFrame, folder: Path | None = None, *, dataset: str, category: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check a category and make its index.

    Args:
        settings: The dataset's entry.
        files: What was measured of its files.
        folder: Root of a generated dataset.
        dataset: Name of the dataset.
        category: Name of the category.

    Returns:
        The index table, and one line on the check: counts found and expected, sizes, warnings.

    Raises:
        DatasetError: A check failed; all findings of the category in one error.
    """
    listed, facts = _list(settings, folder, dataset, category), facts_from_table(files)
    if new := {*listed.images, *listed.masks} - set(facts):
        raise click.ClickException(
            f"{dataset}/{category}: {len(new)} files were added while the category was checked (first: {min(new)}). "
            "Run again with --only-missing-outputs when nobody writes there."
        )
    index, warnings = check_category(listed, facts)
    return index, check_line(index, listed.expected, warnings)


def summarise_datasets(*checks: pd.DataFrame | MissingResult, categories: Sequence[dict[str, str]]) -> pd.DataFrame:
    """One table of all categories: what is there, what should be, what is wrong.

    Args:
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
    return typed(pd.DataFrame(lines, columns=SUMMARY_COLUMNS))


def prepare_images(index: pd.DataFrame, settings: Entry, folder: Path | None = None, *, image_size: int) -> LazyStack:
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
    files = [(root / image, sha256) for image, sha256 in zip(index["image"], index["sha256"], strict=True)]
    _warn_of_enlarged(index, image_size)

    def prepare(row: int) -> np.ndarray:
        path, sha256 = files[row]
        return read_image(path, image_size, sha256=sha256)

    title = f"{category_title(index)}: images {image_size} px"
    return lazy_stack(prepare, len(index), (image_size, image_size, 3), title, index)


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


def prepare_masks(index: pd.DataFrame, settings: Entry, folder: Path | None = None, *, image_size: int) -> LazyStack:
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
    masks = [mask_of(row, root) for row in index.itertuples()]

    def prepare(row: int) -> np.ndarray:
        mask = masks[row]
        return resize_mask(read_mask(**mask), image_size) if mask["paths"] else np.zeros((image_size,) * 2, np.uint8)

    title = f"{category_title(index)}: masks {image_size} px"
    return lazy_stack(prepare, len(index), (image_size, image_size), title, index)


def mask_of(row: Any, root: Path) -> dict[str, Any]:
    """Arguments of :func:`~shopfloor.readers.pixels.read_mask` for an image of the index."""
    return {
        "paths": [root / path for path in split_paths(row.masks)],
        "shape": (row.height, row.width),
        "sha256": split_paths(row.mask_sha256),
    }


def list_texture_files(textures: Entry, *, name: str, image_size: int, crop: bool = False) -> Sources:
    """List the texture images of an entry; generated ones are none."""
    from shopfloor.detectors.textures import list_textures

    asked = TextureSettings.model_validate(textures)
    if asked.generator:
        return Sources({})
    folder = asked.folder
    if not folder or not Path(folder).is_dir():
        raise SourcesGoneError(f"textures.{name}.folder: there is no folder {str(folder)!r}.")
    return Sources({path.relative_to(Path(str(folder))).as_posix(): path for path in list_textures(folder, name)})


@reads(list_texture_files)
def prepare_textures(textures: Entry, *, name: str, image_size: int, crop: bool = False) -> LazyStack:
    """Decode every texture image once and bring it to the size of the model input, or render generated ones.

    Args:
        textures: The entry of the textures: ``folder``, or ``generator`` with ``seed`` and ``count``.
        name: Name of the entry.
        image_size: Side of the result in pixels.
        crop: Whether images of a folder keep their aspect ratio and are cropped; otherwise they are squeezed.

    Returns:
        Images (M, S, S, 3), uint8 RGB, in the order of their paths; made while they are saved.

    Raises:
        DetectorError: There is no such folder, no image in it, or one that cannot be read.
    """
    from shopfloor.detectors.textures import list_textures, read_texture
    from shopfloor.synthetic_parts.textures import render_texture

    shape, title = (image_size, image_size, 3), f"{name}: textures {image_size} px"
    asked = TextureSettings.model_validate(textures)
    if generator := asked.generator:
        return lazy_stack(lambda row: render_texture(generator.seed, row, image_size), generator.count, shape, title)
    files = list_textures(asked.folder, name)
    return lazy_stack(lambda row: read_texture(files[row], image_size, crop=crop), len(files), shape, title)


def report_resize(
    index: pd.DataFrame, settings: Entry, folder: Path | None = None, *, image_size: int, told: dict[str, str]
) -> pd.DataFrame:
    """Count the images of a category and the defects that vanish in the resize (protocol 2.1).

    Args:
        index: Index table of the category.
        settings: The dataset's entry.
        folder: Root of a generated dataset.
        image_size: Side of the model input in pixels.
        told: ``title``, ``licence`` and ``source`` of the dataset, which are passed on.

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
        **told,
        "generated": settings.get("generator") is not None,
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
    mask = read_mask(**mask_of(row, root))
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    left = np.unique(resize_mask(labels, image_size))
    return count - 1, len(left[left > 0])


def _list(settings: Entry, folder: Path | None, dataset: str, category: str) -> CategoryFiles:
    asked = DatasetSettings.model_validate(settings)
    root, page = folder or asked.root, asked.project_page or ""
    return list_category(asked.reader, root, dataset, category, asked.options, project_page=page)


def dataset_root(settings: Entry, folder: Path | None) -> Path:
    """Where a dataset lies: the folder that was generated, or the root of its entry."""
    asked = DatasetSettings.model_validate(settings)
    return find_root(asked.reader, folder or asked.root)


def category_title(index: pd.DataFrame) -> str:
    """Dataset and category of an index table, for progress bars."""
    first = index.iloc[0]
    return f"{first['dataset']}/{first['category']}"
