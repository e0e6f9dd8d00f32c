"""Coreset of PatchCore (Roth et al., CVPR 2022, algorithm 1): greedy k-centre on randomly projected patches.

anomalib's ``KCenterGreedy`` sweeps all patches once per chosen patch; that is 98 % of the time of PatchCore on a CPU.
Here the same patches are chosen in batches, with matrix products, some hundred times faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from anomalib.models.components import SparseRandomProjection
from tqdm import tqdm

_PROJECTION_EPS = 0.9  # anomalib's distortion of the random projection
_CANDIDATES = 1024
_ROWS = 2048  # patches per matrix product, so that the block of distances stays in the cache


@torch.inference_mode()
def project(patches: Sequence[torch.Tensor]) -> torch.Tensor:
    """Projects patches so that their distances are those after anomalib's sparse random projection.

    The same random numbers are drawn, from torch's and NumPy's global generators. Where the projection has more columns
    than the patches (294 for the 152 channels of a light backbone and 150 images), an orthogonal change of axes gives
    the same distances in the smaller number.

    Args:
        patches: Blocks of patch features ``(n_i, D)`` on one device.

    Returns:
        Projected features ``(sum of n_i, C)``.
    """
    n_patches, n_channels = sum(len(block) for block in patches), patches[0].shape[1]
    projection = SparseRandomProjection(eps=_PROJECTION_EPS)
    projection.fit(patches[0][:1].expand(n_patches, n_channels))  # reads no more than shape and device
    matrix = projection.sparse_random_matrix
    if len(matrix) > n_channels:
        matrix = torch.linalg.qr(matrix, mode="r").R
    return torch.vstack([block @ matrix.T for block in patches])


@torch.inference_mode()
def k_center_greedy(features: torch.Tensor, size: int, first: int) -> torch.Tensor:
    """Chooses points one by one, each the farthest from all chosen before.

    Distances to the chosen set only shrink. Hence the next farthest point is among the candidates, the points of
    largest known distance, as long as its own up-to-date distance reaches the known distance of every other point. The
    choice is played among the candidates until that fails; then one matrix product brings all distances up to date.

    Where two points are equally far up to float32 rounding, the choice may differ from that of another implementation.

    Args:
        features: Points ``(N, D)``, float32.
        size: Number of points to choose, from 1 to N.
        first: Index of the point to begin with.

    Returns:
        Indices of the chosen points ``(size,)``, in the order of choice, all different.

    Raises:
        ValueError: If ``size`` is not between 1 and N.
    """
    if not 1 <= size <= len(features):
        raise ValueError(f"A coreset of {size} out of {len(features)} points cannot be chosen.")
    points = features - features.mean(0)  # keeps distances; smaller norms lose fewer digits in |x|^2 - 2xy + |y|^2
    squares = points.square().sum(1)
    distances = torch.full_like(squares, torch.inf)
    new = torch.tensor([first], device=points.device)
    chosen = [new]
    n_chosen = 1
    with tqdm(total=size, initial=1, desc="Coreset", unit="patch", mininterval=1.0) as progress:
        while n_chosen < size:
            _update_distances(distances, points, squares, new)
            new = _play_candidates(distances, points, squares, size - n_chosen)
            chosen.append(new)
            n_chosen += len(new)
            progress.update(len(new))
    return torch.cat(chosen)


def _update_distances(distances: torch.Tensor, points: torch.Tensor, squares: torch.Tensor, new: torch.Tensor) -> None:
    """Takes the newly chosen points into the squared distances ``(N,)`` to the chosen set; a chosen point gets -1."""
    centres, centre_squares = points[new], squares[new]
    for start in range(0, len(points), _ROWS):
        rows = slice(start, start + _ROWS)
        nearest = torch.addmm(centre_squares, points[rows], centres.T, alpha=-2).amin(1)
        nearest.add_(squares[rows]).clamp_(min=0)
        torch.minimum(distances[rows], nearest, out=distances[rows])
    distances[new] = -1


def _play_candidates(distances: torch.Tensor, points: torch.Tensor, squares: torch.Tensor, most: int) -> torch.Tensor:
    """Chooses up to ``most`` points, at least one, that are certainly the next farthest."""
    farthest, ids = distances.topk(min(_CANDIDATES + 1, len(points)))
    bound = float(farthest[-1])  # no point outside the candidates is farther
    ids = ids[:-1]
    own = farthest[:-1].cpu().numpy().copy()
    centres = points[ids]
    between = (
        torch.addmm(squares[ids], centres, centres.T, alpha=-2).add_(squares[ids, None]).clamp_(min=0).cpu().numpy()
    )
    played: list[int] = []
    while len(played) < min(most, len(ids)):
        next_one = int(own.argmax())
        if played and own[next_one] < bound:
            break
        played.append(next_one)
        np.minimum(own, between[next_one], out=own)
        own[next_one] = -1
    return ids[played]
