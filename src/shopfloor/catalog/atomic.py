"""Kedro's file datasets, saved whole or not at all.

The datasets of kedro-datasets write in place: a run that is killed while it saves leaves half a file, and a half
file counts as finished for ``kedro run --only-missing-outputs``. These save to a temporary name in the same folder
and rename it.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets import json, pandas, pillow, plotly, text
from PIL import Image

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

    def save(self, data: Image.Image) -> None:
        with written_whole(Path(self._filepath)) as partial:
            partial.write_bytes(encoded(data, partial.suffix, **self._save_args))


def encoded(image: Image.Image, suffix: str, **arguments: Any) -> bytes:
    """The content of an image file. Pillow, writing itself, takes no notice when a full disk takes half of a block.

    Args:
        image: The image.
        suffix: Of the file's name, e.g. ``.png``.
        **arguments: Of Pillow's ``Image.save``.
    """
    buffer = BytesIO()
    image.save(buffer, format=Image.registered_extensions()[suffix.lower()], **arguments)
    return buffer.getvalue()
