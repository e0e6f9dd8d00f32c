"""Cut the parts of a condition out of a prepared category, and let test images drift.

The splits themselves are pure functions of the index already: see :mod:`shopfloor.perturbations.splits`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL.Image import Image

from shopfloor.catalog.image_stack import ImagePart, LazyStack
from shopfloor.perturbations import drift as drifts
from shopfloor.perturbations.drift_settings import DriftSettings
from shopfloor.pipelines.data_prep.nodes import category_title, dataset_root, mask_of
from shopfloor.pipelines.lazy_stack import lazy_stack
from shopfloor.planning.binding import Sources, SourcesGoneError, reads
from shopfloor.planning.settings import ForegroundSettings
from shopfloor.readers.pixels import read_image, read_mask, resize_image, resize_mask

#: An entry of the parameter files, as Kedro hands it to a node.
Entry = Mapping[str, Any]


def cut_part(stack: np.ndarray, table: pd.DataFrame) -> ImagePart:
    """The images (or masks) that a table names, and nothing else, so that the graph shows who sees what.

    Args:
        stack: Images (M, H, W, 3) or masks (M, H, W) of a whole category, memory-mapped.
        table: Table of one part of a split.

    Returns:
        That part; no pixel is copied.

    Raises:
        DatasetError: Rows of the stack are of other images than the table says.
    """
    part = ImagePart(stack, table)
    part.rows()  # compares
    return part


def list_foreground_files(settings: Entry, foreground: Entry, *, method: str, category: str) -> Sources:
    """List the user's masks, those below the category's folder where there is one, or the weights of MobileSAM."""
    if method not in ("folder", "mobile_sam"):
        return Sources({})
    place = settings.get("foreground_folder") if method == "folder" else foreground.get("mobile_sam")
    root = Path(str(place))
    if not place or not root.exists():
        raise SourcesGoneError(f"What foreground: {method} reads is not there: {place}.")
    if method == "mobile_sam":
        return Sources({"mobile_sam": root})
    below = root / category if (root / category).is_dir() else root
    return Sources({path.relative_to(root).as_posix(): path for path in below.rglob("*") if path.is_file()})


@reads(list_foreground_files)
def find_foreground(
    train_images: ImagePart, settings: Entry, foreground: Entry, *, method: str, category: str
) -> LazyStack:
    """Tell the part from the background in every training image.

    Args:
        train_images: Training images (N, S, S, 3), uint8; no test image is looked at.
        settings: The dataset's entry; ``foreground_folder`` holds the user's masks.
        foreground: Entry of the segmentation: ``mobile_sam``, the file of its weights.
        method: ``folder``, ``automatic`` (GrabCut) or ``mobile_sam``.
        category: Name of the category.

    Returns:
        Masks (N, S, S), uint8, 1 on the part, in the order of the training part; made while they are saved.

    Raises:
        DetectorError: A mask or the weights are missing.
    """
    from shopfloor.detectors.foreground import read_foreground, segmenter

    image_size = train_images.stack.shape[1]
    title = f"{category}: foreground {image_size} px"
    if method == "folder":
        folder, names = settings.get("foreground_folder"), train_images.table["image"].tolist()

        def prepare(row: int) -> np.ndarray:
            return read_foreground(folder, category, names[row], image_size)
    else:
        segment = segmenter(method, ForegroundSettings.model_validate(foreground))

        def prepare(row: int) -> np.ndarray:
            return segment(train_images[row])

    return lazy_stack(prepare, len(train_images), (image_size, image_size), title, train_images.table)


def show_foreground(train_images: ImagePart, foreground: np.ndarray) -> Image:
    """Picture of the foreground found in some training images.

    Args:
        train_images: Training images (N, S, S, 3), uint8.
        foreground: Their foreground (N, S, S), 0 or 1.

    Returns:
        The picture.
    """
    from shopfloor.report.pictures.foreground_preview import draw_foreground

    return draw_foreground(train_images, foreground)


def draw_drift(test: pd.DataFrame, drift: Entry, *, dataset: str, category: str, seed: int) -> pd.DataFrame:
    """Draw transforms and parameters for every test image (protocol 4.3).

    Args:
        test: Table of the test images.
        drift: Entry of the transforms.
        dataset: Name of the dataset.
        category: Name of the category.
        seed: Seed of the draw.

    Returns:
        One line per image, see :func:`shopfloor.perturbations.drift.draw_drift`.
    """
    return drifts.draw_drift(test, DriftSettings.model_validate(drift), dataset, category, seed)


def drift_images(
    index: pd.DataFrame,
    draw: pd.DataFrame,
    drift: Entry,
    settings: Entry,
    folder: Path | None = None,
    *,
    image_size: int,
) -> LazyStack:
    """Let every test image drift as it was drawn, and resize it to the model input.

    Args:
        index: Index table of the category.
        draw: The drawn transforms of the test images.
        drift: Entry of the transforms.
        settings: The dataset's entry.
        folder: Root of a generated dataset.
        image_size: Side of the result in pixels.

    Returns:
        Images (N, S, S, 3), uint8, in the order of the draw.
    """
    root = dataset_root(settings, folder)
    asked = DriftSettings.model_validate(drift)
    at_source = asked.resolution == "source"  # protocol 5, no. 8
    files, parameters = _rows(index, draw), [json.loads(text) for text in draw["parameters"]]

    def prepare(row: int) -> np.ndarray:
        file = files.iloc[row]
        image = read_image(root / file["image"], None if at_source else image_size, sha256=file["sha256"])
        return resize_image(drifts.drift_image(image, parameters[row], asked), image_size)

    title = f"{category_title(index)}: drifted images {image_size} px"
    return lazy_stack(prepare, len(files), (image_size, image_size, 3), title, files)


def _rows(index: pd.DataFrame, draw: pd.DataFrame) -> pd.DataFrame:
    """Lines of the index in the order of the draw."""
    return index.set_index("image", drop=False).loc[draw["image"]].reset_index(drop=True)


def drift_masks(
    index: pd.DataFrame,
    draw: pd.DataFrame,
    drift: Entry,
    settings: Entry,
    folder: Path | None = None,
    *,
    image_size: int,
) -> LazyStack:
    """Let every mask follow the geometry of its image; arguments as of :func:`drift_images`.

    Returns:
        Masks (N, S, S), uint8, 0 or 1, in the order of the draw.
    """
    root = dataset_root(settings, folder)
    asked = DriftSettings.model_validate(drift)
    at_source = asked.resolution == "source"
    parameters = [json.loads(text) for text in draw["parameters"]]
    rows = _rows(index, draw)
    masks = [mask_of(row, root) for row in rows.itertuples()]

    def prepare(row: int) -> np.ndarray:
        if not masks[row]["paths"]:
            return np.zeros((image_size, image_size), np.uint8)
        mask = read_mask(**masks[row])
        mask = mask if at_source else resize_mask(mask, image_size)
        return resize_mask(drifts.drift_mask(mask, parameters[row], asked), image_size)

    title = f"{category_title(index)}: drifted masks {image_size} px"
    return lazy_stack(prepare, len(masks), (image_size, image_size), title, rows)


def cut_drifted(stack: np.ndarray, test: pd.DataFrame) -> ImagePart:
    """The drifted images (or masks) as a part of their own.

    Args:
        stack: Drifted images (N, S, S, 3) or masks (N, S, S), memory-mapped.
        test: Table of the test images, in the same order.

    Returns:
        The part; its rows are those of the drifted stack.
    """
    return cut_part(stack, test.assign(row=range(len(test))))


def report_drift(draw: pd.DataFrame, test_masks: ImagePart, drifted_masks: ImagePart) -> pd.DataFrame:
    """Count the transforms that were drawn, and the defects that left the picture.

    Args:
        draw: The drawn transforms.
        test_masks: Masks (N, S, S) of the test images as they are.
        drifted_masks: Masks of the drifted ones.

    Returns:
        One line per transform: ``transform``, ``images`` (how many it was drawn for), and of these ``emptied``: bad
        images whose mask had defect pixels before and has none after. They stay bad images (protocol 4.3).
    """
    marked = np.array([mask.any() for mask in test_masks])
    left = np.array([mask.any() for mask in drifted_masks])
    emptied = draw.loc[marked & ~left, "transforms"].str.split(" + ", regex=False).explode().value_counts()
    drawn = draw["transforms"].str.split(" + ", regex=False).explode().value_counts()
    table = pd.DataFrame({"images": drawn, "emptied": emptied}).fillna(0).astype(int)
    return table.rename_axis("transform").reset_index().astype({"transform": str})


def show_drift(
    index: pd.DataFrame, draw: pd.DataFrame, drift: Entry, settings: Entry, folder: Path | None = None
) -> Image:
    """Gallery of the transforms: one bad test image as it is and after each of them alone (paper, Figure 5).

    Args:
        index: Index table of the category.
        draw: The drawn transforms; where the shown image has its place and seed from.
        drift: Entry of the transforms.
        settings: The dataset's entry.
        folder: Root of a generated dataset.

    Returns:
        The picture.
    """
    from shopfloor.report.pictures.drift_gallery import draw_gallery

    labels = index.set_index("image")["label"]
    bad = [image for image in draw["image"] if labels[image] == "bad"]
    image = read_image(dataset_root(settings, folder) / bad[0])
    return draw_gallery(image, DriftSettings.model_validate(drift), name=bad[0])
