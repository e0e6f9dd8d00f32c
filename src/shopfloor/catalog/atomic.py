"""Kedro's file datasets, saved whole or not at all.

The datasets of kedro-datasets write in place: a run that is killed while it saves leaves half a file, and a half
file counts as finished for ``kedro run --only-missing-outputs``. These save to a temporary name in the same folder
and rename it.

kedro-viz shows what ``preview`` gives, and goes by the name of the type that it is said to return.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets import json, pandas, pillow, plotly, text
from kedro_datasets._typing import ImagePreview
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


def _of_files_only(preview: Callable[..., Any]) -> Callable[..., Any]:
    """No preview of a file that is not there; else kedro-viz warns of every result that no run has made yet."""

    @wraps(preview)
    def preview_if_there(self: SaveWhole, *args: Any, **kwargs: Any) -> Any:
        return preview(self, *args, **kwargs) if Path(self._filepath).is_file() else None

    return preview_if_there


class CSVDataset(SaveWhole, pandas.CSVDataset):
    """A table as CSV."""

    preview = _of_files_only(pandas.CSVDataset.preview)


class JSONDataset(SaveWhole, json.JSONDataset):
    """Plain data as JSON."""

    preview = _of_files_only(json.JSONDataset.preview)


class TextDataset(SaveWhole, text.TextDataset):
    """A text file, e.g. the HTML report."""


class FigureDataset(SaveWhole, plotly.JSONDataset):
    """An interactive plotly figure."""

    preview = _of_files_only(plotly.JSONDataset.preview)


class PictureDataset(SaveWhole, pillow.ImageDataset):
    """A picture as PNG or JPEG."""

    def save(self, data: Image.Image) -> None:
        with written_whole(Path(self._filepath)) as partial:
            partial.write_bytes(encoded(data, partial.suffix, **self._save_args))

    @_of_files_only
    def preview(self) -> ImagePreview:
        """The file in base64. kedro-viz calls it PNG; browsers look at the content, so JPEG shows as well."""
        return ImagePreview(b64encode(Path(self._filepath).read_bytes()).decode("ascii"))


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
