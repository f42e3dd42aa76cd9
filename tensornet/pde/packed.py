"""Stencils of a constant coefficient on the cells of a mask, without a field around them.

Cells are taken in pieces that follow each other along the last axis and whose neighbours along the
other axes do so too, so that every neighbour is at one offset and nothing is looked up per cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.pde.domain import Domain
from tensornet.pde.operator import FixedOperator

_GRAIN = 200_000  # cells worth a thread


class PackedLines(FixedOperator):
    """A symmetric stencil with one weight per place along each axis, on a mask on the CPU.

    Args:
        domain: Where it acts.
        diagonal: The diagonal, (n,).
        weights: Per axis, of a cell and the next.
    """

    def __init__(self, domain: Domain, diagonal: Tensor, weights: tuple[Tensor, ...]) -> None:
        self.shape, self.dtype, self.device = (domain.n, domain.n), diagonal.dtype, domain.device
        (self._diagonal,) = _bridge.arrays(diagonal.contiguous())
        self._pieces, self._weights = pieces(domain, weights)

    def run(self, x: Tensor) -> Tensor:  # (b, n) -> (b, n)
        """Apply the stencil to rows.

        Args:
            x: Rows.
        """
        from tensornet.pde.packed_sweep import apply

        x = x.contiguous()
        out, n = torch.empty_like(x), self.shape[1]
        flat = [a.reshape(-1) for a in _bridge.arrays(x, out)]
        count = len(self._pieces) * len(x)
        each = max(1, n // max(1, len(self._pieces)))

        def part(begin: int, end: int) -> None:
            apply(*flat, self._diagonal, self._pieces, self._weights, n, begin, end)

        _bridge.spread(part, count, max(1, _GRAIN // each))
        return out


def pieces(domain: Domain, weights: tuple[Tensor, ...]) -> tuple[Any, Any]:
    """Cut the cells of a mask into pieces.

    Args:
        domain: The domain.
        weights: Per axis, of a cell and the next.

    Returns:
        Per piece its first cell, its length, and its neighbours: above and below the first cell
        along two axes, above the last and below the first along the third, or the first cell where
        there is none; and the weights of these six, zero where there is none, and that inside.
    """
    from tensornet.pde.packed_sweep import cut

    missing = 3 - domain.grid.dim
    number = torch.full((domain.grid.n_cells,), -1)
    number[domain.place] = torch.arange(domain.n)
    lines = [weights[0].new_zeros(1)] * missing + [w.detach() for w in weights]
    table = np.empty((domain.n, 8), dtype=np.int64)
    values = np.empty((domain.n, 7), dtype=lines[0].numpy().dtype)
    around = np.array([False] * missing + list(domain.periodic))
    shape = (1,) * missing + domain.grid.shape
    flat = _bridge.arrays(number, domain.place)
    count = cut(*flat, *shape, *(w.contiguous().numpy() for w in lines), around, table, values)
    return table[:count].copy(), values[:count].ravel().copy()
