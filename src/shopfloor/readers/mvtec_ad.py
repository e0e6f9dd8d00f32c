"""Reads MVTec AD: 15 categories in the tree that most datasets since have taken over (dataset specification 4.10).

Tree::

    <root>/<category>/train/good/000.png
                     /test/good/000.png
                     /test/<defect>/000.png
                     /ground_truth/<defect>/000_mask.png      (000.png is accepted too)

Not part of the paper's tables; most public numbers refer to it. (Bergmann et al. 2019, MVTec AD - A Comprehensive
Real-World Dataset for Unsupervised Anomaly Detection. Counts: from a complete file list.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shopfloor.readers.category_files import CategoryFiles, Expected
from shopfloor.readers.listing import folders_with
from shopfloor.readers.tree import Tree, list_tree, places_of_test, places_of_train, unpaired_folders

LAYOUT = "<category>/train/good, <category>/test/<defect>, <category>/ground_truth/<defect>"


def _expected(train: int, test: int, **defects: int) -> Expected:
    return Expected(train_good=train, test_good=test, test_bad=sum(defects.values()), defects=defects)


EXPECTED = {
    "bottle": _expected(209, 20, broken_large=20, broken_small=22, contamination=21),
    "cable": _expected(
        224, 58, bent_wire=13, cable_swap=12, combined=11, cut_inner_insulation=14, cut_outer_insulation=10,
        missing_cable=12, missing_wire=10, poke_insulation=10,
    ),
    "capsule": _expected(219, 23, crack=23, faulty_imprint=22, poke=21, scratch=23, squeeze=20),
    "carpet": _expected(280, 28, color=19, cut=17, hole=17, metal_contamination=17, thread=19),
    "grid": _expected(264, 21, bent=12, broken=12, glue=11, metal_contamination=11, thread=11),
    "hazelnut": _expected(391, 40, crack=18, cut=17, hole=18, print=17),
    "leather": _expected(245, 32, color=19, cut=19, fold=17, glue=19, poke=18),
    "metal_nut": _expected(220, 22, bent=25, color=22, flip=23, scratch=23),
    "pill": _expected(
        267, 26, color=25, combined=17, contamination=21, crack=26, faulty_imprint=19, pill_type=9, scratch=24
    ),
    "screw": _expected(320, 41, manipulated_front=24, scratch_head=24, scratch_neck=25, thread_side=23, thread_top=23),
    "tile": _expected(230, 33, crack=17, glue_strip=18, gray_stroke=16, oil=18, rough=15),
    "toothbrush": _expected(60, 12, defective=30),
    "transistor": _expected(213, 60, bent_lead=10, cut_lead=10, damaged_case=10, misplaced=10),
    "wood": _expected(247, 19, color=8, combined=11, hole=10, liquid=10, scratch=21),
    "zipper": _expected(
        240, 32, broken_teeth=19, combined=16, fabric_border=17, fabric_interior=16, rough=17, split_teeth=18,
        squeezed_teeth=16,
    ),
}  # fmt: skip


def categories(root: Path) -> dict[str, str]:
    """Every folder that has a ``train`` and a ``test`` folder is a category."""
    return folders_with(root, "train", "test", need=all)


def list_files(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    """List one category; the folders of ``test`` and ``ground_truth`` must be of the same defects."""
    return list_tree(root, dataset, category, folder, defect_tree(root / folder, EXPECTED))


def defect_tree(folder: Path, expected: Mapping[str, Expected]) -> Tree:
    """The tree of a category of a dataset that has taken over this one."""
    return Tree(
        places=[*places_of_train(folder), *places_of_test(folder)],
        required=["train/good", "test/good", *unpaired_folders(folder)],
        mask_folders=["ground_truth"],
        mask_stems=("{stem}_mask", "{stem}"),
        expected=expected,
    )
