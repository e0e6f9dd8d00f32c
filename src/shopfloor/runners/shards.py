"""Parts of a grid that several runs make at the same time without talking to each other, as in a job array."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import click
from kedro.pipeline import Pipeline

from shopfloor.runners.cells import AFTER, BEFORE, cells_of, only

_PREPARE = "prepare"


@dataclass(frozen=True)
class Shard:
    """A part of a grid: one of ``count`` parts of its trainings, or what all trainings share.

    Attributes:
        number: 1 to ``count``; 0 for what is shared and must be there before.
        count: Number of parts.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str | None) -> Shard | None:
        """Read ``3/8`` or ``prepare``.

        Raises:
            ClickException: It is neither.
        """
        if text is None:
            return None
        if str(text) == _PREPARE:
            return cls(0, 0)
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(text))
        if match and 1 <= int(match[1]) <= int(match[2]):
            return cls(int(match[1]), int(match[2]))
        raise click.ClickException(
            f"shard={text} is no shard. Say shard=3/8 for the third of eight parts of the trainings, or shard=prepare "
            "for what all of them share, which must be finished before."
        )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}" if self.count else _PREPARE

    @property
    def shares_data(self) -> bool:
        """Whether other shards may run at the same time: the parts do, what they share does not."""
        return self.count > 0

    def select(self, pipeline: Pipeline) -> Pipeline:
        """The nodes of this part.

        Trainings are dealt out by a hash of their names: neighbours in a grid take about the same time, and dealt out
        in turn one part could get all that are long. What rests on several trainings (the reports) is in no part.
        """
        cells = cells_of(pipeline)
        if not self.count:
            return only(pipeline, _shared_by(pipeline, cells))
        trainings = sorted(set(cells.values()) - {BEFORE, AFTER}, key=_hash)
        mine = set(trainings[self.number - 1 :: self.count])
        return only(pipeline, {node for node, cell in cells.items() if cell in mine})


def fingerprint(pipeline: Pipeline) -> str:
    """Tells grids apart: shards of different grids may make the same files."""
    return _hash("\n".join(sorted(node.name for node in pipeline.nodes)))[:16]


def _shared_by(pipeline: Pipeline, cells: dict[str, str]) -> set[str]:
    """The nodes before all trainings that something of a training needs."""
    needed: set[str] = set()
    shared = set()
    for node in reversed(pipeline.nodes):
        if cells[node.name] == BEFORE and needed.intersection(node.outputs):
            shared.add(node.name)
        if node.name in shared or cells[node.name] not in {BEFORE, AFTER}:
            needed.update(node.inputs)
    return shared


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
