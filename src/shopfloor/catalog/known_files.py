"""What an earlier run found out about the files of a category."""

from __future__ import annotations

from typing import NoReturn

import pandas as pd
from kedro.io import DatasetError

from shopfloor.catalog.atomic import CSVDataset


class KnownFilesDataset(CSVDataset):
    """The table that this run will replace, as it stands; empty before the first run or where it is damaged.

    The node that makes the table takes this as an input, so that it opens changed files only. Kedro knows the two as
    different datasets: a node cannot take what it makes.
    """

    def load(self) -> pd.DataFrame:
        try:
            return super().load()
        except DatasetError:
            return pd.DataFrame()

    def save(self, data: pd.DataFrame) -> NoReturn:
        raise DatasetError("Known files are read only; the table is kept under its own name.")

    def _exists(self) -> bool:
        return True
