"""DRA's loss: one deviation loss per head, each with its own idea of what is anomalous."""

from __future__ import annotations

import torch
from torch import nn

from shopfloor.detectors.deviation import DeviationLoss
from shopfloor.detectors.dra.torch_model import LABELLED, NORMAL, PSEUDO, HeadScores


class DraLoss(nn.Module):
    """Sum of the deviation losses of the four heads (specification of DRA, section 6).

    The holistic head is the other way round: it is to deviate on normal images. A head without any image of its kinds
    in the batch is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deviation = DeviationLoss()

    def forward(self, scores: HeadScores, kinds: torch.Tensor) -> torch.Tensor:
        """Compares the scores of a training batch with what they should be.

        Args:
            scores: From :class:`shopfloor.detectors.dra.torch_model.DraModel`, given the same kinds.
            kinds: Kind of each image ``(B,)``: 0 normal, 1 labelled anomaly, 2 pseudo anomaly.

        Returns:
            The loss ``()``, 0 or above.
        """
        terms = [
            (scores.holistic, kinds == NORMAL),
            (scores.seen, kinds[kinds != PSEUDO] == LABELLED),
            (scores.pseudo, kinds[kinds != LABELLED] == PSEUDO),
            (scores.composite, kinds != NORMAL),
        ]
        return torch.stack([self.deviation(head, is_anomalous) for head, is_anomalous in terms if len(head)]).sum()
