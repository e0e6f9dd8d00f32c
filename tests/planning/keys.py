"""Parameters with one key set."""

from __future__ import annotations

import copy
from typing import Any


def with_key(parameters: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Copy the parameters with one key set, e.g. ``detectors.flow.batch_size``."""
    result = copy.deepcopy(parameters)
    *parents, last = path.split(".")
    block = result
    for parent in parents:
        block = block.setdefault(parent, {})
    block[last] = value
    return result
