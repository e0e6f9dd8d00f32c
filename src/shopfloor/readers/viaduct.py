"""Reads VIADUCT: 49 small products, of which the benchmark uses 12 (dataset specification 4.9).

Tree::

    <root>/<NN> <product name>/train/good/*.png           e.g. "11 ring cable lug", "05_cable_end_sleeve"
                              /val/good/*.png              may exist, stays unused
                              /test/good/*.png
                              /test/<defect>/*.png
                              /ground_truth/<defect>/<name of the test image>      (<stem>_mask.* is accepted too)

A category is called like its folder without the running number, in lower case, with underscores. (Lehr et al. 2024,
VIADUCT; Fordatis repository of Fraunhofer, handle fordatis/363. Counts per category are not published.)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from shopfloor.readers import mvtec_ad
from shopfloor.readers.category_files import CategoryFiles, Expected
from shopfloor.readers.findings import DatasetError, Finding
from shopfloor.readers.tree import list_tree

LAYOUT = "<NN> <product name>/train/good, .../test/<defect>, .../ground_truth/<defect>"

#: The categories of the benchmark; some begin with a number of their own.
SUBSET = (
    "3_pole_socket_housing", "cylinder_screw", "damper_large", "dsub_connector", "mains_tester", "pcb", "retractor",
    "ring_cable_lug", "tack", "terminal_block_a", "threaded_fitting", "valve_handle_blue",
)  # fmt: skip
EXPECTED: Mapping[str, Expected] = {}


def categories(root: Path) -> dict[str, str]:
    """Folder of each category by the category's name.

    Raises:
        DatasetError: ``NAME_COLLISION`` where two folders have the same name.
    """
    folders = defaultdict(list)
    for folder in mvtec_ad.categories(root):
        folders[category_name(folder)].append(folder)
    colliding = [name for name, found in folders.items() if len(found) > 1]
    if colliding:
        first = " and ".join(folders[colliding[0]])
        what = f"{len(colliding)} categories have several folders: {', '.join(colliding)}"
        paths = tuple(folder for name in colliding for folder in folders[name])
        raise DatasetError(Finding("NAME_COLLISION", "", "", what, f"first: {first}", "Keep one folder of each", paths))
    return {name: found[0] for name, found in folders.items()}


def category_name(folder: str) -> str:
    """The paper's name of a folder; ``11 ring cable lug`` gives ``ring_cable_lug``.

    A leading number belongs to the name where the benchmark knows the name with it (``3_pole_socket_housing``).
    """
    name = folder.lower().replace(" ", "_")
    return name if name in SUBSET else re.sub(r"^\d+_", "", name)


def list_files(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    """List one category; the folders of ``test`` and ``ground_truth`` must be of the same defects."""
    tree = mvtec_ad.defect_tree(root / folder, EXPECTED)
    tree = replace(tree, mask_stems=("{stem}", "{stem}_mask"), unused=["val"])
    return list_tree(root, dataset, category, folder, tree)
