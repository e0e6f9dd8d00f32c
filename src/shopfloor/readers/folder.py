"""Reads data of the user's own: a folder tree like that of MVTec AD, or a CSV manifest.

Tree::

    <root>/<category>/
    ├── train/good/           required
    ├── train/bad/            optional, used by supervised and validation runs
    ├── validation/good|bad/  optional, used when a run asks for it
    ├── test/good/            required
    ├── test/<defect>/        at least one
    └── ground_truth/<defect>/<stem>_mask.<ext> | <stem>.<ext> | <stem>/<any>.<ext>

Masks belong to test images. A category without ``ground_truth`` has no pixel labels. Bad images of train and
validation carry masks only in the manifest form.

Where ``manifest.csv`` exists it is used instead of the tree, see :mod:`shopfloor.readers.manifest`.
"""

from __future__ import annotations

from pathlib import Path

from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.listing import folders_with
from shopfloor.readers.manifest import MANIFEST, find_manifest, list_manifest, manifest_categories
from shopfloor.readers.tree import Place, Tree, list_tree, places_of_test

LAYOUT = f"<category>/train/good, <category>/test/good, <category>/test/<defect> or {MANIFEST}"


def categories(root: Path, *, manifest: str | None = None) -> dict[str, str]:
    """Folder of each category, or the manifest that lists it.

    Args:
        root: Dataset root.
        manifest: Manifest relative to the root, for another name than ``manifest.csv``.

    Returns:
        By name; empty where the root holds neither a manifest nor categories.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``.
    """
    csv = find_manifest(root, manifest)
    if csv:
        return dict.fromkeys(manifest_categories(root, csv), csv)
    is_too_low = (root / "train").is_dir() or (root / "test").is_dir()
    return {} if is_too_low else folders_with(root, "train", "test")


def list_files(root: Path, dataset: str, category: str, folder: str, *, manifest: str | None = None) -> CategoryFiles:
    """List one category.

    Args:
        manifest: As for ``categories``.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``: the manifest cannot be read at all.
    """
    if find_manifest(root, manifest):
        return list_manifest(root, dataset, category, folder)
    tree = Tree(
        places=[
            Place("train/good", "train", "good"),
            Place("train/bad", "train", "bad"),
            Place("validation/good", "val", "good"),
            Place("validation/bad", "val", "bad"),
            *places_of_test(root / folder),
        ],
        required=("train/good", "test/good"),
        mask_folders=["ground_truth"] if (root / folder / "ground_truth").is_dir() else [],
        mask_stems=("{stem}_mask", "{stem}", "{stem}/*"),
        allows_bad_in_train=True,
    )
    return list_tree(root, dataset, category, folder, tree)
