"""Save Kedro's file datasets by an atomic write: whole or not at all.

The datasets of kedro-datasets write in place: a run that is killed while it saves leaves half a file, and a half
file counts as finished for ``kedro run --only-missing-outputs``. These save to a temporary name in the same folder
and rename it.

kedro-viz shows what ``preview`` gives, and goes by the name of the type that it is said to return.
"""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from kedro_datasets import json, pandas, pillow, text
from kedro_datasets._typing import ImagePreview, TablePreview
from PIL import Image

from shopfloor.catalog.atomic_write import atomic_write
from shopfloor.catalog.result_table import COLUMN_TYPES, marked_table, unmarked_table

if TYPE_CHECKING:
    from altair import TopLevelMixin

#: Turns a Vega-Lite specification into a PNG file.
_DRAW = """
import sys, vl_convert
sys.stdout.buffer.write(vl_convert.vegalite_to_png(sys.stdin.buffer.read().decode(), allowed_base_urls=[]))
"""
#: Files of text are UTF-8 whatever the locale of the machine.
_UTF8 = {"open_args_save": {"mode": "w", "encoding": "utf-8"}, "open_args_load": {"mode": "r", "encoding": "utf-8"}}


class AtomicSave:
    """Mixin for a file dataset of kedro-datasets on a local disk: save to a temporary name, then rename."""

    _filepath: PurePosixPath

    def save(self, data: Any) -> None:
        final = Path(self._filepath)
        with atomic_write(final) as partial:
            self._filepath = PurePosixPath(partial)
            try:
                super().save(data)  # type: ignore[misc]  # the file dataset that this is mixed into
            finally:
                self._filepath = PurePosixPath(final)


def _of_files_only(preview: Callable[..., Any]) -> Callable[..., Any]:
    """No preview of a file that is not there; else kedro-viz warns of every result that no run has made yet."""

    @wraps(preview)
    def preview_if_there(self: AtomicSave, *args: Any, **kwargs: Any) -> Any:
        return preview(self, *args, **kwargs) if Path(self._filepath).is_file() else None

    return preview_if_there


class ParquetDataset(AtomicSave, pandas.ParquetDataset):
    """A table that programs read, as Parquet with the types of its columns."""

    DEFAULT_SAVE_ARGS: ClassVar[dict[str, Any]] = {"index": False}

    preview = _of_files_only(pandas.ParquetDataset.preview)


class CSVDataset(AtomicSave, pandas.CSVDataset):
    """A table of results as CSV: types as :mod:`shopfloor.catalog.result_table` says, no text that spreadsheets run."""

    DEFAULT_LOAD_ARGS: ClassVar[dict[str, Any]] = {
        "dtype": COLUMN_TYPES,
        "keep_default_na": False,
        "na_values": [""],
    }
    # A line break of two characters makes Python's writer quote each of the two inside a text.
    DEFAULT_SAVE_ARGS: ClassVar[dict[str, Any]] = {"index": False, "lineterminator": "\r\n"}
    DEFAULT_FS_ARGS: ClassVar[dict[str, Any]] = {"open_args_save": {**_UTF8["open_args_save"], "newline": ""}}

    def save(self, data: pd.DataFrame) -> None:
        super().save(marked_table(data))

    def load(self) -> pd.DataFrame:
        return unmarked_table(super().load())

    @_of_files_only
    def preview(self, nrows: int = 5) -> TablePreview:
        """The first lines; JSON has no ``pandas.NA``."""
        shown = super().preview(nrows)
        return TablePreview(
            {**shown, "data": [[None if cell is pd.NA else cell for cell in line] for line in shown["data"]]}
        )


class JSONDataset(AtomicSave, json.JSONDataset):
    """Plain data as JSON."""

    DEFAULT_FS_ARGS = _UTF8

    preview = _of_files_only(json.JSONDataset.preview)


class TextDataset(AtomicSave, text.TextDataset):
    """A text file, e.g. the HTML report."""

    DEFAULT_FS_ARGS = _UTF8


class VegaLite(dict[str, Any]):
    """The Vega-Lite specification of a figure, which a notebook shows as Altair shows a chart.

    ``altair.Chart.from_dict`` makes a chart of it again, in half a second.
    """

    def to_dict(self, **_: Any) -> dict[str, Any]:
        """Give the specification as a chart of Altair does."""
        return dict(self)

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> Any:
        import altair

        renderer = altair.renderers.get()
        return renderer(dict(self)) if renderer else {}


class FigureDataset(AtomicSave, json.JSONDataset):
    """A figure as its Vega-Lite specification, which any Vega-Lite program draws."""

    DEFAULT_FS_ARGS = _UTF8
    # NaN is no JSON: browsers would refuse the whole figure.
    DEFAULT_SAVE_ARGS: ClassVar[dict[str, Any]] = {"allow_nan": False, "ensure_ascii": False, "sort_keys": True}

    def save(self, data: TopLevelMixin | VegaLite) -> None:
        super().save(data.to_dict(validate=False))  # which tests do: it takes longer than to draw the figure

    def load(self) -> VegaLite:
        return VegaLite(super().load())

    @_of_files_only
    def preview(self) -> ImagePreview:
        """The figure as a picture.

        A process of its own draws it: kedro-viz asks in a fork, where vl-convert waits for ever if its parent drew.
        """
        command = [sys.executable, "-c", _DRAW]
        drawn = subprocess.run(command, input=Path(self._filepath).read_bytes(), capture_output=True, check=True)
        return ImagePreview(b64encode(drawn.stdout).decode("ascii"))


class PictureDataset(AtomicSave, pillow.ImageDataset):
    """A picture as PNG or JPEG."""

    def save(self, data: Image.Image) -> None:
        with atomic_write(Path(self._filepath)) as partial:
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
