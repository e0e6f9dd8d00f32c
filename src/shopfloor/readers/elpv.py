"""Reads the solar cells of the pip package ``elpv-dataset``: categories mono and poly, image labels only.

The package carries 2 624 electroluminescence images with the probability of a defect. Good is probability 0,
bad is probability 1, the uncertain ones between stay unused. There is no published split: good images are
drawn for train and test with a seed, every bad image can be tested on. (Deitsch et al. 2019, Automatic
classification of defective photovoltaic module cells in electroluminescence images.)
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.findings import DatasetError, Finding
from shopfloor.readers.index_table import byte_order
from shopfloor.readers.layout_checks import missing_files, split_file_invalid, unlisted_files
from shopfloor.readers.listing import files_below
from shopfloor.readers.split_file import path_inside
from shopfloor.readers.types import Sample

LABELS = "labels.csv"
LAYOUT = f"{LABELS} and images/"
_COLUMNS = "columns path, probability, type (separated by blanks, no header)"


@dataclass(frozen=True)
class _Cell:
    line: int
    image: str
    probability: float
    type: str


def default_root() -> Path:
    """Find the data folder of the installed package without importing it.

    Raises:
        DatasetError: ``PACKAGE_MISSING``.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        what = "package elpv-dataset is not installed"
        action = 'Install it: pip install "shopfloor[demo]" (in a clone: pip install -e ".[demo]")'
        raise DatasetError(Finding("PACKAGE_MISSING", "elpv", "", what, action=action))
    return Path(spec.submodule_search_locations[0]) / "data"


def categories(root: Path) -> dict[str, str]:
    """The types of cells in ``labels.csv``: mono and poly.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``.
    """
    return dict.fromkeys((cell.type for cell in _cells("", root)), LABELS) if (root / LABELS).is_file() else {}


def list_files(  # noqa: PLR0913 (each option is one)
    root: Path,
    dataset: str,
    category: str,
    folder: str,
    *,
    split_seed: int = 0,
    train_good: int | None = None,
    test_good: int = 100,
    test_bad: int | None = None,
    train_bad: int = 0,
) -> CategoryFiles:
    """Draw a split.

    A smaller limit gives a subset of what a larger one gives: test images are drawn from the front of one
    seeded permutation of the byte-sorted good images, training images from its back, bad images from the
    front of theirs.

    Args:
        split_seed: Seed of the permutations.
        train_good: Number of good training images; None takes all that are not in test.
        test_good: Number of good test images.
        test_bad: Number of bad test images; None takes all that are not in train.
        train_bad: Number of bad training images, for experiments that have some; drawn from the back as well.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``, ``OPTION_INVALID``.
    """
    cells = _cells(dataset, root)
    named = {cell.image: cell.line for cell in cells if cell.type == category}
    missing = missing_files(dataset, category, root, named, LABELS)
    good = [cell.image for cell in cells if cell.type == category and cell.probability == 0]
    bad = [cell.image for cell in cells if cell.type == category and cell.probability == 1]
    if train_good is None:
        train_good = len(good) - test_good
    if test_bad is None:
        test_bad = len(bad) - train_bad
    _require_enough(dataset, category, "good", {"train_good": train_good, "test_good": test_good}, len(good))
    _require_enough(
        dataset, category, "bad", {"test_bad": test_bad, **({"train_bad": train_bad} if train_bad else {})}, len(bad)
    )

    good, bad = _shuffled(good, bad, split_seed)
    samples = [
        *[Sample("train", "good", "good", image) for image in good[len(good) - train_good :]],
        *[Sample("test", "good", "good", image) for image in good[:test_good]],
        *[Sample("test", "bad", "bad", image) for image in bad[:test_bad]],
        *[Sample("train", "bad", "bad", image) for image in bad[len(bad) - train_bad :]],
    ]
    absent = {path for finding in missing for path in finding.paths}
    on_disk, _ = files_below(root, root / "images")
    unlisted = unlisted_files(dataset, category, on_disk, [cell.image for cell in cells], LABELS)
    return CategoryFiles(
        root,
        dataset,
        category,
        [sample for sample in samples if sample.image not in absent],
        has_pixel_labels=False,
        allows_bad_in_train=True,
        findings=(*missing, *unlisted),
    )


def _cells(dataset: str, root: Path) -> list[_Cell]:
    """Rows of ``labels.csv``.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``.
    """
    cells: list[_Cell] = []
    problems: list[tuple[int, str]] = []
    seen: set[str] = set()
    lines = (root / LABELS).read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cell = _cell(root, number, line)
            if cell.image in seen:
                raise ValueError(f"{cell.image} occurs a second time")
        except ValueError as error:
            problems.append((number, str(error)))
            continue
        seen.add(cell.image)
        cells.append(cell)
    if problems or not cells:
        problems = problems or [(1, "the file is empty")]
        raise DatasetError(*split_file_invalid(dataset, "", LABELS, problems, _COLUMNS))
    return cells


def _cell(root: Path, number: int, line: str) -> _Cell:
    """One row; raises ValueError with the reason."""
    parts = line.split()
    if len(parts) != 3:
        raise ValueError(f"{len(parts)} values instead of 3")
    image, probability, kind = parts
    if kind not in ("mono", "poly"):
        raise ValueError(f"type {kind!r} is neither mono nor poly")
    try:
        value = float(probability)
    except ValueError:
        raise ValueError(f"probability {probability!r} is not a number") from None
    if not 0 <= value <= 1:
        raise ValueError(f"probability {probability} is not between 0 and 1")
    return _Cell(number, path_inside(root, root, image), value, kind)


def _shuffled(good: list[str], bad: list[str], split_seed: int) -> tuple[list[str], list[str]]:
    """Good and bad images in seeded random order, whatever the order of the label file."""
    import numpy as np

    generator = np.random.default_rng(split_seed)
    good_order, bad_order = generator.permutation(len(good)), generator.permutation(len(bad))
    good, bad = sorted(good, key=byte_order), sorted(bad, key=byte_order)
    return [good[i] for i in good_order], [bad[i] for i in bad_order]


def _require_enough(dataset: str, category: str, label: str, wanted: dict[str, int], available: int) -> None:
    """Refuse limits below one or beyond what exists.

    Raises:
        DatasetError: ``OPTION_INVALID``.
    """
    options = ", ".join(f"{name} {number}" for name, number in wanted.items())
    if min(wanted.values()) >= 1 and sum(wanted.values()) <= available:
        return
    what = f"{options}: {available} {label} images exist, and each limit must be at least 1"
    raise DatasetError(Finding("OPTION_INVALID", dataset, category, what, action="Change the dataset's options"))
