"""What one image of ones does to the batch norms of a frozen network in the public code of GLASS and SimpleNet."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def show_ones(network: nn.Module, image_size: tuple[int, int]) -> None:
    """Passes one image of ones through a network while its batch norms take statistics; leaves it in evaluation mode.

    A running mean or variance moves towards that of the image's features by the momentum of its layer, a tenth in most
    networks, and stays there. The public code does so unintentionally when it asks for the number of channels.

    Args:
        network: Network that takes images ``(B, 3, H, W)``; other layers are in evaluation mode.
        image_size: Height H and width W of the images, in pixels.

    Raises:
        ValueError: If a batch norm gets a single value per channel, because the image is too small.
    """
    network.eval()
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    device = next(network.parameters()).device
    for norm in norms:
        norm.train()
    with torch.no_grad():
        network(torch.ones(1, 3, *image_size, device=device))
    network.eval()
