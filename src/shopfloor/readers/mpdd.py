"""Reads MPDD: metal parts, 6 categories in the tree of MVTec AD (dataset specification 4.2).

Tree::

    <root>/<category>/train/good/000.png
                     /test/good/000.png
                     /test/<defect>/000.png
                     /ground_truth/<defect>/000_mask.png      (000.png is accepted too)

(Jezek et al. 2021, Deep learning-based defect detection of metal parts; repository stepanje/MPDD. Counts per category
are from public index builders; their sum is the paper's.)
"""

from __future__ import annotations

from pathlib import Path

from shopfloor.readers.category_files import CategoryFiles, Expected
from shopfloor.readers.mvtec_ad import LAYOUT, categories, defect_tree
from shopfloor.readers.tree import list_tree

__all__ = ["EXPECTED", "LAYOUT", "categories", "list_files"]


def _expected(train: int, test: int, **defects: int) -> Expected:
    bad = sum(defects.values())
    return Expected(train_good=train, test_good=test, test_bad=bad, defects=defects, size=(1024, 1024))


EXPECTED = {
    "bracket_black": _expected(289, 32, hole=12, scratches=35),
    "bracket_brown": _expected(185, 26, bend_and_parts_mismatch=17, parts_mismatch=34),
    "bracket_white": _expected(110, 30, defective_painting=13, scratches=17),
    "connector": _expected(128, 30, parts_mismatch=14),
    "metal_plate": _expected(54, 26, major_rust=14, scratches=34, total_rust=23),
    "tubes": _expected(122, 32, anomalous=69),
}


def list_files(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    """List one category; the folders of ``test`` and ``ground_truth`` must be of the same defects."""
    return list_tree(root, dataset, category, folder, defect_tree(root / folder, EXPECTED))
