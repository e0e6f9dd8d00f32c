"""A table that is made from the one that it replaces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from shopfloor.catalog.atomic import ParquetDataset
from shopfloor.catalog.traces import value_id


class UpdatedTableDataset(ParquetDataset):
    """Saves what a function makes of the table that is there; of an empty one where there is none or it was altered.

    So what an earlier run found out about files need not be found out again.
    """

    def save(self, data: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        table = data(self._known())
        table.attrs = {"id": value_id(table.to_dict("list"))}
        super().save(table)

    def _known(self) -> pd.DataFrame:
        try:
            table = pd.read_parquet(Path(self._filepath))
        except (OSError, ValueError):  # not there, or damaged
            return pd.DataFrame()
        is_as_saved = table.attrs.get("id") == value_id(table.to_dict("list"))
        return table if is_as_saved else pd.DataFrame()
