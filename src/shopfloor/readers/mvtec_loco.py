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
from pathlib import Path, PurePosixPath

from shopfloor.readers.category_files import UNKNOWN, CategoryFiles, Expected
from shopfloor.readers.findings import Finding
from shopfloor.readers.layout_checks import split_file_invalid
from shopfloor.readers.listing import list_folder
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


def categories(root: Path) -> dict[str, str]:
    """Every folder that has one of the two groups of anomalies is a category."""
    return {
        name: name
        for name in list_folder(root).folders
        if any((root / name / "test" / group).is_dir() for group in GROUPS)
    }


def list_files(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    """List one category; an image without a folder of masks, or with an empty one, has no mask."""
    test, masks = f"{folder}/test", f"{folder}/ground_truth"
    bad = [Place(f"{test}/{group}", "test", "bad", group, masks=f"{masks}/{group}") for group in GROUPS]
    validation = f"{folder}/validation/good"
    listed = list_tree(
        root,
        dataset,
        category,
        Tree(
            top=folder,
            places=[
                *places_of_train(root, folder),
                Place(validation, "val", "good", "good"),
                Place(f"{test}/good", "test", "good", "good", masks=f"{masks}/good"),
                *bad,
            ],
            required=[
                f"{folder}/train/good",
                validation,
                f"{test}/good",
                *(path for place in bad for path in (place.folder, place.masks)),
            ],
            mask_folders=[masks],
            mask_stems=("{stem}/*",),
            expected=EXPECTED.get(category, UNKNOWN),
        ),
    )
    values, invalid = _defect_values(root, dataset, category, f"{folder}/{CONFIG}")
    return replace(
        listed, documented_values=values, findings=(*listed.findings, *invalid, *_empty_mask_folders(listed, bad))
    )


def _empty_mask_folders(files: CategoryFiles, bad: list[Place]) -> list[Finding]:
    """Folders of masks with neither an image nor a mask; those with masks are found as orphans."""
    stems = {(str(PurePosixPath(image).parent), PurePosixPath(image).stem) for image in files.images}
    lost = [
        f"{place.masks}/{name}"
        for place in bad
        for name in list_folder(files.root / place.masks).folders
        if (place.folder, name) not in stems and not list_folder(files.root / place.masks / name).images
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
