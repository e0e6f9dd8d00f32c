"""Association of the patches of all training images with those of a few seed images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

_ROWS = 1024  # patches per matrix product


@dataclass(frozen=True)
class Associations:
    """Patches and the seed patches they are associated with, on the CPU, ``(M,)`` and int64 each.

    Attributes:
        image: Number of the image.
        patch: Number of the patch in it.
        seed: Number of the seed image, which is lower.
        seed_patch: Number of the patch in that.
    """

    image: torch.Tensor
    patch: torch.Tensor
    seed: torch.Tensor
    seed_patch: torch.Tensor


@torch.no_grad()
def associate(descriptors: Sequence[torch.Tensor], n_seeds: int, device: torch.device) -> Associations:
    """Associates each patch with its nearest patch of the seeds, the first images, if that is mutual.

    An image is compared with the seeds before it. Of these, the one with the nearest patch is chosen by distance alone.
    If the patch of the image nearest to that seed patch is another one, the patch stays alone, whatever the other seeds
    have to offer (specification of InReaCh, section 5). Images are brought to the device one by one, once each.

    Args:
        descriptors: Patches of each image ``(P, D)``, float32, on any device.
        n_seeds: Number of seeds, from 1 to the number of images.
        device: Where to calculate.

    Returns:
        All associations, image by image.
    """
    seeds = [patches.to(device) for patches in descriptors[:n_seeds]]
    found = []
    for image in tqdm(range(1, len(descriptors)), desc="Association", unit="image", mininterval=1.0):
        seed, seed_patch, mutual = _choose_seeds(descriptors[image].to(device), seeds[:image])
        patch = mutual.nonzero()[:, 0]
        found.append((torch.full_like(patch, image), patch, seed[patch], seed_patch[patch]))
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    columns = zip((nothing,) * 4, *found, strict=True)
    return Associations(*(torch.cat(column).cpu() for column in columns))


def match(patches: torch.Tensor, seed_patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Finds the nearest seed patch of every patch of an image, and whether the patch is the nearest of that in turn.

    Args:
        patches: Patches ``(P, D)`` of the image.
        seed_patches: Patches ``(Q, D)`` of the seed.

    Returns:
        For each patch the squared distance, the number of the seed patch and whether it is mutual, ``(P,)`` each. Of
        equally near patches the first counts.
    """
    centre = seed_patches.mean(0)  # keeps distances; smaller norms lose fewer digits in |x|^2 - 2xy + |y|^2
    patches, seed_patches = patches - centre, seed_patches - centre
    seed_squares = seed_patches.square().sum(1)
    nearest_of_seed = torch.full_like(seed_squares, torch.inf)
    place_of_seed = torch.zeros_like(seed_squares, dtype=torch.int64)
    found = []
    for start in range(0, len(patches), _ROWS):
        block = patches[start : start + _ROWS]
        distances = torch.addmm(seed_squares, block, seed_patches.T, alpha=-2).add_(block.square().sum(1, keepdim=True))
        found.append(distances.min(1))
        nearest, place = distances.min(0)
        closer = nearest < nearest_of_seed
        nearest_of_seed = torch.where(closer, nearest, nearest_of_seed)
        place_of_seed = torch.where(closer, start + place, place_of_seed)
    squared, seed_patch = (torch.cat(parts) for parts in zip(*found, strict=True))
    mutual = place_of_seed[seed_patch] == torch.arange(len(patches), device=patches.device)
    return squared, seed_patch, mutual


def _choose_seeds(
    patches: torch.Tensor, seeds: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Seed of the nearest patch, the number of that patch, and whether it is mutual, ``(P,)`` each."""
    matches = [match(patches, seed) for seed in seeds]
    squared, seed_patch, mutual = (torch.stack(parts) for parts in zip(*matches, strict=True))
    seed = squared.argmin(0)
    chosen = seed[None]
    return seed, seed_patch.gather(0, chosen)[0], mutual.gather(0, chosen)[0]
