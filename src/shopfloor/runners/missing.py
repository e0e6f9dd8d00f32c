"""What a node that sums up a grid receives in place of a result that is not there."""

from __future__ import annotations

from dataclasses import dataclass

#: Tag of nodes that take :class:`MissingResult` for an input that is not there, such as those that make the reports.
TOLERANT = "tolerates_missing_inputs"


@dataclass(frozen=True)
class MissingResult:
    """A result that does not exist.

    Attributes:
        status: ``failed`` when a node that it depends on raised in this run, ``missing`` when it was never computed.
        reason: The error's text, or what to do.
    """

    status: str
    reason: str
