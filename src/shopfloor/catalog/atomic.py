"""Kedro's file datasets, saved whole or not at all.

The datasets of kedro-datasets write in place: a run that is killed while it saves leaves half a file, and a half
file counts as finished for ``kedro run --only-missing-outputs``. These save to a temporary name in the same folder
and rename it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets import json, pandas, pillow, plotly, text

from shopfloor.whole_files import written_whole


class SaveWhole:
    """Mixin for a file dataset of kedro-datasets on a local disk: save to a temporary name, then rename."""

    _filepath: PurePosixPath

    def save(self, data: Any) -> None:
        final = Path(self._filepath)
        with written_whole(final) as partial:
            self._filepath = PurePosixPath(partial)
            try:
                super().save(data)  # type: ignore[misc]  # the file dataset that this is mixed into
            finally:
                self._filepath = PurePosixPath(final)


class CSVDataset(SaveWhole, pandas.CSVDataset):
    """A table as CSV."""


class JSONDataset(SaveWhole, json.JSONDataset):
    """Plain data as JSON."""


class TextDataset(SaveWhole, text.TextDataset):
    """A text file, e.g. the HTML report."""


class FigureDataset(SaveWhole, plotly.JSONDataset):
    """An interactive plotly figure."""


class PictureDataset(SaveWhole, pillow.ImageDataset):
    """A picture as PNG or JPEG."""
