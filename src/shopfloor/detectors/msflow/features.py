"""Feature maps of a frozen network, whose convolutions may continue an image at its edges by reflection."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from anomalib.models.components import TimmFeatureExtractor
from torch import nn

from shopfloor.detectors.building import DetectorError


class FeaturePyramid(nn.Module):
    """Layers of a frozen timm network, each pooled to half its size (specification of MSFlow, section 3).

    The network stays in evaluation mode and has no gradients.

    Args:
        backbone: timm name of the network.
        layers: Its layers, in the network's order, which is from fine to coarse.
        pre_trained: Whether the network is given ImageNet weights.
        padding: How its convolutions continue a map at the edges: ``reflect`` or ``zeros``.

    Attributes:
        channels: Channels of each layer.

    Raises:
        DetectorError: If the network lacks a layer, or the layers are not in its order.
    """

    def __init__(
        self, backbone: str, layers: Sequence[str], pre_trained: bool = True, padding: str = "reflect"
    ) -> None:
        super().__init__()
        extractor = TimmFeatureExtractor(backbone=backbone, layers=layers, pre_trained=pre_trained)
        _check_layers(backbone, layers, extractor)
        if padding == "reflect":
            reflect_at_edges(extractor.feature_extractor, layers[-1])
        self.feature_extractor = extractor.requires_grad_(False)
        self.channels = list(extractor.out_dims)
        self.pool = nn.AvgPool2d(kernel_size=3, stride=2, padding=1)
        self.train(False)

    def train(self, mode: bool = True) -> FeaturePyramid:
        """Stays in evaluation mode, whatever is asked for."""
        return super().train(False)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features ``(B, C, h, w)`` of each layer of images ``(B, 3, H, W)``; h and w are half those of the layer."""
        return [self.pool(features) for features in self.feature_extractor(images).values()]


def reflect_at_edges(network: nn.Module, last: str) -> None:
    """Makes convolutions pad by reflection instead of zeros; their weights, and the padding of poolings, stay.

    Left alone are convolutions without padding, 1 x 1 ones among them, and those of other classes than torch's own:
    timm's ``Conv2dSame`` pads in a way of its own. Left alone are also those after the last layer that is used: timm
    computes them for some networks, but their maps may be too small for a reflection.

    Args:
        network: Any network; it is changed.
        last: Name of the last layer that is used.
    """
    passed = False
    for name, module in network.named_modules():
        is_last = f"{name}.".startswith(f"{last}.")
        if passed and not is_last:
            return
        passed = is_last
        if type(module) is nn.Conv2d and not isinstance(module.padding, str) and any(module.padding):
            module.padding_mode = "reflect"


def _check_layers(backbone: str, layers: Sequence[str], extractor: TimmFeatureExtractor) -> None:
    """anomalib drops a layer that the network lacks, and takes layers in another order for each other."""
    absent = [layer for layer in layers if layer not in extractor.layers]
    if absent:
        raise DetectorError(f"MSFlow: the network '{backbone}' has no layers {absent}. Choose others.")
    if not all(first < second for first, second in pairwise(extractor.idx)):
        raise DetectorError(
            f"MSFlow: the layers {list(layers)} are not in the order of the network '{backbone}'. Name each once, from "
            "fine to coarse."
        )
