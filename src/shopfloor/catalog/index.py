"""The index table of a category, kept as CSV; it is never overwritten by that of another set of files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import pandas as pd

from shopfloor.catalog.atomic import CSVDataset


class FolderChangedError(click.ClickException):
    """The files of a category are not those from which results of the same name were computed."""

    def __init__(self, index: pd.DataFrame, changed: Iterable[str], path: Path | None = None) -> None:
        self.changed, first = sorted(changed), index.iloc[0]
        super().__init__(
            f"[FOLDER_CHANGED] {first['dataset']}/{first['category']}: {len(self.changed)} images or masks were added, "
            f"removed, altered or listed otherwise since results were computed from this folder (first: "
            f"{self.changed[0]}). Results of old and new files must not be mixed: put the files back, or delete "
            f"{path or 'the index of the category in data/02_intermediate'} and run again, which makes everything anew "
            f"that depends on it."
        )


class IndexDataset(CSVDataset):
    """Refuses to replace an index by one of other files, on which results with the same names would rest."""

    def save(self, data: pd.DataFrame) -> None:
        if self._exists():
            check_same_files(self.load(), data)
        super().save(data)


def check_same_files(known: pd.DataFrame, found: pd.DataFrame) -> None:
    """Compare the content of two indexes of the same category.

    Raises:
        FolderChangedError: They are not of the same images and masks.
    """
    old, new = _content(known), _content(found)
    if old != new:
        raise FolderChangedError(found, {image for image, *_ in old ^ new})


def _content(index: pd.DataFrame) -> set[tuple[str, ...]]:
    columns = ("image", "sha256", "masks", "mask_sha256", "split", "label")
    return set(zip(*(index[column] for column in columns), strict=True))
