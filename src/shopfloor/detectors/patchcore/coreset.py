"""Coreset of PatchCore (Roth et al., CVPR 2022, algorithm 1): greedy k-centre on randomly projected patches.

anomalib's ``KCenterGreedy`` sweeps all patches once per chosen patch; that is 98 % of the time of PatchCore on a CPU.
Here the same patches are chosen in batches, with matrix products, some hundred times faster.
"""

from __future__ import annotations

import numpy as np
import torch
from anomalib.models.components import SparseRandomProjection
from tqdm import tqdm

_PROJECTION_EPS = 0.9  # anomalib's distortion of the random projection
_CANDIDATES = 1024
_ROWS = 2048  # patches per matrix product, so that the block of distances stays in the cache


class SparseProjection:
    """Projects patches so that their distances are those after anomalib's sparse random projection.

    The same random numbers are drawn, from torch's and NumPy's global generators. Where the projection has more columns
    than the patches (294 for the 152 channels of a light backbone and 150 images), an orthogonal change of axes gives
    the same distances in the smaller number.

    Args:
        n_patches: How many patches there will be; the number of columns depends on it.
        example: Any patch ``(1, D)``, for the number of channels and the device.
    """

    def __init__(self, n_patches: int, example: torch.Tensor) -> None:
        projection = SparseRandomProjection(eps=_PROJECTION_EPS)
        projection.fit(example.expand(n_patches, -1))  # reads no more than shape and device
        matrix = projection.sparse_random_matrix
        self._matrix = torch.linalg.qr(matrix, mode="r").R if len(matrix) > matrix.shape[1] else matrix

    @property
    def n_columns(self) -> int:
        """Number of columns C of the result."""
        return len(self._matrix)

    @torch.inference_mode()
    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        """Projects patches ``(n, D)`` to ``(n, C)``."""
        return patches @ self._matrix.T


@torch.inference_mode()
def k_center_greedy(features: torch.Tensor, size: int, first: int) -> torch.Tensor:
    """Chooses points one by one, each the farthest from all chosen before.

    Distances to the chosen set only shrink. Hence the next farthest point is among the candidates, the points of
    largest known distance, as long as its own up-to-date distance reaches the known distance of every other point. The
    choice is played among the candidates until that fails; then one matrix product brings all distances up to date.

    Where two points are equally far up to float32 rounding, the choice may differ from that of another implementation.

    Args:
        features: Points ``(N, D)``, float32. Their mean is taken off in place, to spare the memory of a copy.
        size: Number of points to choose, from 1 to N.
        first: Index of the point to begin with.

    Returns:
        Indices of the chosen points ``(size,)``, in the order of choice, all different.

    Raises:
        ValueError: If ``size`` is not between 1 and N.
    """
    if not 1 <= size <= len(features):
        raise ValueError(f"A coreset of {size} out of {len(features)} points cannot be chosen.")
    # Keeps distances; smaller norms lose fewer digits in |x|^2 - 2xy + |y|^2.
    points = features.sub_(features.mean(0))
    squares = torch.linalg.vector_norm(points, dim=1).square_()  # without a copy of all points
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
