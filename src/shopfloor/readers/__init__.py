"""Readers: one module per dataset layout, from a folder on disk to a checked index table.

A reader module says what its layout is and lists what is there; decoding and checking are the same for all of them.
It has

* ``LAYOUT``: the layout it expects, in words;
* ``categories(root)``: folder or list file of each category, relative to the root, by name; empty where the layout is
  another one;
* ``list_files(root, dataset, category, folder, *, <options>)``: the category's images and masks, as
  :class:`~shopfloor.readers.category_files.CategoryFiles`; ``root`` is the dataset's folder, ``folder`` what
  ``categories`` gives for the category, and ``dataset`` and ``category`` are names for messages and tables;
* ``default_root()``, where the data has a known place.

The user's own module, named by its dotted path, works as well. Modules are imported only when asked for, and this
package imports nothing heavy, since it is used while the grid is planned.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.checks import check_category
from shopfloor.readers.findings import DatasetError, Finding
from shopfloor.readers.layout_checks import layout_unknown, require_category, require_root
from shopfloor.readers.listing import list_folder
from shopfloor.readers.measure import measure
from shopfloor.readers.split_checks import with_usable_names
from shopfloor.readers.types import FileFacts

if TYPE_CHECKING:
    import pandas as pd

#: Reader of a dataset whose entry names none.
DEFAULT_READER = "folder"
_SEARCHED_FOLDERS = 200  # per level, when the root is not the right one

__all__ = [
    "DEFAULT_READER",
    "DatasetError",
    "available_readers",
    "find_root",
    "list_categories",
    "list_category",
    "load_reader",
    "read_index",
]


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
        raise DatasetError(_unknown(reader, "the module lacks LAYOUT, categories or list_files"))
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


def list_categories(
    reader: str,
    root: str | Path | None,
    options: Mapping[str, Any] | None = None,
    *,
    dataset: str = "",
    project_page: str = "",
) -> dict[str, str]:
    """Find the categories of a dataset, without opening an image.

    Args:
        reader: As for ``load_reader``.
        root: Dataset root, None for the reader's default place.
        options: Options of the reader.
        dataset: Name of the dataset, for messages.
        project_page: Where the dataset comes from, for messages.

    Returns:
        The folder or list file of each category, relative to the root, by the category's name, sorted.

    Raises:
        DatasetError: ``ROOT_MISSING``, ``LAYOUT_UNKNOWN``, and what the reader finds in files that list categories.
    """
    module, place = load_reader(reader), find_root(reader, root)
    require_root(dataset, place, project_page)
    accepted = _options_of(module.categories)
    chosen = {name: value for name, value in (options or {}).items() if name in accepted}
    try:
        found: dict[str, str] = _findings_of(module.categories, place, **chosen)
    except DatasetError as error:
        raise DatasetError(*(replace(finding, dataset=dataset) for finding in error.findings)) from error
    if not found:
        right = _right_root(module, place, chosen)
        raise DatasetError(layout_unknown(dataset, place, module.LAYOUT, right))
    return dict(sorted(found.items()))


def list_category(
    reader: str,
    root: str | Path | None,
    dataset: str,
    category: str,
    options: Mapping[str, Any] | None = None,
    *,
    project_page: str = "",
) -> CategoryFiles:
    """List the images and masks of one category, without opening them.

    Args:
        reader, root, dataset, project_page: As for ``list_categories``.
        category: Name of the category.
        options: Options of the reader; every reader has ``strict_counts``, which makes counts that differ from the
            published ones an error.

    Returns:
        The category, with what its layout shows to be wrong among its findings.

    Raises:
        DatasetError: The category cannot be listed at all.
    """
    module, options = load_reader(reader), dict(options or {})
    strict_counts = options.pop("strict_counts", False)
    accepted = _options_of(module.list_files)
    if unknown := [name for name in options if name not in accepted]:
        what = f"unknown option {', '.join(unknown)} of reader {reader}"
        where = f"accepted: {', '.join([*accepted, 'strict_counts'])}"
        raise DatasetError(Finding("OPTION_INVALID", dataset, category, what, where, "Correct the configuration"))
    wrong = [f"{name}: {value!r}" for name, value in options.items() if not _fits(accepted[name], value)]
    if not isinstance(strict_counts, bool):
        wrong.append(f"strict_counts: {strict_counts!r}")
    if wrong:
        what = f"option of reader {reader} with a value of the wrong kind ({', '.join(wrong)})"
        raise DatasetError(Finding("OPTION_INVALID", dataset, category, what, action="Correct the configuration"))
    available = list_categories(reader, root, options, dataset=dataset, project_page=project_page)
    require_category(dataset, category, available)
    place = find_root(reader, root)
    files: CategoryFiles = _findings_of(module.list_files, place, dataset, category, available[category], **options)
    return replace(with_usable_names(files), strict_counts=files.strict_counts or bool(strict_counts))


def read_index(
    reader: str,
    root: str | Path | None,
    dataset: str,
    category: str,
    options: Mapping[str, Any] | None = None,
    *,
    project_page: str = "",
    known: Mapping[str, FileFacts] | None = None,
) -> tuple[pd.DataFrame, list[Finding]]:
    """List, decode and check one category.

    Args:
        reader, root, dataset, category, options, project_page: As for ``list_category``.
        known: Facts of its files from an earlier run; what has not changed since is not opened again.

    Returns:
        Index table, see ``shopfloor.readers.index_table``, and the warnings.

    Raises:
        DatasetError: With every error found.
    """
    files = list_category(reader, root, dataset, category, options, project_page=project_page)
    return check_category(files, measure(files, known))


def _options_of(function: Callable[..., Any]) -> dict[str, str]:
    """Options of a reader's function and their annotations."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: str(p.annotation) for p in parameters if p.kind is p.KEYWORD_ONLY}


