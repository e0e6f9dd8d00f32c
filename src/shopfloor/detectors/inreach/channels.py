"""Channels of associated patches, and the memory bank of those that are long and narrow enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.inreach.association import Associations


@dataclass(frozen=True)
class Members:
    """Members of channels, image by image, on the CPU, ``(M,)`` and int64 each.

    Attributes:
        image: Number of the image.
        patch: Number of the patch in it.
        channel: Number of the channel: number of the seed * patches per image + number of the seed patch.
    """

    image: torch.Tensor
    patch: torch.Tensor
    channel: torch.Tensor

    def where(self, keep: torch.Tensor) -> Members:
        """The members chosen by a mask ``(M,)``."""
        return Members(self.image[keep], self.patch[keep], self.channel[keep])

    def per_image(self, n_images: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Of each image that has members its number, and their patches and channels."""
        sizes = torch.bincount(self.image, minlength=n_images).tolist()
        parts = zip(self.patch.split(sizes), self.channel.split(sizes), strict=True)
        yield from ((image, patch, channel) for image, (patch, channel) in enumerate(parts) if len(patch))


def collect_members(associations: Associations, n_seeds: int, n_patches: int, exchange_indices: bool) -> Members:
    """Makes channels of associations: one for every patch of the seeds, which is its first member.

    Args:
        associations: From :func:`shopfloor.detectors.inreach.association.associate`.
        n_seeds: Number of seeds.
        n_patches: Patches per image.
        exchange_indices: Whether patch and seed patch of each association change places, as in the public code
            (specification of InReaCh, section 5).

    Returns:
        The members of all channels.
    """
    patch, seed_patch = associations.patch, associations.seed_patch
    if exchange_indices:
        patch, seed_patch = seed_patch, patch
    of_seeds = torch.arange(n_seeds * n_patches)
    image = torch.cat([of_seeds // n_patches, associations.image])
    patch = torch.cat([of_seeds % n_patches, patch])
    channel = torch.cat([of_seeds, associations.seed * n_patches + seed_patch])
    order = image.argsort(stable=True)
    return Members(image[order], patch[order], channel[order])


def build_bank(
    descriptors: list[torch.Tensor], members: Members, min_length: int, max_std: float, device: torch.device
) -> torch.Tensor:
    """Takes the members of the long and narrow channels into the memory bank.

    A channel needs more than ``min_length`` members, before and after those that stick out of it are left out
    (specification of InReaCh, section 6).

    Args:
        descriptors: Patches of each image ``(P, D)``, float32; the list is emptied on the way, so that patches and bank
            share the memory.
        members: Members of all channels.
        min_length: Number of members that is just not enough.
        max_std: Largest distance of a member from the mean of its channel, in standard deviations of these distances.
        device: Where to calculate.

    Returns:
        The bank ``(K, D)`` on the CPU, image by image; a patch that is in two channels is in it twice.

    Raises:
        DetectorError: If no channel is left.
    """
    n_images = len(descriptors)
    lengths = torch.bincount(members.channel)
    in_long = members.where(lengths[members.channel] > min_length)
    if not len(in_long.channel):
        raise _no_long_channel(n_images, int(lengths.max()), min_length)
    # Numbered anew, so that only these channels take memory.
    numbers, channel = in_long.channel.unique(return_inverse=True)
    candidates = Members(in_long.image, in_long.patch, channel)
    radii = _distances_to_mean(descriptors, candidates, len(numbers), device)
    kept = candidates.where(within_spread(radii, channel, max_std))
    kept = kept.where(torch.bincount(kept.channel, minlength=len(numbers))[kept.channel] > min_length)
    if not len(kept.channel):
        raise _no_narrow_channel(len(numbers), min_length, max_std)
    return _gather(descriptors, kept)


def within_spread(radii: torch.Tensor, channel: torch.Tensor, max_std: float) -> torch.Tensor:
    """Which members of channels do not stick out.

    The distance itself is compared with a multiple of its standard deviation. So a channel of equal patches is lost,
    and so are most channels of independent entries in many dimensions, where all distances are large and alike.

    Args:
        radii: Distance of each member to the mean of its channel ``(M,)``, float64.
        channel: Number of that channel ``(M,)``.
        max_std: Multiple of the population standard deviation of the distances in the same channel.

    Returns:
        Mask ``(M,)``, True for those that are nearer.
    """
    lengths = torch.bincount(channel)
    mean = torch.bincount(channel, weights=radii) / lengths
    variance = torch.bincount(channel, weights=(radii - mean[channel]).square()) / lengths
    return radii < max_std * variance.sqrt()[channel]


@torch.no_grad()
def _distances_to_mean(
    descriptors: Sequence[torch.Tensor], members: Members, n_channels: int, device: torch.device
) -> torch.Tensor:
    """Euclidean distance of each member to the mean of its channel ``(M,)``, float64 on the CPU.

    float64 throughout, so that equal patches have distance 0 whatever their number.
    """
    n_entries = descriptors[0].shape[1]
    means = torch.zeros(n_channels, n_entries, dtype=torch.float64, device=device)
    for patches, channel in _rows(descriptors, members, device):
        means.index_add_(0, channel, patches)
    means /= torch.bincount(members.channel).to(device)[:, None]
    radii = [(patches - means[channel]).norm(dim=1).cpu() for patches, channel in _rows(descriptors, members, device)]
    return torch.cat(radii)


def _rows(
    descriptors: Sequence[torch.Tensor], members: Members, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Members of one image after the other, ``(m, D)`` in float64, and their channels, both on the device."""
    for image, patch, channel in members.per_image(len(descriptors)):
        yield descriptors[image][patch].to(device).double(), channel.to(device)


def _gather(descriptors: list[torch.Tensor], members: Members) -> torch.Tensor:
    bank = descriptors[0].new_empty(len(members.patch), descriptors[0].shape[1])
    start = 0
    descriptors.reverse()  # the last of a list is taken out at no cost
    for size in torch.bincount(members.image, minlength=len(descriptors)).tolist():
        rows = slice(start, start + size)
        bank[rows] = descriptors.pop()[members.patch[rows]]
        start = rows.stop
    return bank


def _no_long_channel(n_images: int, longest: int, min_length: int) -> DetectorError:
    return DetectorError(
        f"InReaCh found no patch that enough images have in common: a channel needs more than {min_length} members, "
        f"but among {n_images} images the longest has {longest}. Give it more training images (at least "
        f"{min_length + 1}), or lower min_channel_length."
    )


def _no_narrow_channel(n_long: int, min_length: int, max_std: float) -> DetectorError:
    return DetectorError(
        f"InReaCh has an empty memory bank: of {n_long} channels none has more than {min_length} members that are "
        f"nearer to its mean than {max_std} standard deviations of that distance. So it is when all images are the "
        "same (the deviation is 0), or when nothing in them is alike. Give it other or more training images, or raise "
        "max_channel_std."
    )
