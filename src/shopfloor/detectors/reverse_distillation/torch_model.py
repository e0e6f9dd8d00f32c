"""Network of Reverse Distillation: anomalib's, with a choice of the encoder's weights and of the bottleneck's width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from anomalib.data import InferenceBatch
from anomalib.models.components import TimmFeatureExtractor
from anomalib.models.components.backbone.resnet_decoder import ResNetDecoder, get_decoder
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode, AnomalyMapGenerator
from anomalib.models.image.reverse_distillation.components.bottleneck import OCBE, get_bottleneck_layer
from anomalib.models.image.reverse_distillation.torch_model import (
    ReverseDistillationModel as AnomalibReverseDistillationModel,
)

from shopfloor.detectors.building import DetectorError

_STAGES = ("layer1", "layer2", "layer3")
_BOTTLENECK_STRIDE = 32  # pixels of the image per cell of the bottleneck's grid
_WIDTHS = (64, 128)


class ReverseDistillationModel(AnomalibReverseDistillationModel):
    """anomalib's ``ReverseDistillationModel``; with the same tensors it gives the same features, scores and maps.

    What differs, and why:

    - the encoder takes a timm name with its tag, which says whose weights are meant; anomalib finds no decoder for it;
    - the bottleneck's width can be chosen;
    - the encoder stays in evaluation mode and has no gradients at any time, not only while it runs;
    - scores are ``(B,)``, as those of every detector.

    Args:
        backbone: timm name of a ResNet, tagged or not; the decoder mirrors the same architecture.
        layers: Its first three stages.
        input_size: Height and width of the images, in pixels.
        pre_trained: Whether the encoder is given ImageNet weights.
        bottleneck_width: Width of the bottleneck's blocks: 64 or, only for a ResNet of bottleneck blocks, 128.

    Raises:
        DetectorError: If the network has no decoder, or layers, size or width do not suit it.
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[str],
        input_size: tuple[int, int],
        pre_trained: bool = True,
        bottleneck_width: int = 64,
    ) -> None:
        # Not anomalib's own constructor: it would build the encoder first with the weights of another tag.
        super(AnomalibReverseDistillationModel, self).__init__()
        _check_size(input_size)
        self.tiler = None
        self.encoder = TimmFeatureExtractor(backbone=backbone, layers=layers, pre_trained=pre_trained)
        self.encoder.requires_grad_(False)
        self.bottleneck = _bottleneck_for(backbone, bottleneck_width)
        self.decoder = _decoder_for(backbone)
        _check_layers(backbone, layers)
        self.anomaly_map_generator = AnomalyMapGenerator(image_size=input_size, mode=AnomalyMapGenerationMode.ADD)
        self.train(self.training)

    def train(self, mode: bool = True) -> ReverseDistillationModel:
        """Switches bottleneck and decoder to training or evaluation; the frozen encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]] | InferenceBatch:
        """Gives the features of a training batch ``(B, 3, S, S)``, or scores a test batch.

        Returns:
            In training the encoder's and the decoder's features, three maps ``(B, C, h, w)`` each, any range; otherwise
            scores ``(B,)`` and maps ``(B, 1, S, S)``, both from 0 to 3.
        """
        result = super().forward(images)
        if isinstance(result, InferenceBatch) and result.pred_score is not None:
            return result._replace(pred_score=result.pred_score.flatten())
        return result


def _architecture(backbone: str) -> str:
    return backbone.partition(".")[0]


def _bottleneck_for(backbone: str, width: int) -> OCBE:
    if width not in _WIDTHS:
        raise DetectorError(
            f"bottleneck_width is {width!r}. Give 64 (anomalib's, as in the benchmark) or 128 (the original's)."
        )
    try:
        return get_bottleneck_layer(_architecture(backbone), width_per_group=width)
    except ValueError as error:
        raise DetectorError(
            f"bottleneck_width {width} needs a ResNet of bottleneck blocks, such as resnet50 or wide_resnet50_2; "
            f"'{backbone}' has basic blocks. Give 64."
        ) from error


def _decoder_for(backbone: str) -> ResNetDecoder:
    try:
        return get_decoder(_architecture(backbone))
    except ValueError as error:
        raise DetectorError(
            f"Reverse Distillation has no decoder for '{backbone}': the decoder mirrors a ResNet. Give a ResNet, "
            "ResNeXt or Wide ResNet as backbone, such as resnet18, resnet50 or wide_resnet50_2."
        ) from error


def _check_layers(backbone: str, layers: Sequence[str]) -> None:
    if tuple(layers) != _STAGES:
        raise DetectorError(
            f"Reverse Distillation was given the layers {list(layers)} of '{backbone}', but its bottleneck and decoder "
            f"fit the first three stages only. Give {list(_STAGES)}."
        )


def _check_size(input_size: tuple[int, int]) -> None:
    if any(side % _BOTTLENECK_STRIDE or side < 2 * _BOTTLENECK_STRIDE for side in input_size):
        height, width = input_size
        raise DetectorError(
            f"Reverse Distillation cannot take images of {height} x {width} pixels: the encoder halves and the decoder "
            f"doubles the image, so that its sides must be multiples of {_BOTTLENECK_STRIDE}, and "
            f"{2 * _BOTTLENECK_STRIDE} at least. Choose another image size."
        )
