"""Detectors for tests of the pipelines: one that raises, one that takes its time."""

from __future__ import annotations

import time
from typing import Any

from anomalib.models import Padim


class Broken(Padim):
    """Raises in the middle of its training."""

    def training_step(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("the valve is <stuck>")


class Slow(Padim):
    """Takes a fifth of a second longer per training batch."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(0.2)
        return super().training_step(*args, **kwargs)
