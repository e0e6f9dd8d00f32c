"""Reads MVTec LOCO AD: structural and logical anomalies, several masks per image (dataset specification 4.4).

Tree::

    <root>/<category>/train/good/000.png
                     /validation/good/000.png               good images, unused by default (protocol 5, no. 23)
                     /test/good/000.png
                     /test/logical_anomalies/000.png
                     /test/structural_anomalies/000.png
                     /ground_truth/<anomalies>/000/000.png, 001.png, ...      one folder per bad image
                     /defects_config.json                    pixel value of each kind of defect

The masks of an image are joined; their values name the kind of defect (236 to 255 in ``screw_bag``). The paper measures
the two groups of anomalies apart, each against all good images, and takes the mean. (Bergmann et al. 2022, Beyond Dents
and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization. Counts: of the archive.)
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from shopfloor.readers.category_files import CategoryFiles, Expected
from shopfloor.readers.findings import Finding
from shopfloor.readers.layout_checks import split_file_invalid
from shopfloor.readers.listing import folders_with, list_folder, stem_key
from shopfloor.readers.tree import Place, Tree, list_tree, places_of_train

LAYOUT = "<category>/train/good, <category>/test/logical_anomalies, <category>/test/structural_anomalies"
GROUPS = ("logical_anomalies", "structural_anomalies")
CONFIG = "defects_config.json"


def _expected(train: int, val: int, good: int, logical: int, structural: int, size: tuple[int, int]) -> Expected:
    defects = dict(zip(GROUPS, (logical, structural), strict=True))
    return Expected(
        train_good=train, val_good=val, test_good=good, test_bad=logical + structural, defects=defects, size=size
    )


EXPECTED = {
    "breakfast_box": _expected(351, 62, 102, 83, 90, (1600, 1280)),
    "juice_bottle": _expected(335, 54, 94, 142, 94, (800, 1600)),
    "pushpins": _expected(372, 69, 138, 91, 81, (1700, 1000)),
    "screw_bag": _expected(360, 60, 122, 137, 82, (1600, 1100)),
    "splicing_connectors": _expected(360, 60, 119, 108, 85, (1700, 850)),
}


_BAD = [Place(f"test/{group}", "test", "bad", group, masks=f"ground_truth/{group}") for group in GROUPS]
_VALIDATION = "validation/good"


def categories(root: Path) -> dict[str, str]:
    """Every folder that has one of the two groups of anomalies is a category."""
    return folders_with(root, *(place.folder for place in _BAD))


def list_files(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    """List one category; an image without a folder of masks, or with an empty one, has no mask."""
    tree = Tree(
        places=[
            *places_of_train(root / folder),
            Place(_VALIDATION, "val", "good"),
            Place("test/good", "test", "good", masks="ground_truth/good"),
            *_BAD,
        ],
        required=[
            "train/good",
            _VALIDATION,
            "test/good",
            *(path for place in _BAD for path in (place.folder, place.masks)),
        ],
        mask_folders=("ground_truth",),
        mask_stems=("{stem}/*",),
        expected=EXPECTED,
    )
    listed = list_tree(root, dataset, category, folder, tree)
    values, invalid = _defect_values(root, dataset, category, f"{folder}/{CONFIG}")
    findings = (*listed.findings, *invalid, *_empty_mask_folders(listed, folder))
    return replace(listed, documented_values=values, findings=findings)


def _empty_mask_folders(files: CategoryFiles, folder: str) -> list[Finding]:
    """Folders of masks with neither an image nor a mask; those with masks are found as orphans."""
    stems = set(map(stem_key, files.images))
    lost = [
        f"{folder}/{place.masks}/{name}"
        for place in _BAD
        for name in list_folder(files.root / folder / place.masks).folders
        if (f"{folder}/{place.folder}", name) not in stems
        and not list_folder(files.root / folder / place.masks / name).images
    ]
    if not lost:
        return []
    return [files.finding("MASK_ORPHAN", f"{len(lost)} empty mask folders belong to no image", lost)]


def _defect_values(root: Path, dataset: str, category: str, path: str) -> tuple[frozenset[int] | None, list[Finding]]:
    """The pixel values that the category's list of defects names; None where there is no list."""
    if not (root / path).is_file():
        return None, []
    try:
        defects = json.loads((root / path).read_text(encoding="utf-8-sig"))
        if not isinstance(defects, list):
            raise TypeError(f"a {type(defects).__name__} where a list is expected")
        return frozenset(int(defect["pixel_value"]) for defect in defects), []
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        expected = "a list of objects with the key pixel_value"
        return None, split_file_invalid(dataset, category, path, [(1, reason)], expected)
