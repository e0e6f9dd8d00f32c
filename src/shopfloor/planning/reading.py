"""Entries of the parameter files, read into their models when they are used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shopfloor.entries import sentences
from shopfloor.planning.errors import GridError, joined

Model = TypeVar("Model", bound=BaseModel)


def read_settings(model: type[Model], where: str, values: Any) -> Model:
    """Read an entry of the parameter files.

    Args:
        model: What the entry may hold.
        where: Its path, e.g. ``detectors.padim``.
        values: What stands there; null is an entry without keys.

    Raises:
        GridError: Something is wrong with it; one line for each finding.
    """
    try:
        return model.model_validate({} if values is None else values)
    except ValidationError as error:
        raise GridError("\n".join(sentences(where, error))) from error


class Entries(Mapping[str, Model]):
    """Entries of a block by name, each read when it is first used.

    Most datasets and detectors of the files are part of no experiment of a run, and what is wrong with them is not
    in its way.

    Args:
        block: Name of the block.
        model: What an entry may hold.
        values: The block as it stands.

    Raises:
        GridError: It holds no entries, or one whose name cannot be part of a path.
    """

    def __init__(self, block: str, model: type[Model], values: Any) -> None:
        self.block, self._model = block, model
        self._values: Mapping[str, Any] = values or {}
        self._read: dict[str, Model] = {}
        if not isinstance(self._values, Mapping):
            raise GridError(f"{block}: expected names with settings below them, found {values!r}.")
        # a dot or slash would not be one part of a path; timm's tags have dots, torchvision's networks a prefix
        allowed = r"(torchvision/)?[\w.-]+" if block == "backbones" else r"[\w-]+"
        for name in self._values:
            if not isinstance(name, str) or not re.fullmatch(allowed, name):
                raise GridError(
                    f"{block}: {name!r} cannot be a name. Use letters, digits, _ and - (a number in quotes)."
                )

    def __getitem__(self, name: str) -> Model:
        if name not in self._read:
            self._read[name] = read_settings(self._model, f"{self.block}.{name}", self._values[name])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def of(self, name: str, where: str) -> Model:
        """Give the entry that another one names.

        Args:
            name: The name.
            where: Path of the key that names it.

        Raises:
            GridError: There is no such entry, or something is wrong with it.
        """
        if name not in self._values:
            raise GridError(f"{where}: {name!r} is unknown. Known {self.block}: {joined(self)}.")
        return self[name]
