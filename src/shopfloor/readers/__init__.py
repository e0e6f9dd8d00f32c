"""Readers: one module per dataset layout, from a folder on disk to a checked index table.

A reader module has ``categories(root)`` and ``read(root, dataset, category, **options)``, and
``default_root()`` where the data has a known place. The user's own module, named by its dotted path, works as
well. Modules are imported only when asked
for, and this package imports nothing heavy, since it is used while the grid is planned.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from shopfloor.readers.findings import DatasetError, Finding

if TYPE_CHECKING:
    import pandas as pd

#: Reader of a dataset whose entry names none.
DEFAULT_READER = "folder"

__all__ = ["DEFAULT_READER", "DatasetError", "available_readers", "find_root", "load_reader", "read_index"]


def available_readers() -> list[str]:
    """Name the readers of this package."""
    modules = (info.name for info in pkgutil.iter_modules(__path__))
    return sorted(name for name in modules if _is_reader(importlib.import_module(f"{__name__}.{name}")))


def load_reader(reader: str) -> ModuleType:
    """Import one reader.

    Args:
        reader: Name of a module of this package, or the dotted path of the user's own module.

    Returns:
        The module.

    Raises:
        DatasetError: ``READER_UNKNOWN``.
    """
    name = reader if "." in reader else f"{__name__}.{reader}"
    try:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ModuleNotFoundError(name=name)
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not error.name or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # the reader exists and lacks a package of its own
        raise DatasetError(_unknown(reader, "there is no such reader")) from None
    if not _is_reader(module):
        raise DatasetError(_unknown(reader, "the module has no functions categories and read"))
    return module


def find_root(reader: str, root: str | Path | None) -> Path:
    """The configured root, or the reader's default place.

    Args:
        reader: As for ``load_reader``.
        root: Root from the configuration, None to use the default place.

    Returns:
        The root; whether it holds the dataset is checked on reading.

    Raises:
        DatasetError: ``ROOT_MISSING``, ``READER_UNKNOWN``, ``PACKAGE_MISSING``.
    """
    if root is not None:
        return Path(root).expanduser()
    module = load_reader(reader)
    if not hasattr(module, "default_root"):
        what = f"reader {reader} has no default place and no root is configured"
        action = "Set root in the dataset's entry of the configuration"
        raise DatasetError(Finding("ROOT_MISSING", "", "", what, action=action))
    default: Path = module.default_root()
    return default


def read_index(
    reader: str,
    root: str | Path | None,
    dataset: str,
    category: str,
    options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Read and check one category.

    Args:
        reader: As for ``load_reader``.
        root: Dataset root, None for the reader's default place.
        dataset: Name of the dataset.
        category: Name of the category.
        options: Options of the reader.

    Returns:
        Index table, see ``shopfloor.readers.index_table``.

    Raises:
        DatasetError: With every error found.
    """
    module, options = load_reader(reader), dict(options or {})
    parameters = inspect.signature(module.read).parameters.values()
    accepted = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if not takes_any and (unknown := [name for name in options if name not in accepted]):
        what = f"unknown option {', '.join(unknown)} of reader {reader}"
        where = f"accepted: {', '.join(accepted) or 'none'}"
        raise DatasetError(Finding("OPTION_INVALID", dataset, category, what, where, "Correct the configuration"))
    index: pd.DataFrame = module.read(find_root(reader, root), dataset, category, **options)
    return index


def _is_reader(module: ModuleType) -> bool:
    return callable(getattr(module, "read", None)) and callable(getattr(module, "categories", None))


def _unknown(reader: str, reason: str) -> Finding:
    where = f"available: {', '.join(available_readers())}, or the dotted path of a module"
    return Finding("READER_UNKNOWN", "", "", f"reader {reader!r}: {reason}", where, "Correct the configuration")
