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

from pathlib import Path

from shopfloor.readers.category_files import UNKNOWN, CategoryFiles, Expected
from shopfloor.readers.listing import list_folder
from shopfloor.readers.tree import Place, Tree, list_tree

LAYOUT = "01/train/ok, 01/test/ko, 01/ground_truth/ko and the same below 02 and 03"

EXPECTED = {
    "01": Expected(train_good=400, test_good=21, test_bad=49, size=(1600, 1600)),
    "02": Expected(train_good=399, test_good=30, test_bad=200, size=(600, 600)),
    "03": Expected(train_good=1000, test_good=400, test_bad=41, size=(800, 600)),
}


def categories(root: Path) -> dict[str, str]:
    """Every folder that has ``train/ok`` or ``test/ko`` is a category."""
    return {
        name: name
        for name in list_folder(root).folders
        if (root / name / "train/ok").is_dir() or (root / name / "test/ko").is_dir()
    }


def list_files(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    """List one category."""
    train, test, masks = f"{folder}/train", f"{folder}/test", f"{folder}/ground_truth"
    return list_tree(
        root,
        dataset,
        category,
        Tree(
            top=folder,
            places=[
                Place(f"{train}/ok", "train", "good", "good"),
                Place(f"{train}/ko", "train", "bad", "ko"),
                Place(f"{test}/ok", "test", "good", "good", masks=f"{masks}/ok"),
                Place(f"{test}/ko", "test", "bad", "ko", masks=f"{masks}/ko"),
            ],
            required=[f"{train}/ok", f"{test}/ok", f"{test}/ko", f"{masks}/ko"],
            mask_folders=[masks],
            mask_stems=("{stem}",),
            mask_extension="bmp" if category == "03" else "png",
            expected=EXPECTED.get(category, UNKNOWN),
        ),
    )
