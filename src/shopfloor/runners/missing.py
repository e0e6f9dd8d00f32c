"""What a node that sums up a grid receives in place of a result that is not there."""

from __future__ import annotations

from dataclasses import dataclass

#: Tag of nodes that take :class:`MissingResult` for an input that is not there, such as those that make the reports.
TOLERANT = "tolerates_missing_inputs"
#: Tag of nodes that also take what runs of other grids made, such as the page over all experiments: it counts by what
#: it was made from, not by what this run's grid would make of it.
ACROSS_GRIDS = "across_grids"


@dataclass(frozen=True)
class MissingResult:
    """A result that may not be used.

    Attributes:
        status: ``failed`` when a node that it depends on raised in this run or its file is damaged, ``outdated`` when
            it exists but was made from other inputs than those there now, ``missing`` when it was never computed.
        reason: The error's text, or what to do.
    """

    status: str
    reason: str
