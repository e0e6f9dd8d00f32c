"""Reads VisA: 12 objects, as downloaded with its split CSV or as prepared in the tree of MVTec AD (dataset spec. 4.5).

Tree, as downloaded::

    <root>/split_csv/1cls.csv                           object,split,label,image,mask; paths relative to the root
          /<category>/Data/Images/Normal/0000.JPG
                     /Data/Images/Anomaly/000.JPG
                     /Data/Masks/Anomaly/000.png        class ids from 1 upwards, black in a viewer

Tree, as prepared by the owners' script or by anomalib::

    <root>/visa_pytorch/<category>/ or <root>/VisA_pytorch/1cls/<category>/
          train/good, test/good, test/bad, ground_truth/bad

A prepared copy must have exactly the counts of the CSV: an interrupted one looks whole otherwise. (Zou et al. 2022,
SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and Segmentation; repository
amazon-science/spot-diff. Counts: of the CSV.)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from shopfloor.readers.category_files import UNKNOWN, CategoryFiles, Expected
from shopfloor.readers.findings import DatasetError
from shopfloor.readers.layout_checks import ignored_files, missing_files, split_file_invalid, unlisted_files
from shopfloor.readers.listing import files_below, folders_with
from shopfloor.readers.split_file import Row, SplitFileError, list_samples, path_inside, read_rows
from shopfloor.readers.tree import Tree, list_tree, places_of_test, places_of_train
from shopfloor.readers.types import Sample

CSV = "split_csv/1cls.csv"
PREPARED = ("visa_pytorch", "VisA_pytorch/1cls")
LAYOUT = f"{CSV} and <category>/Data/Images, or {PREPARED[0]}/<category>/train/good"
_COLUMNS = ("object", "split", "label", "image", "mask")

EXPECTED = {
    name: Expected(train_good=train, test_good=test, test_bad=100)
    for name, train, test in (
        ("candle", 900, 100),
        ("capsules", 542, 60),
        ("cashew", 450, 50),
        ("chewinggum", 453, 50),
        ("fryum", 450, 50),
        ("macaroni1", 900, 100),
        ("macaroni2", 900, 100),
        ("pcb1", 904, 100),
        ("pcb2", 901, 100),
        ("pcb3", 905, 101),
        ("pcb4", 904, 101),
        ("pipe_fryum", 450, 50),
    )
}


def categories(root: Path) -> dict[str, str]:
    """Folder of each category; the original files come before a prepared copy beside them."""
    if original := folders_with(root, "Data/Images"):
        return original
    return {name: f"{copy}/{name}" for copy in reversed(PREPARED) for name in folders_with(root / copy, "train")}


def list_files(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    """List one category by the split CSV, or by the folders of a prepared copy.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``: the CSV is missing where it is needed, or cannot be read at all.
    """
    if (root / folder / "Data").is_dir():
        return _list_original(root, dataset, category, folder)
    tree = Tree(
        places=[*places_of_train(root / folder), *places_of_test(root / folder)],
        required=("train/good", "test/good", "test/bad", "ground_truth/bad"),
        mask_folders=("ground_truth",),
        expected=EXPECTED,
    )
    listed = list_tree(root, dataset, category, folder, tree)
    if (root / CSV).is_file():
        counts = Counter((row["split"], row["label"]) for row in _rows(root, dataset) if row["object"] == category)
        expected = Expected(
            train_good=counts["train", "normal"],
            test_good=counts["test", "normal"],
            test_bad=counts["test", "anomaly"],
            source=f"those of {CSV}, as after an interrupted copy",
        )
        listed = replace(listed, expected=expected)
    return replace(listed, strict_counts=True)


def _list_original(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    listed = list_samples([row for row in _rows(root, dataset) if row["object"] == category], partial(_sample, root))
    missing = missing_files(dataset, category, root, listed.lines, CSV)
    on_disk, others = files_below(root, root / folder / "Data")
    return CategoryFiles(
        root,
        dataset,
        category,
        listed.without(path for finding in missing for path in finding.paths),
        has_pixel_labels=True,
        expected_mask=lambda image: f"a path in column mask, {CSV} line {listed.lines[image]}",
        expected=EXPECTED.get(category, UNKNOWN),
        findings=(
            *split_file_invalid(dataset, category, CSV, listed.problems, f"columns {', '.join(_COLUMNS)}"),
            *missing,
            *unlisted_files(dataset, category, on_disk, listed.lines, CSV),
            *ignored_files(dataset, category, others),
        ),
    )


def _rows(root: Path, dataset: str) -> list[Row]:
    try:
        return read_rows(root / CSV, _COLUMNS)
    except SplitFileError as error:
        problem = (error.line, error.reason)
        raise DatasetError(
            *split_file_invalid(dataset, "", CSV, [problem], f"columns {', '.join(_COLUMNS)}")
        ) from error


def _sample(root: Path, row: Row) -> Sample:
    """The sample of one row; raises ValueError with the reason."""
    if row["split"] not in ("train", "test"):
        raise ValueError(f"split {row['split']!r} is neither train nor test")
    if row["label"] not in ("normal", "anomaly"):
        raise ValueError(f"label {row['label']!r} is neither normal nor anomaly")
    label = "good" if row["label"] == "normal" else "bad"
    masks = (path_inside(root, root, row["mask"]),) if row["mask"] else ()
    return Sample(row["split"], label, label, path_inside(root, root, row["image"]), masks)
