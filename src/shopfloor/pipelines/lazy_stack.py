"""Stacks that are made on all cores while they are being written."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from tqdm import tqdm

from shopfloor.catalog.image_stack import LazyStack
from shopfloor.readers.measure import available_cores, thread_pool


def lazy_stack(
    prepare: Callable[[int], np.ndarray],
    length: int,
    shape: tuple[int, ...],
    title: str,
    rows: pd.DataFrame | None = None,
) -> LazyStack:
    """Make the arrays of a stack on all cores, with progress.

    Threads suffice: Pillow, NumPy and OpenCV let go of the interpreter while they work. Only a few results wait at any
    time, so a category of any size is prepared in the memory of some images.

    Args:
        prepare: Makes the array of a row.
        length: Number of rows.
        shape: Shape of one array.
        title: Label of the progress bar.
        rows: The image of each row, with the columns ``image`` and ``sha256``.

    Returns:
        The stack, in the order of the rows.
    """
    return LazyStack(_in_order(prepare, length, title), length, shape, rows=rows)


def _in_order(prepare: Callable[[int], np.ndarray], length: int, title: str) -> Iterator[np.ndarray]:
    ahead = 4 * available_cores()
    with thread_pool() as pool, tqdm(total=length, desc=title, unit="file", mininterval=1.0) as bar:
        waiting = [pool.submit(prepare, row) for row in range(min(ahead, length))]
        for row in range(length):
            if row + ahead < length:
                waiting.append(pool.submit(prepare, row + ahead))
            yield waiting[row].result()
            waiting[row] = None  # type: ignore[call-overload]  # lets go of the pixels
            bar.update()
