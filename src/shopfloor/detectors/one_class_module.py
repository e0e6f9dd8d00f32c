"""Say what anomalib asks of all detectors of our own that are no variants of anomalib's."""

from __future__ import annotations

from typing import Any

from anomalib import LearningType
from anomalib.models import AnomalibModule
from lightning.pytorch.utilities.types import STEP_OUTPUT


class OneClassModule(AnomalibModule):
    """Validates as it tests, and counts as ``ONE_CLASS``."""

    def validation_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Scores a batch, as in a test."""
        return self.test_step(*args, **kwargs)

    @property
    def learning_type(self) -> LearningType:
        """``ONE_CLASS``, also of what learns from labels or not at all: anomalib's Engine trains no other kind."""
        return LearningType.ONE_CLASS
