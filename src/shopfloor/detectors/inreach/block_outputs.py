"""Outputs of single blocks of a frozen network, if wanted with batch normalisation by the statistics of each image."""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
from timm.layers import BatchNormAct2d, create_feature_extractor
from torch import nn

from shopfloor.detectors.building import DetectorError


class BlockOutputs(nn.Module):
    """A timm network that gives the outputs of the named blocks; frozen, and always in evaluation mode.

    Args:
        backbone: timm name of the network.
        layers: Names of its modules, e.g. ``layer1.0``, the first block of the first stage; at least one.
        pre_trained: Whether the network is given ImageNet weights.
        image_statistics: Whether batch normalisation takes mean and variance from the single image it works on (as a
            network in training mode does with a batch of one) and not those of ImageNet.

    Raises:
        DetectorError: If the network lacks one of the modules, or there is none.
    """

    def __init__(self, backbone: str, layers: Sequence[str], pre_trained: bool, image_statistics: bool) -> None:
        super().__init__()
        network = timm.create_model(backbone, pretrained=pre_trained).eval()
        _check_names(network, backbone, layers)
        self.layers = tuple(layers)
        # It cuts off what comes after the last of the blocks.
        self.network = create_feature_extractor(network, {name: name for name in layers})
        if image_statistics:
            _use_image_statistics(self.network)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> BlockOutputs:
        """Leaves the network in evaluation mode.

        Args:
            mode: Not used.

        Returns:
            The module itself.
        """
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps ``(B, C_l, h_l, w_l)`` of images ``(B, 3, H, W)``, in the order of the names."""
        outputs = self.network(images)
        return [outputs[name] for name in self.layers]


class ImageNorm(nn.InstanceNorm2d):
    """Batch normalisation by the statistics of each image: instance normalisation with the weights of the other.

    Args:
        replaced: The batch normalisation whose weight, bias and epsilon are taken over.
    """

    def __init__(self, replaced: nn.BatchNorm2d) -> None:
        super().__init__(replaced.num_features, eps=replaced.eps, affine=replaced.affine)
        self.weight, self.bias = replaced.weight, replaced.bias

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Normalises maps ``(B, C, H, W)``, each image and channel by itself.

        Raises:
            DetectorError: If a map has a single pixel, which has no variance.
        """
        if maps.shape[2] * maps.shape[3] == 1:
            raise DetectorError(
                "A feature map of a single pixel cannot be normalised by its own statistics. Use larger images, leave "
                "out the last of the layers, or set image_statistics: false."
            )
        return super().forward(maps)


def _check_names(network: nn.Module, backbone: str, layers: Sequence[str]) -> None:
    if not layers:
        raise DetectorError("InReaCh needs at least one name in layers.")
    names = [name for name, _ in network.named_modules()]
    absent = [layer for layer in layers if layer not in names]
    if absent:
        blocks = ", ".join(name for name in names if name.count(".") == 1)
        raise DetectorError(f"'{backbone}' has no layers {absent}. It has blocks within its stages: {blocks}.")


def _use_image_statistics(network: nn.Module) -> None:
    """Replaces every batch normalisation, in place; timm's with an activation keeps the activation."""
    norms = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    for name, norm in norms:
        parts: list[nn.Module] = [ImageNorm(norm)]
        if isinstance(norm, BatchNormAct2d):
            parts += [norm.drop, norm.act]
        network.set_submodule(name, nn.Sequential(*parts) if len(parts) > 1 else parts[0])
