"""Small checks of the parameter files; what is wrong is named with the entry that asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import click

from shopfloor.planning.cell import Parameters

#: So many names are listed where none is like the one that was asked for.
_FEW = 20


class GridError(click.ClickException):
    """A parameter file asks for something impossible; the text names the entry."""


def check_keys(where: str, entry: Parameters, known: set[str]) -> None:
    """A misspelt key would leave a setting as it was, without a word."""
    if unknown := set(map(str, entry)) - known:
        raise GridError(f"{where}: unknown key {joined(unknown)}. Known keys: {joined(known)}.")


def entry_of(parameters: Parameters, block: str, name: str, where: str) -> Parameters:
    entries = parameters.get(block) or {}
    if not isinstance(name, str) or name not in entries:
        raise GridError(f"{where}: {name!r} is unknown. Known {block}: {joined(entries)}.")
    entry = entries[name] or {}
    if not isinstance(entry, Mapping):
        raise GridError(f"{block}.{name}: expected keys and values (e.g. root: /path/to/folder), found {entry!r}.")
    return entry


def block_of(parameters: Parameters, name: str) -> Parameters:
    block = parameters.get(name)
    if not isinstance(block, Mapping):
        raise GridError(f"{name}: this block of the parameter files is missing.")
    return block


def list_of(experiment: str, key: str, settings: Parameters) -> list[Any]:
    values = settings.get(key)
    if isinstance(values, str | int | float):  # all that --params can say: Kedro splits it at commas
        values = [values]
    if not isinstance(values, list) or not values:
        raise GridError(f"{experiment}.{key}: expected a list with at least one entry, found {values!r}.")
    return values


def whole_number(where: str, key: str, value: Any, smallest: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise GridError(f"{where}.{key}: expected a whole number of at least {smallest}, found {value!r}.")
    return value


def check_path(where: str, entry: Parameters, key: str) -> None:
    if not isinstance(entry.get(key) or "", str):
        raise GridError(f"{where}.{key}: expected the path of a folder, found {entry[key]!r}.")


def percentage(where: str, key: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 100:
        raise GridError(f"{where}.{key}: {value!r} is not a percentage between 0 and 100.")
    return value


def joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names))) or "none"


def unknown(where: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, with the names that are most like it.

    Args:
        where: The option or entry that asks for it.
        name: What it asks for.
        known: What it could ask for.

    Returns:
        One line.
    """
    names = sorted(set(known))
    if like := get_close_matches(name, names) or [each for each in names if name in each][:3]:
        return f"{where}: {name!r} is unknown. Did you mean {' or '.join(like)}?"
    if len(names) <= _FEW:
        return f"{where}: {name!r} is unknown. Known: {joined(names)}."
    return f"{where}: {name!r} is unknown, and none of {len(names)} known names is like it."
