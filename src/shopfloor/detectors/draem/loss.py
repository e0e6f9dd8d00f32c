"""Loss of DRAEM, in which the normal pixels count as well."""

from __future__ import annotations

import torch
from anomalib.models.image.draem.loss import DraemLoss as AnomalibDraemLoss
from kornia.losses import FocalLoss as KorniaFocalLoss

_CLASSES = 2  # normal and anomalous


class FocalLoss(KorniaFocalLoss):
    """Focal loss without class weights, gamma 2, mean over the pixels (specification of anomalib's models, section 4).

    kornia's mean is over pixels and classes, the original's over pixels. The original also smooths its targets by 1e-5,
    which changes the value in the fourth digit and is left out.
    """

    def __init__(self) -> None:
        super().__init__(alpha=None, gamma=2.0, reduction="mean")

    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Focal loss ``()``, 0 or more.

        Args:
            pred: Logits ``(B, 2, H, W)``: normal, anomalous.
            target: Classes ``(B, H, W)``, int64, 0 or 1.
        """
        return _CLASSES * super().forward(pred, target)


class DraemLoss(AnomalibDraemLoss):
    """anomalib's sum of squared error, 1 - SSIM and focal loss, with another focal loss.

    anomalib asks kornia for alpha = 1, which gives normal pixels the weight 0: the network can learn only to find
    everything anomalous.
    """

    def __init__(self) -> None:
        super().__init__()
        self.focal_loss = FocalLoss()

    def forward(
        self,
        input_image: torch.Tensor,
        reconstruction: torch.Tensor,
        anomaly_mask: torch.Tensor,
        prediction: torch.Tensor,
    ) -> torch.Tensor:
        """Sum of the three losses ``()``, 0 or more; in float32 in a training of mixed precision, too.

        Args:
            input_image: Good images ``(B, 3, S, S)`` in [0, 1].
            reconstruction: Their reconstruction ``(B, 3, S, S)``, any range.
            anomaly_mask: Masks of the synthetic defects ``(B, 1, S, S)``, 0 or 1.
            prediction: Logits ``(B, 2, S, S)``: normal, anomalous.
        """
        # The variances of SSIM are small differences of large numbers.
        with torch.autocast(input_image.device.type, enabled=False):
            return super().forward(input_image.float(), reconstruction.float(), anomaly_mask, prediction.float())
