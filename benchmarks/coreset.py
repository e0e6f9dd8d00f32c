"""The batched greedy k-centre against anomalib's: the same set, and the time for patches of a real size.

anomalib makes one sweep over all points per chosen point, so its time is measured on some steps and multiplied.

Run with ``python benchmarks/coreset.py``; ``--images`` sets the number of training images of 256 x 256 pixels.
"""

from __future__ import annotations

import argparse
import time

import torch
from anomalib.models.components import KCenterGreedy

from shopfloor.detectors.patchcore.coreset import SparseProjection, k_center_greedy

PATCHES_PER_IMAGE = 1024
CHANNELS = 152
RATIO = 0.1
MEASURED_STEPS = 100


def clustered_points(count: int) -> torch.Tensor:
    """Points around 200 centres, as the patches of similar images lie."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(200, CHANNELS, generator=generator) * 3
    which = torch.randint(200, (count,), generator=generator)
    return centres[which] + torch.randn(count, CHANNELS, generator=generator)


def compare_sets(count: int) -> None:
    """Both choose from the same points, from the same start."""
    points = clustered_points(count)
    # anomalib leaves out the random projection for embeddings that are not two-dimensional
    reference = KCenterGreedy(embedding=points.unsqueeze(1), sampling_ratio=RATIO).select_coreset_idxs()
    chosen = k_center_greedy(points, len(reference), first=reference[0])
    same = len(set(chosen.tolist()) & set(reference))
    print(f"{count} points: {same} of {len(reference)} chosen points are the same")


def compare_times(count: int) -> None:
    """Projection and choice, as in a training."""
    points = clustered_points(count)
    size = int(count * RATIO)
    theirs = KCenterGreedy(embedding=points, sampling_ratio=MEASURED_STEPS / count)
    start = time.perf_counter()
    theirs.select_coreset_idxs()
    their_seconds = (time.perf_counter() - start) * size / MEASURED_STEPS
    start = time.perf_counter()
    k_center_greedy(SparseProjection(count, points[:1])(points), size, first=0)
    our_seconds = time.perf_counter() - start
    print(f"{count} points, {size} chosen, {torch.get_num_threads()} threads")
    print(f"anomalib   {their_seconds:8.1f} s   (from {MEASURED_STEPS} steps)")
    print(f"shopfloor  {our_seconds:8.1f} s   {their_seconds / our_seconds:.0f} times faster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    images = parser.parse_args().images
    compare_sets(count=20 * PATCHES_PER_IMAGE)
    compare_times(count=images * PATCHES_PER_IMAGE)


if __name__ == "__main__":
    main()
