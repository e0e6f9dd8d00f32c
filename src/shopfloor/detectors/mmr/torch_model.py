"""Network of MMR: a frozen target network and a student that gives its features back from a part of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from anomalib.data import InferenceBatch
from anomalib.models.components import TimmFeatureExtractor
from torch import nn

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.mmr.anomaly_map import AnomalyMapGenerator
from shopfloor.detectors.mmr.decoder import SCALES, Decoder, Level
from shopfloor.detectors.mmr.encoder import Encoder


class Student(nn.Module):
    """Encoder and decoder; everything in it is trained.

    Args:
        encoder: The vision transformer.
        levels: Maps to be given.
    """

    def __init__(self, encoder: Encoder, levels: Sequence[Level]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder.dim, encoder.side, levels)

    def forward(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Gives one feature map per level.

        Args:
            images: Normalised images ``(B, 3, S, S)``.
            kept: Indices of the patches that each image keeps ``(B, K)``; None keeps all.

        Returns:
            Maps ``(B, C, h, w)``, any range.
        """
        return self.decoder(self.encoder(images, kept), kept)


class MmrModel(nn.Module):
    """Target network and student of MMR.

    Args:
        backbone: timm name of the target network.
        layers: Its layers, in their order in the network; a cell of each must be a patch, half or a quarter as wide.
        encoder: timm name of the vision transformer.
        input_size: Height and width of the images, in pixels.
        pre_trained: Whether the target network is given ImageNet weights.
        encoder_pre_trained: Whether the vision transformer is given its pretrained weights.
        mask_ratio: Part of the patches that is masked in training, from 0 up to, but not, 1.

    Raises:
        DetectorError: If these do not fit together.
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[str],
        encoder: str,
        input_size: tuple[int, int],
        pre_trained: bool = True,
        encoder_pre_trained: bool = True,
        mask_ratio: float = 0.4,
    ) -> None:
        super().__init__()
        _check_square(input_size)
        if not 0 <= mask_ratio < 1:
            raise DetectorError(f"mask_ratio is {mask_ratio}. Give a number from 0 (no masking) up to, but not, 1.")
        self.mask_ratio = mask_ratio
        self.target = TimmFeatureExtractor(backbone=backbone, layers=layers, pre_trained=pre_trained)
        self.target.requires_grad_(False)
        transformer = Encoder(encoder, input_size[0], encoder_pre_trained)
        self.student = Student(transformer, _levels_of(self.target, layers, transformer))
        self.anomaly_map_generator = AnomalyMapGenerator()
        self.train(self.training)

    def train(self, mode: bool = True) -> MmrModel:
        """Switches the student to training or evaluation; the frozen target network stays in evaluation mode."""
        super().train(mode)
        self.target.eval()
        return self

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]] | InferenceBatch:
        """Gives the features of a training batch ``(B, 3, S, S)``, or scores a test batch.

        Returns:
            In training the maps of the target network and of the student, which sees a part of the patches only,
            ``(B, C, h, w)`` each, any range; otherwise scores ``(B,)`` and maps ``(B, 1, S, S)``, both from 0 to 2 per
            level.
        """
        target_maps = list(self.target(images).values())
        student_maps = self.student(images, self._draw_kept(images) if self.training else None)
        if self.training:
            return target_maps, student_maps
        maps = self.anomaly_map_generator(target_maps, student_maps, images.shape[-2:])
        return InferenceBatch(pred_score=maps.amax((1, 2, 3)), anomaly_map=maps)

    def _draw_kept(self, images: torch.Tensor) -> torch.Tensor | None:
        """Draws the patches that each image keeps ``(B, K)`` (specification of MMR, section 4.2); None if all do."""
        if not self.mask_ratio:
            return None
        n_patches = self.student.encoder.side**2
        n_kept = int(n_patches * (1 - self.mask_ratio))
        return torch.rand(len(images), n_patches, device=images.device).argsort(1)[:, :n_kept]


def _levels_of(target: TimmFeatureExtractor, layers: Sequence[str], encoder: Encoder) -> list[Level]:
    """What the branches of the decoder have to give, read from the target network."""
    if not hasattr(target, "reductions"):  # a vision transformer
        raise DetectorError(
            f"MMR needs a convolutional network with layers of its own scale as backbone, which '{target.backbone}' is "
            "not. Give a network such as wide_resnet50_2.tv_in1k."
        )
    if not layers or list(target.layers) != list(layers) or target.idx != sorted(set(target.idx)):
        info = target.feature_extractor.feature_info.info
        raise DetectorError(
            f"MMR was given the layers {list(layers)} of '{target.backbone}'. Give some of these, each once and in "
            f"this order: {', '.join(stage['module'] for stage in info)}."
        )
    strides = list(target.reductions)
    possible = [encoder.patch_size // scale for scale in SCALES if encoder.patch_size % scale == 0]
    if not set(strides) <= set(possible):
        raise DetectorError(
            f"The layers {list(layers)} of '{target.backbone}' have strides of {strides} pixels, but with patches of "
            f"{encoder.patch_size} pixels the decoder gives maps of {possible} only. Choose layers of these strides."
        )
    return [
        Level(channels, encoder.patch_size // stride) for channels, stride in zip(target.out_dims, strides, strict=True)
    ]


def _check_square(input_size: tuple[int, int]) -> None:
    height, width = input_size
    if height != width:
        raise DetectorError(f"MMR takes square images only, but was given a size of {height} x {width} pixels.")
