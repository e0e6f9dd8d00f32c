"""Fixed sine and cosine positions of a square grid of patches."""

from __future__ import annotations

import torch
from torch.nn import functional

_LARGEST_WAVELENGTH = 10_000.0  # in cells of the grid, up to a factor of 2 pi


def position_table(side: int, dim: int) -> torch.Tensor:
    """Makes the table of positions of a grid (specification of MMR, section 4.3).

    The first half of a row encodes the column of the cell, the second half its row: sines, then cosines, of dim / 4
    frequencies each.

    Args:
        side: Rows, and columns, of the grid.
        dim: Length of a token, a multiple of 4.

    Returns:
        Table ``(1 + side**2, dim)``, float32, from -1 to 1: zeros for the class token, then the grid row by row.
    """
    n_frequencies = dim // 4
    frequencies = _LARGEST_WAVELENGTH ** (-torch.arange(n_frequencies, dtype=torch.float64) / n_frequencies)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    encoding = torch.cat([angles.sin(), angles.cos()], dim=1)
    of_columns = encoding[None, :].expand(side, -1, -1)
    of_rows = encoding[:, None].expand(-1, side, -1)
    grid = torch.cat([of_columns, of_rows], dim=2).flatten(0, 1)
    return torch.cat([torch.zeros_like(grid[:1]), grid]).float()


def resize_table(table: torch.Tensor, side: int) -> torch.Tensor:
    """Fits a table to another grid by bicubic interpolation (specification of MMR, section 4.1).

    Args:
        table: Table ``(1 + n**2, dim)`` of a grid of n rows and columns.
        side: Rows, and columns, of the new grid.

    Returns:
        Table ``(1 + side**2, dim)``; the row of the class token stays as it is.
    """
    class_row, grid = table[:1], table[1:]
    old_side = round(len(grid) ** 0.5)
    if side == old_side:
        return table
    maps = grid.T.unflatten(1, (old_side, old_side))[None]
    maps = functional.interpolate(maps, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([class_row, maps[0].flatten(1).T])
