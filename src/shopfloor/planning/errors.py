"""What is wrong with the parameter files, named with the entry that asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import click

#: So many names are listed where none is like the one that was asked for.
_FEW = 20


class GridError(click.ClickException):
    """A parameter file asks for something impossible; the text names the entry."""


def joined(names: Iterable[str]) -> str:
    """Join names in their order, with a word where there are none."""
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
