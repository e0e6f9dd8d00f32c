"""SimpleNet as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from anomalib.data import ImageBatch

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.one_class_module import OneClassModule
from shopfloor.detectors.simplenet.loss import TruncatedL1Loss
from shopfloor.detectors.simplenet.torch_model import SimpleNetModel

# Specification of SimpleNet, section 5, step 5.
_ADAPTOR_LEARNING_RATE = 1e-4
_ADAPTOR_WEIGHT_DECAY = 0.01
_DISCRIMINATOR_LEARNING_RATE = 2e-4
_DISCRIMINATOR_WEIGHT_DECAY = 1e-5


class SimpleNet(OneClassModule):
    """Learns to tell patch features of good images from the same features with a little Gaussian noise.

    A linear adaptor moves the features of a frozen network towards the product at hand. A small discriminator learns to
    give them large values, and small ones to their noisy copies. In a test there is no noise: the lower its output, the
    more anomalous the patch.

    SimpleNet: A Simple Network for Image Anomaly Detection and Localization (Liu et al., CVPR 2023), public repository
    ``DonaldRR/SimpleNet``; written from the specification of SimpleNet. It is another method than anomalib's
    ``Supersimplenet``. What differs from the public code:

    - the model of the last epoch is kept, not the one that is best on the test images;
    - scores and maps are raw, not scaled by their extremes over the test images;
    - neighbourhoods are pooled before they are interpolated, which gives the same features up to float32 rounding.

    Where paper and public code disagree (bias of the adaptor, AdamW for it), the code is followed. Lightning counts the
    step of each optimiser: ``max_steps`` is twice the number of batches.

    Args:
        backbone: timm name of the network.
        layers: Its layers; the first of them in the network gives the grid of the patches.
        pre_trained: Whether the network is given ImageNet weights.
        embedding_size: Entries of a patch's feature vector, before and after the adaptor, above 0.
        noise_std: Standard deviation of the noise, 0 or above.
        margin: Output beyond which, on its own side of zero, a patch costs nothing; 0 or above.
        **parts: As in anomalib.

    Raises:
        ValueError: If there is no layer or a number is out of its range.
    """

    model: SimpleNetModel

    def __init__(
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] = ("layer2", "layer3"),
        pre_trained: bool = True,
        embedding_size: int = 1536,
        noise_std: float = 0.015,
        margin: float = 0.5,
        **parts: Unpack[AnomalibParts],
    ) -> None:
        _check_arguments(layers, embedding_size, noise_std, margin)
        super().__init__(**parts)
        self.automatic_optimization = False  # Lightning's own goes with one optimiser only
        self.model = SimpleNetModel(
            layers=layers,
            backbone=backbone,
            pre_trained=pre_trained,
            embedding_size=embedding_size,
            noise_std=noise_std,
        )
        self.loss = TruncatedL1Loss(margin)

    def training_step(self, batch: ImageBatch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Draws new noise, and moves adaptor and discriminator by one step each.

        Returns:
            The loss of the batch ``()``, before the steps.
        """
        optimizers: Any = self.optimizers()
        loss = self.loss(*self.model(batch.image))
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=batch.batch_size)
        return loss.detach()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """AdamW for the adaptor and Adam for the discriminator, both at a constant learning rate."""
        return [
            torch.optim.AdamW(
                self.model.adaptor.parameters(), lr=_ADAPTOR_LEARNING_RATE, weight_decay=_ADAPTOR_WEIGHT_DECAY
            ),
            torch.optim.Adam(
                self.model.discriminator.parameters(),
                lr=_DISCRIMINATOR_LEARNING_RATE,
                weight_decay=_DISCRIMINATOR_WEIGHT_DECAY,
            ),
        ]

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No validation ahead of the training, and one device, for statistics over the whole batch."""
        return {"num_sanity_val_steps": 0, "devices": 1}


def _check_arguments(layers: Sequence[str], embedding_size: int, noise_std: float, margin: float) -> None:
    if not layers:
        raise ValueError("layers must name at least one layer of the backbone.")
    if embedding_size < 1:
        raise ValueError(f"embedding_size must be above 0, but is {embedding_size}.")
    for name, value in (("noise_std", noise_std), ("margin", margin)):
        if not value >= 0:
            raise ValueError(f"{name} must be 0 or above, but is {value}.")
