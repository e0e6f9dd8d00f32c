"""Node functions with a cell's coordinates bound to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any


def bind(function: Callable[..., Any], **coordinates: Any) -> Callable[..., Any]:
    """A node function with a cell's coordinates bound; it keeps its name, text and source for kedro-viz."""
    return update_wrapper(partial(function, **coordinates), function)
