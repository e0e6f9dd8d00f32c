"""When a training ends before its full length (protocol 4.7); told without importing a detector."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from shopfloor.detectors.errors import DetectorError
from shopfloor.entries import Expected, OneOf, Settings, WholeNumber

#: What a training can be stopped by, and which end of it is the better one.
MONITORS = {"image_auroc": "max", "good_loss": "min"}


class StoppingRule(Settings):
    """When a training ends before its full length.

    Attributes:
        monitor: ``image_auroc``, of the raw scores of all validation images; or ``good_loss``, the training loss on the
            good ones.
        patience: Checks in a row without a better value after which the training ends.
        min_delta: A value is better if it is so by more than this. With 0 a tie is not better.
        every_n_epochs: Epochs from one check to the next.
    """

    monitor: Annotated[Literal["image_auroc", "good_loss"], OneOf(*MONITORS)]
    patience: WholeNumber
    min_delta: Annotated[int | float, Field(ge=0, lt=math.inf), Expected("a number of at least 0")] = 0.0
    every_n_epochs: WholeNumber = 1

    def check_length(self, max_epochs: int | None, class_path: str) -> None:
        """Refuse a training that is too short to be stopped.

        Args:
            max_epochs: Full length in epochs; None or -1 where something else ends the training.
            class_path: Name of the detector, for messages.

        Raises:
            DetectorError: There is at most one epoch, or none that is checked.
        """
        if max_epochs is None or max_epochs < 0:
            return
        if max_epochs <= 1:
            raise DetectorError(
                f"Detector {class_path} is trained for {max_epochs} epoch, so it cannot be stopped early. "
                "Leave it out of the stopping rules, or raise trainer.max_epochs."
            )
        if self.every_n_epochs > max_epochs:
            raise DetectorError(
                f"Detector {class_path}: a check every {self.every_n_epochs} epochs never happens in {max_epochs}. "
                "Lower stopping.every_n_epochs."
            )
