"""Reads BTAD (BTech): three products with image files of different kinds (dataset specification 4.1).

Tree::

    BTech_Dataset_transformed/<category>/train/ok/0000.bmp
                                        /test/ok/0000.bmp
                                        /test/ko/0000.bmp
                                        /ground_truth/ko/0000.png

Images are .bmp (01 and 03) or .png (02), masks .png (01 and 02) or .bmp (03): a mask has the stem of its image and any
extension. Ten bad images of 03 have an all-zero mask, as published. (Mishra et al. 2021, VT-ADL; AVIRES lab, University
of Udine.)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shopfloor.readers.category_files import CategoryFiles, Expected
from shopfloor.readers.listing import folders_with
from shopfloor.readers.tree import Place, Tree, list_tree

LAYOUT = "01/train/ok, 01/test/ko, 01/ground_truth/ko and the same below 02 and 03"

EXPECTED = {
    "01": Expected(train_good=400, test_good=21, test_bad=49, size=(1600, 1600)),
    "02": Expected(train_good=399, test_good=30, test_bad=200, size=(600, 600)),
    "03": Expected(train_good=1000, test_good=400, test_bad=41, size=(800, 600)),
}


TREE = Tree(
    places=(
        Place("train/ok", "train", "good"),
        Place("train/ko", "train", "bad", "ko"),
        Place("test/ok", "test", "good", masks="ground_truth/ok"),
        Place("test/ko", "test", "bad", "ko", masks="ground_truth/ko"),
    ),
    required=("train/ok", "test/ok", "test/ko", "ground_truth/ko"),
    mask_folders=("ground_truth",),
    expected=EXPECTED,
)


def categories(root: Path) -> dict[str, str]:
    """Every folder that has ``train/ok`` or ``test/ko`` is a category."""
    return folders_with(root, "train/ok", "test/ko")


def list_files(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    """List one category."""
    tree = replace(TREE, mask_extension="bmp" if category == "03" else "png")
    return list_tree(root, dataset, category, folder, tree)
