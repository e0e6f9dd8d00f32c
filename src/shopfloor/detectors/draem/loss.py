"""Loss of DRAEM, as in the original code."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_SMOOTHING = 1e-5  # of the focal loss
_WINDOW = 11  # side of the Gaussian window of SSIM, in pixels
_DEVIATION = 1.5  # of the Gaussian, in pixels


class DraemLoss(nn.Module):
    """Sum of squared error, 1 - SSIM and focal loss.

    anomalib's asks kornia for a focal loss in which normal pixels have the weight 0: the network can learn only to find
    everything anomalous. Its SSIM reflects at the borders, and its range is always 1.
    """

    def forward(
        self,
        input_image: torch.Tensor,
        reconstruction: torch.Tensor,
        anomaly_mask: torch.Tensor,
        prediction: torch.Tensor,
    ) -> torch.Tensor:
        """Sum of the three losses ``()``; in float32 in a training of mixed precision, too.

        Args:
            input_image: Good images ``(B, 3, S, S)`` in [0, 1].
            reconstruction: Their reconstruction ``(B, 3, S, S)``, any range.
            anomaly_mask: Masks of the synthetic defects ``(B, 1, S, S)``, 0 or 1.
            prediction: Logits ``(B, 2, S, S)``: normal, anomalous.
        """
        # The variances of SSIM are small differences of large numbers.
        with torch.autocast(input_image.device.type, enabled=False):
            images, reconstruction = input_image.float(), reconstruction.float()
            return (
                functional.mse_loss(reconstruction, images)
                + 1
                - mean_ssim(reconstruction, images)
                + focal_loss(prediction.float(), anomaly_mask)
            )


def mean_ssim(reconstruction: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Structural similarity of the images, mean over pixels, channels and batch.

    Beyond the borders both are 0. The range of values that the constants are made of depends, as in the original, on
    the whole batch of reconstructions: from 0, or -1 if a value is below -0.5, to 1, or 255 if a value is above 128.

    Args:
        reconstruction: Reconstructions ``(B, C, H, W)``, any range.
        images: Images ``(B, C, H, W)`` in [0, 1].

    Returns:
        Similarity ``()``, at most 1.
    """
    channels = images.shape[1]
    distances = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    weights = torch.exp(-(distances**2) / (2 * _DEVIATION**2)).float()
    weights /= weights.sum()
    window = torch.outer(weights, weights).to(images).expand(channels, 1, _WINDOW, _WINDOW)

    def blur(values: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(values, window, padding=_WINDOW // 2, groups=channels)

    lowest, highest = reconstruction.aminmax()
    value_range = (255 if highest > 128 else 1) + (1 if lowest < -0.5 else 0)
    stabiliser_of_means, stabiliser_of_variances = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    mean_x, mean_y = blur(reconstruction), blur(images)
    square_x, square_y, product = mean_x**2, mean_y**2, mean_x * mean_y
    variances = blur(reconstruction * reconstruction) - square_x + (blur(images * images) - square_y)
    covariance = blur(reconstruction * images) - product
    similarity = (2 * product + stabiliser_of_means) * (2 * covariance + stabiliser_of_variances)
    return (similarity / ((square_x + square_y + stabiliser_of_means) * (variances + stabiliser_of_variances))).mean()


def focal_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Focal loss without class weights, gamma 2, targets smoothed by 1e-5, mean over the pixels.

    Args:
        logits: Logits ``(B, 2, H, W)``: normal, anomalous.
        mask: Classes ``(B, 1, H, W)``, 0 or 1.

    Returns:
        Loss ``()``.
    """
    targets = torch.cat([1 - mask, mask], dim=1).clamp(_SMOOTHING, 1 - _SMOOTHING)
    likelihood = (targets * logits.softmax(1)).sum(1) + _SMOOTHING
    return -((1 - likelihood) ** 2 * likelihood.log()).mean()
