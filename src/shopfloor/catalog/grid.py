"""What an experiment's reports were made of."""

from __future__ import annotations

from typing import Any

from kedro.io import DatasetError

from shopfloor.catalog.atomic import JSONDataset


class GridDataset(JSONDataset):
    """The plan of an experiment. It exists only when the file holds the plan of the digest that is asked for.

    Reports have the same name whatever the grid. A changed grid finds another digest here, which makes the plan, and
    with it all that lies downstream, count as missing.
    """

    def __init__(self, *, filepath: str, digest: str, **kwargs: Any) -> None:
        super().__init__(filepath=filepath, **kwargs)
        self._digest = digest

    def _exists(self) -> bool:
        try:
            return super()._exists() and self.load().get("digest") == self._digest
        except DatasetError:  # a damaged plan is none
            return False
