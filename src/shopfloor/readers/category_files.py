"""A category as a reader lists it: its images and masks by name, before any file is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shopfloor.readers.findings import Finding
from shopfloor.readers.types import Sample

#: Splits and labels that images are counted by.
COUNTED = (("train", "good"), ("train", "bad"), ("val", "good"), ("test", "good"), ("test", "bad"))


@dataclass(frozen=True)
class Expected:
    """What a complete category holds; None where the specification gives no number.

    Attributes:
        train_good, train_bad, val_good, test_good, test_bad: Numbers of images.
        defects: Bad test images per defect type.
        size: Width and height of every image in pixels.
        source: Where the numbers are from, for messages.
    """

    train_good: int | None = None
    train_bad: int | None = None
    val_good: int | None = None
    test_good: int | None = None
    test_bad: int | None = None
    defects: Mapping[str, int] | None = None
    size: tuple[int, int] | None = None
    source: str = "the published ones"

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Numbers by (split, label), those that are known."""
        numbers = {(split, label): getattr(self, f"{split}_{label}") for split, label in COUNTED}
        return {place: number for place, number in numbers.items() if number is not None}


UNKNOWN = Expected()


@dataclass(frozen=True)
class CategoryFiles:
    """A category as a reader lists it, before anything is decoded.

    Attributes:
        root: Dataset root.
        dataset: Name of the dataset.
        category: Name of the category.
        samples: Its images.
        has_pixel_labels: Whether bad test images must have masks.
        folders: Folder of a (split, label), relative to the root, for the text of ``SPLIT_EMPTY``.
        orphan_masks: Masks that belong to no image.
        ambiguous_masks: Masks that fit several images.
        expected_mask: Where the mask of an image is expected.
        documented_values: Mask values that the dataset documents; None where it documents nothing.
        allows_bad_in_train: Whether bad training images belong to the dataset; one-class splits leave them out.
        expected: What a complete category holds.
        strict_counts: Whether other counts than the expected ones are an error.
        findings: Findings of the reader itself.
    """

    root: Path
    dataset: str
    category: str
    samples: Sequence[Sample]
    has_pixel_labels: bool
    folders: Mapping[tuple[str, str], str] = field(default_factory=dict)
    orphan_masks: tuple[str, ...] = ()
    ambiguous_masks: tuple[str, ...] = ()
    expected_mask: Callable[[str], str] | None = None
    documented_values: frozenset[int] | None = None
    allows_bad_in_train: bool = False
    expected: Expected = UNKNOWN
    strict_counts: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def images(self) -> list[str]:
        """Every image, relative to the root."""
        return [sample.image for sample in self.samples]

    @property
    def masks(self) -> list[str]:
        """Every mask, with and without an image, relative to the root."""
        return [*(mask for sample in self.samples for mask in sample.masks), *self.orphan_masks]

    def finding(
        self,
        code: str,
        what: str,
        paths: Iterable[str] = (),
        *,
        where: str | None = None,
        action: str = "",
        level: Literal["error", "warning"] = "error",
    ) -> Finding:
        """A finding about this category; unless told otherwise, ``where`` names the first path."""
        paths = tuple(paths)
        if where is None:
            where = f"first: {paths[0]}" if paths else ""
        return Finding(code, self.dataset, self.category, what, where, action, paths, level)
