"""Reads SensumSODF: capsules and softgels without a published split (dataset specification 4.3).

Tree::

    SensumSODF/<category>/negative/data/000.png          good
                         /positive/data/000.png          bad
                         /positive/annotation/000.png    masks, named like the images

150 good images of each category and all bad ones are test images, the other good ones are for training. The paper drew
them from an unsorted folder listing, which cannot be repeated; ours are drawn from sorted names and stored in the
configuration (protocol 5, no. 28). (Racki et al. 2021, Detection of surface defects on pharmaceutical solid oral dosage
forms with convolutional neural networks; Sensum.)
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from shopfloor.readers.category_files import CategoryFiles, Expected
from shopfloor.readers.findings import DatasetError, Finding
from shopfloor.readers.index_table import byte_order
from shopfloor.readers.layout_checks import missing_files, require_category
from shopfloor.readers.listing import list_folder
from shopfloor.readers.tree import Place, Tree, list_tree

LAYOUT = "capsule/negative/data, capsule/positive/data, capsule/positive/annotation and the same below softgel"
ORDER = ("capsule", "softgel")
SPLIT_SEED = 143

EXPECTED = {
    "capsule": Expected(train_good=686, test_good=150, test_bad=153),
    "softgel": Expected(train_good=696, test_good=150, test_bad=345),
}


GOOD = "negative/data"
TREE = Tree(
    places=(
        Place(GOOD, "train", "good", masks="negative/annotation"),
        Place("positive/data", "test", "bad", masks="positive/annotation"),
    ),
    required=(GOOD, "positive/data", "positive/annotation"),
    mask_folders=("positive/annotation", "negative/annotation"),
    expected=EXPECTED,
)


def categories(root: Path) -> dict[str, str]:
    """``capsule`` and ``softgel``, those that have ``negative`` or ``positive``."""
    return {name: name for name in ORDER if (root / name / "negative").is_dir() or (root / name / "positive").is_dir()}


def list_files(
    root: Path,
    dataset: str,
    category: str,
    folder: str,
    *,
    test_good: Mapping[str, Sequence[str]] | None = None,
    test_count: int = 150,
) -> CategoryFiles:
    """List one category.

    Args:
        test_good: File names of the good test images of each category; None draws them by :func:`draw_test_images`.
        test_count: How many are drawn.

    Raises:
        DatasetError: ``OPTION_INVALID``: ``test_good`` does not name the category.
    """
    listed = list_tree(root, dataset, category, folder, TREE)
    lists = draw_test_images(root, dataset, test_count) if test_good is None else test_good
    names = lists.get(category) if isinstance(lists, Mapping) else None
    if not _are_different_names(names):
        what = f"option test_good gives no list of different file names for {category}"
        action = "Restore the stored list, or set the option to null to draw by the benchmark's rule"
        raise DatasetError(Finding("OPTION_INVALID", dataset, category, what, action=action))
    good = f"{folder}/{GOOD}"
    test = {f"{good}/{name}": number for number, name in enumerate(names, start=1)}
    missing = missing_files(dataset, category, root, test, "option test_good", "entry")
    return replace(
        listed,
        samples=[replace(s, split="test") if s.image in test else s for s in listed.samples],
        folders={**listed.folders, ("test", "good"): good},
        findings=(*listed.findings, *missing),
    )


def _are_different_names(names: Any) -> TypeGuard[Sequence[str]]:
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        return False
    plain = all(isinstance(name, str) and PurePosixPath(name).name == name for name in names)
    return plain and len(set(names)) == len(names)


def draw_test_images(root: Path, dataset: str, count: int) -> dict[str, list[str]]:
    """Draw the good test images of both categories with one generator, capsules first.

    Args:
        root: Dataset root.
        dataset: Name of the dataset, for messages.
        count: Images per category.

    Returns:
        File names by category, in byte order.

    Raises:
        DatasetError: ``OPTION_INVALID``: ``count`` is none; ``CATEGORY_MISSING``: the draw of one category depends on
            the other being there.
    """
    if not isinstance(count, int) or count < 1:
        what = f"option test_count is {count!r}"
        raise DatasetError(Finding("OPTION_INVALID", dataset, "", what, action="Give a number of images, 1 or more"))
    for category in ORDER:
        require_category(dataset, category, categories(root))
    generator = random.Random(SPLIT_SEED)
    drawn = {}
    for category in ORDER:
        names = list_folder(root / category / GOOD).images
        generator.shuffle(names)
        drawn[category] = sorted(names[:count], key=byte_order)
    return drawn
