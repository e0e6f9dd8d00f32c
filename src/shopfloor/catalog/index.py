"""The index table of a category, kept as CSV; it is never overwritten by that of another set of files."""

from __future__ import annotations

import pandas as pd
from kedro.io import DatasetError

from shopfloor.catalog.atomic import CSVDataset


class IndexDataset(CSVDataset):
    """Refuses to replace an index by one of other files, on which results with the same names would rest."""

    def save(self, data: pd.DataFrame) -> None:
        if self._exists():
            _check_same_files(self.load(), data, str(self._filepath))
        super().save(data)


def _check_same_files(known: pd.DataFrame, found: pd.DataFrame, filepath: str) -> None:
    old, new = (set(zip(table["image"], table["sha256"], table["mask_sha256"], strict=True)) for table in (known, found))
    if old == new:
        return
    changed = sorted({image for image, *_ in old ^ new})
    raise DatasetError(
        f"[FOLDER_CHANGED] {found['dataset'].iloc[0]}/{found['category'].iloc[0]}: {len(changed)} images were added, "
        f"removed or altered since results were computed from this folder (first: {changed[0]}). Put the files back, "
        f"or delete {filepath} and run again: everything that depends on it will be made anew."
    )
