"""Node functions with a cell's coordinates bound to them, and what they read beside their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


class SourcesGoneError(click.ClickException):
    """The files that a node reads from outside are not there at all, so nothing can be compared with them."""


class Sources(NamedTuple):
    """What a node reads from outside the catalog.

    Attributes:
        files: Files by a name that does not depend on where their folder lies.
        notes: What lists say of a file, by its name: split, label, masks.
    """

    files: Mapping[str, Path]
    notes: Mapping[str, str] = {}


def bind(function: Callable[..., Any], **coordinates: Any) -> Callable[..., Any]:
    """Bind a cell's coordinates to a node function; it keeps its name, text and source for kedro-viz."""
    return update_wrapper(partial(function, **coordinates), function)


def bound(function: Callable[..., Any]) -> dict[str, Any]:
    """Give the coordinates that are bound to a node function, in one step or several."""
    found: dict[str, Any] = {}
    while isinstance(function, partial):
        found = {**function.keywords, **found}
        function = function.func
    return found


def reads(list_sources: Callable[..., Sources]) -> Callable[[Function], Function]:
    """Mark a node function that reads files from outside the catalog.

    Args:
        list_sources: Lists them, opening none. It takes the node's inputs that are parameters, in their order, and the
            coordinates that are bound to the node function. It raises :class:`SourcesGoneError` where nothing is there.
    """

    def mark(function: Function) -> Function:
        function.list_sources = list_sources  # type: ignore[attr-defined]  # a mark that `sources_of` reads
        return function

    return mark


def sources_of(function: Callable[..., Any], parameters: list[Any]) -> Sources | None:
    """List what a node function reads from outside; None for a function that reads nothing."""
    list_sources = getattr(function, "list_sources", None)
    return list_sources(*parameters, **bound(function)) if list_sources else None
