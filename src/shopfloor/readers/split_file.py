"""CSV and JSON files that list the images of a dataset: rows with their line numbers, and paths that stay inside the
root."""

from __future__ import annotations

import csv
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from shopfloor.readers.types import Sample

if TYPE_CHECKING:
    import _csv


class SplitFileError(ValueError):
    """A split file, or a value in it, that cannot be used.

    Attributes:
        line: Line number, 1 for the header.
        reason: What is wrong there.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line, self.reason = line, reason


@dataclass(frozen=True)
class Row:
    """One row: its line number and its cells by column, stripped of blanks; an absent column is an empty
    cell."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


def read_rows(path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> list[Row]:
    """Read a CSV (UTF-8, header required, separated by commas).

    Args:
        path: The file.
        required: Columns that must be there.
        optional: Columns that may be there.

    Returns:
        Rows in the order of the file, blank lines left out.

    Raises:
        SplitFileError: Not readable, not UTF-8, wrong columns, or a row of another length than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(_rows(csv.reader(file, strict=True), required, optional))
    except UnicodeDecodeError as error:
        raise SplitFileError(1, f"the file is not UTF-8 ({error.reason})") from error
    except OSError as error:
        raise SplitFileError(1, f"the file cannot be read ({error.strerror})") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file (UTF-8) that holds an object.

    Raises:
        SplitFileError: Not readable, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SplitFileError(1, f"the file cannot be read ({error.strerror})") from error
    except json.JSONDecodeError as error:
        raise SplitFileError(error.lineno, f"not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # bytes that are not UTF-8, numbers too long, nesting too deep
        raise SplitFileError(1, f"not JSON ({error})") from error
    if not isinstance(content, dict):
        raise SplitFileError(1, f"a {type(content).__name__} where an object with keys is expected")
    return content


def _rows(reader: _csv.Reader, required: tuple[str, ...], optional: tuple[str, ...]) -> Iterator[Row]:
    try:
        header = [name.strip() for name in next(reader, [])]
        if missing := [name for name in required if name not in header]:
            raise SplitFileError(1, f"column {missing[0]} is missing")
        if unknown := [name for name in header if name not in required + optional]:
            raise SplitFileError(1, f"unknown column {unknown[0]!r}")
        if len(set(header)) < len(header):
            raise SplitFileError(1, "a column occurs twice")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise SplitFileError(reader.line_num, f"{len(cells)} cells under {len(header)} columns")
            yield Row(reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
    except csv.Error as error:
        raise SplitFileError(reader.line_num, str(error)) from error


@dataclass(frozen=True)
class ListedSamples:
    """What the rows of a split file name.

    Attributes:
        samples: By image.
        lines: Line that names a file, by image or mask.
        problems: Line and reason of each row that cannot be used.
    """

    samples: dict[str, Sample]
    lines: dict[str, int]
    problems: list[tuple[int, str]]

    def without(self, absent: Iterable[str]) -> list[Sample]:
        """The samples of which every file exists."""
        lost = set(absent)
        return [sample for sample in self.samples.values() if lost.isdisjoint((sample.image, *sample.masks))]


def list_samples(rows: Iterable[Row], sample_of: Callable[[Row], Sample]) -> ListedSamples:
    """Make a sample of every row; no image may occur twice.

    Args:
        rows: Rows of one category.
        sample_of: Makes the sample of a row; a ValueError says why it cannot.

    Returns:
        The samples and what is wrong with the other rows.
    """
    listed = ListedSamples({}, {}, [])
    for row in rows:
        try:
            sample = sample_of(row)
            if sample.image in listed.samples:
                raise ValueError(f"{sample.image} occurs a second time, first on line {listed.lines[sample.image]}")
        except ValueError as error:
            listed.problems.append((row.line, str(error)))
            continue
        listed.samples[sample.image] = sample
        listed.lines.update(dict.fromkeys((sample.image, *sample.masks), row.line))
    return listed


def path_inside(root: Path, folder: Path, value: str) -> str:
    """Resolve a path from a split file.

    Args:
        root: Dataset root, which the path must not leave.
        folder: Folder that the value is relative to.
        value: The cell.

    Returns:
        Path relative to the root, with ``/``.

    Raises:
        ValueError: Empty, absolute, leaving the root by ``..`` or by a symbolic link; the text is the reason.
    """
    if not value:
        raise ValueError("empty path")
    if PurePosixPath(value).is_absolute() or PureWindowsPath(value).anchor:
        raise ValueError(f"absolute path {value}")
    if ".." in PurePosixPath(value.replace("\\", "/")).parts or "\0" in value:
        raise ValueError(f"path {value} leaves the root")
    path = folder / value
    inside = path.relative_to(root)
    below_root = (path, *path.parents)[: len(inside.parts)]
    if any(map(_leads_elsewhere, below_root)):  # to resolve every path would take most of the time of a listing
        try:
            is_inside = path.resolve().is_relative_to(root.resolve())
        except (OSError, RuntimeError) as error:  # a loop of links
            raise ValueError(f"path {value} cannot be resolved") from error
        if not is_inside:
            raise ValueError(f"path {value} leaves the root through a link")
    return inside.as_posix()


def _leads_elsewhere(path: Path) -> bool:
    """Tell whether a path is a symbolic link or a junction of Windows, or cannot be looked at."""
    try:
        facts = path.lstat()
    except (OSError, ValueError):
        return True
    return stat.S_ISLNK(facts.st_mode) or bool(getattr(facts, "st_reparse_tag", 0))