def _fits(annotation: str, value: Any) -> bool:
    """Whether a value from a parameter file is of the kind that a reader asks for; only plain kinds are compared."""
    if annotation.endswith("| None") and value is None:
        return True
    kind = annotation.removesuffix("| None").strip()
    if kind == "bool":
        return isinstance(value, bool)
    return kind != "int" or (isinstance(value, int) and not isinstance(value, bool))


def _findings_of(function: Callable[..., Any], root: Path, *arguments: Any, **options: Any) -> Any:
    """Call a reader; a folder that cannot be listed is a finding like any other."""
    try:
        return function(root, *arguments, **options)
    except OSError as error:
        what = f"{error.filename or root} cannot be read: {error.strerror or error}"
        dataset, category = (*arguments[:2], "", "")[:2]
        finding = Finding("ROOT_MISSING", dataset, category, what, action="Change its permissions or unpack again")
        raise DatasetError(finding) from error


def _right_root(module: ModuleType, root: Path, options: Mapping[str, Any]) -> Path | None:
    """The folder that was probably meant: below the configured one, nearest first, or up to two levels above it."""
    root = root.resolve()
    level = [root]
    for _ in range(3):
        level = [folder / name for folder in level for name in list_folder(folder).folders][:_SEARCHED_FOLDERS]
        if right := next((folder for folder in level if _has_layout(module, folder, options)), None):
            return right
    above = ((root.parent, root.name), (root.parent.parent, root.parent.name))
    for folder, name in above:
        # A neighbour of the root that happens to fit does not make its parent the right root.
        if name and _has_layout(module, folder, options, around=name):
            return folder
    return None


def _has_layout(module: ModuleType, folder: Path, options: Mapping[str, Any], around: str = "") -> bool:
    try:
        found: dict[str, str] = module.categories(folder, **options)
    except (DatasetError, OSError):
        return False
    return any(
        not around or Path(place).parts[:1] in ((around,), ()) or (folder / place).is_file() for place in found.values()
    )


def _is_reader(module: ModuleType) -> bool:
    return all(callable(getattr(module, name, None)) for name in ("categories", "list_files")) and hasattr(
        module, "LAYOUT"
    )


def _unknown(reader: str, reason: str) -> Finding:
    where = f"available: {', '.join(available_readers())}, or the dotted path of a module"
    return Finding("READER_UNKNOWN", "", "", f"reader {reader!r}: {reason}", where, "Correct the configuration")
