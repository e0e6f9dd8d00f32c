"""Small checks of the parameter files; what is wrong is named with the entry that asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shopfloor.planning.cell import Parameters
from shopfloor.planning.errors import GridError, joined


def check_keys(where: str, entry: Parameters, known: set[str]) -> None:
    """A misspelt key would leave a setting as it was, without a word."""
    if unknown := set(map(str, entry)) - known:
        raise GridError(f"{where}: unknown key {joined(unknown)}. Known keys: {joined(known)}.")


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


def percentage(where: str, key: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 100:
        raise GridError(f"{where}.{key}: {value!r} is not a percentage between 0 and 100.")
    return value
