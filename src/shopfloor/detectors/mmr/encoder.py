"""Encoder of the student: a vision transformer that may see a part of the patches only."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.mmr.positions import position_table, resize_table

_TOKEN_STD = 0.02


class Encoder(nn.Module):
    """Patch embedding, class token, transformer blocks and final norm of one of timm's vision transformers.

    Its learned positions are left out for a fixed table, which is made for the grid that the network was made for and
    interpolated for another one. All the rest is trained. Specification of MMR, section 4.1.

    Args:
        name: timm name of a plain vision transformer with a class token.
        image_size: Side S of the images, in pixels, a multiple of the network's patch size.
        pre_trained: Whether the network is given its pretrained weights; otherwise they are drawn as in section 4.5.

    Attributes:
        patch_size: Side of a patch, in pixels.
        side: Rows, and columns, of the grid of patches.
        dim: Length D of a token.

    Raises:
        DetectorError: If the network is of another kind, or the image size is not a multiple of its patch size.
    """

    patch_size: int
    side: int
    dim: int
    class_token: nn.Parameter
    positions: torch.Tensor

    def __init__(self, name: str, image_size: int, pre_trained: bool = True) -> None:
        super().__init__()
        network: Any = timm.create_model(name, pretrained=pre_trained, num_classes=0)
        _check_kind(name, network)
        self.patch_size = network.patch_embed.patch_size[0]
        _check_image_size(name, image_size, self.patch_size)
        self.side = image_size // self.patch_size
        self.dim = network.embed_dim
        self.patch_embedding: nn.Conv2d = network.patch_embed.proj
        self.class_token = network.cls_token
        self.blocks: nn.Sequential = network.blocks
        self.norm: nn.LayerNorm = network.norm
        table = position_table(network.patch_embed.grid_size[0], self.dim)
        self.register_buffer("positions", resize_table(table, self.side), persistent=False)
        if not pre_trained:
            self._initialise()

    def forward(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Encodes images, or a part of their patches.

        Args:
            images: Normalised images ``(B, 3, S, S)``.
            kept: Indices of the K patches that each image keeps ``(B, K)``, row by row over the grid, in any order;
                None keeps all, in the order of the grid.

        Returns:
            Tokens ``(B, 1 + K, D)``, any range: that of the class, then those of the kept patches in their order.
        """
        tokens = self.patch_embedding(images).flatten(2).transpose(1, 2) + self.positions[1:]
        if kept is not None:
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, self.dim))
        class_token = (self.class_token + self.positions[0]).expand(len(images), -1, -1)
        return self.norm(self.blocks(torch.cat([class_token, tokens], dim=1)))

    @torch.no_grad()
    def _initialise(self) -> None:
        """Draws the weights anew as the masked auto-encoder does; timm draws them from other distributions."""
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))  # as the linear layer that it is; a view
        nn.init.normal_(self.class_token, std=_TOKEN_STD)


def _check_kind(name: str, network: nn.Module) -> None:
    plain = (
        isinstance(network, VisionTransformer)
        and network.has_class_token
        and network.num_prefix_tokens == 1
        and isinstance(network.norm_pre, nn.Identity)
        and isinstance(network.norm, nn.LayerNorm)
        and network.embed_dim % 4 == 0
    )
    if not plain:
        raise DetectorError(
            f"MMR cannot take '{name}' as its encoder: it needs a plain vision transformer with a class token, no "
            "other extra tokens, and a norm after the last block only. Give vit_base_patch16_224.mae (the paper's), or "
            "a small one such as vit_tiny_patch16_224 or deit_tiny_patch16_224."
        )


def _check_image_size(name: str, image_size: int, patch_size: int) -> None:
    if image_size % patch_size or image_size < patch_size:
        raise DetectorError(
            f"MMR cannot take images of {image_size} x {image_size} pixels: '{name}' cuts them into patches of "
            f"{patch_size} x {patch_size}. Choose an image size that is a multiple of {patch_size}."
        )
