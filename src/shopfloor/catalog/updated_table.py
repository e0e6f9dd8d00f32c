"""A table that is made from the one that it replaces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from shopfloor.catalog.atomic import ParquetDataset


class UpdatedTableDataset(ParquetDataset):
    """Saves what a function makes of the table that is there; of an empty one where there is none or it is damaged.

    So what an earlier run found out about files need not be found out again.
    """

    def save(self, data: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        super().save(data(self._known()))

    def _known(self) -> pd.DataFrame:
        try:
            return pd.read_parquet(Path(self._filepath))
        except (OSError, ValueError):  # not there, or damaged
            return pd.DataFrame()
