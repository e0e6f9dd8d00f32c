"""What a check says, and the one error that carries it.

Codes and texts follow the dataset specification (3.2, 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import click

SHOWN_PATHS = 10


@dataclass(frozen=True)
class Finding:
    """One result of one check.

    Attributes:
        code: Name of the check, e.g. ``MASK_MISSING``.
        dataset: Name of the dataset, may be empty where it is not known.
        category: Name of the category, empty where the finding concerns the whole dataset.
        what: What is wrong.
        where: First place, shown in parentheses.
        action: What to do.
        paths: Everything concerned, relative to the dataset root.
        level: An error stops, a warning is logged.
    """

    code: str
    dataset: str
    category: str
    what: str
    where: str = ""
    action: str = ""
    paths: tuple[str, ...] = ()
    level: Literal["error", "warning"] = "error"

    @property
    def text(self) -> str:
        """``[CODE] dataset/category: what (where). What to do.`` with unprintable characters escaped."""
        place = "/".join(part for part in (self.dataset, self.category) if part)
        where = f" ({self.where})" if self.where else ""
        action = f" {self.action}." if self.action else ""
        text = f"[{self.code}] {place}{': ' if place else ''}{self.what}{where}.{action}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DatasetError(click.ClickException):
    """A dataset that must not be used as it is; the command line prints the text without a traceback.

    Attributes:
        findings: Every error found.
        code, dataset, category: Those of the first finding.
        paths: Up to ten paths of the first finding.
        total: Number of paths of the first finding.
        message: Texts of all findings, one per line.
    """

    def __init__(self, *findings: Finding) -> None:
        first = findings[0]
        self.findings = findings
        self.code, self.dataset, self.category = first.code, first.dataset, first.category
        self.paths, self.total = first.paths[:SHOWN_PATHS], len(first.paths)
        super().__init__("\n".join(finding.text for finding in findings))

    def __reduce__(self) -> tuple[type[DatasetError], tuple[Finding, ...]]:
        """Travels between processes as its findings."""
        return type(self), self.findings
