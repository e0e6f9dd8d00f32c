"""What is wrong with a detector, told without importing one."""

from __future__ import annotations

import click


class DetectorError(click.ClickException):
    """A detector's settings, its training part or its output are not usable."""
