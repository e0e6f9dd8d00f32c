"""What the columns of result tables hold, and how text is written so that a spreadsheet does not run it.

CSV keeps no types: a category ``01`` would come back as the number 1, ``NA`` as nothing. :data:`COLUMN_TYPES` says for
all result tables what a column holds; a column that is not named there holds numbers (metrics, conditions such as
``noise_4``, image sizes such as ``128``).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from shopfloor.readers.summary import COUNT_COLUMNS

_TEXT = (
    "category", "codes", "condition", "condition_kind", "dataset", "defect_type", "detector", "detectors", "detector_a",
    "detector_b", "device", "domain", "group", "image", "label", "libraries", "licence", "loss", "method", "metric",
    "metrics", "missing", "not_available", "not_told_apart", "note", "project_page", "reason", "remark", "sizes",
    "source", "split", "status", "test_set", "test_set_kind", "title", "transform", "verdict",
)  # fmt: skip
_WHOLE = ("emptied", "epoch", "image_size", "images", "seed")
#: Whole numbers that may be missing.
_COUNTS = (
    *COUNT_COLUMNS, "empty_masks", "vanished", "regions", "lost_regions", "parameters", "epochs", "n_train",
    "n_train_bad", "n_validation", "n_test",
)  # fmt: skip

COLUMN_TYPES: dict[str, str] = {
    **dict.fromkeys(_TEXT, "str"),
    **dict.fromkeys(_WHOLE, "int64"),
    **dict.fromkeys(_COUNTS, "Int64"),
    **dict.fromkeys(("generated", "has_pixel_labels", "pixel_labels"), "boolean"),  # may be missing
    "inside_noise": "bool",
}
"""Type of each column of the result tables that does not simply hold numbers. Empty text is ``""``, never missing."""

# https://owasp.org/www-community/attacks/CSV_Injection, and the mark itself.
_MARK = "'"
_MARKED = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", _MARK)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Give the columns of a result table the types of :data:`COLUMN_TYPES`, whatever its lines happen to hold.

    Args:
        table: A result table; missing text is ``None`` or NaN.

    Returns:
        The same with missing text as ``""``; a column of objects that is not named in the types holds numbers.
    """
    others = {name: "float64" for name, kind in table.dtypes.items() if kind == "object"}
    types = {name: COLUMN_TYPES[name] for name in table if name in COLUMN_TYPES}
    return table.fillna({name: "" for name, kind in types.items() if kind == "str"}).astype({**others, **types})


def marked(value: Any) -> Any:
    """Put ``'`` before a text that a spreadsheet would run as a formula, and before one that begins with ``'``."""
    return f"{_MARK}{value}" if isinstance(value, str) and value.startswith(_MARKED) else value


def unmarked(text: str) -> str:
    """Give the text that :func:`marked` was given."""
    return text.removeprefix(_MARK)


def marked_table(table: pd.DataFrame) -> pd.DataFrame:
    """Mark the text of a table and the names of its columns.

    Raises:
        ValueError: A column holds text and is not named in :data:`COLUMN_TYPES`; it would come back as numbers.
    """
    text = {str(name): table[name].map(marked) for name in table if _holds_text(table[name])}
    if unknown := [name for name in text if COLUMN_TYPES.get(name) != "str"]:
        raise ValueError(
            f"The columns {', '.join(map(repr, unknown))} hold text, which would come back as numbers where it looks "
            "like them. Add them to the text columns in shopfloor/catalog/result_table.py."
        )
    return table.assign(**text).rename(columns=marked)


def unmarked_table(table: pd.DataFrame) -> pd.DataFrame:
    """Undo :func:`marked_table` on a table as it was read; missing text is ``""``, a column without lines is typed."""
    text = {str(name): table[name].fillna("").map(unmarked) for name in table if table[name].dtype == "str"}
    table = table.assign(**text).rename(columns=unmarked)
    return typed(table) if table.empty else table


def _holds_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column) and any(isinstance(cell, str) for cell in column)
