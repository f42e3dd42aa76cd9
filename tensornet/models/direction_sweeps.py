"""One grid of a linear network in memory: the way down to the next grid, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.models.direction_grid import Cells
from tensornet.models.direction_linear import Weights

Field = np.ndarray[Any, Any]
_SLACK = 64  # numbers that vectors may run over the end
_GRAIN = 200_000  # numbers worth a thread


class Room:
    """Flat fields of one shape, with one cell more at either end of each axis.

    Args:
        shape: Cells along each axis.
        periodic: Per axis, whether its ends are neighbours.
        dtype: Of the numbers.
    """

    def __init__(self, shape: tuple[int, ...], periodic: tuple[bool, ...], dtype: Any) -> None:
        self.shape, self.periodic, self.dtype = shape, periodic, dtype
        self.padded = tuple(n + 2 for n in shape)
        self.size = int(np.prod(self.padded))

    def empty(self) -> Field:
        """A field of zeros."""
        return np.zeros(self.size + _SLACK, self.dtype)

    def inner(self, field: Field) -> Field:  # (i, j, k)
        """A view of the cells of a field."""
        return field[: self.size].reshape(self.padded)[1:-1, 1:-1, 1:-1]

    def put(self, x: Tensor) -> Field:  # (1, i, j, k)
        """Make a field, zero where `x` ends."""
        field = self.empty()
        part = tuple(slice(n) for n in x.shape[1:])
        self.inner(field)[part] = x[0].detach().numpy()
        return field

    def runs(self, place: Tensor, shape: tuple[int, ...]) -> tuple[Field, Field, Field]:
        """Cells that follow each other here and in vectors: first place, start, length.

        Args:
            place: Where the cells of vectors stand on a grid, ascending.
            shape: Of that grid; leading axes of one cell may be left out.
        """
        full = (1,) * (3 - len(shape)) + tuple(shape)
        at = np.unravel_index(place.numpy(), full)
        there = np.ravel_multi_index(tuple(p + 1 for p in at), self.padded)
        start = np.flatnonzero(np.diff(there, prepend=-2) != 1)
        return there[start], start, np.diff(start, append=len(there))

    def wrap(self, field: Field) -> None:
        """Let the ends of periodic axes be neighbours."""
        if any(self.periodic):
            whole = field[: self.size].reshape(self.padded)
            for axis, around in enumerate(self.periodic):
                if around:
                    turned = np.moveaxis(whole, axis, 0)
                    turned[0], turned[-1] = turned[-2], turned[1]

    def spread(self, run: Callable[[int, int], Any], n: int, work: int = 1) -> None:
        """Run over n slabs, in threads where there are many numbers.

        Args:
            run: From the first slab to the last.
            n: How many there are.
            work: How many numbers are read for one of this field.
        """
        each = self.padded[1] * self.padded[2] * work
        _bridge.spread(run, n, max(1, _GRAIN // each))


class Last:
    """The coarsest grid, on which the matrix is inverted.

    Args:
        inverse: ``(cells, cells)``.
        shape: Cells along each axis.
        periodic: Per axis, whether its ends are neighbours.
    """

    def __init__(self, inverse: Tensor, shape: tuple[int, ...], periodic: tuple[bool, ...]) -> None:
        self.inverse = inverse.numpy()
        self.shape, self.room = shape, Room(shape, periodic, self.inverse.dtype)
        self.scale, self.r, self.s, self.x = (self.room.empty() for _ in range(4))
        self.room.inner(self.scale)[:] = 1

    def run(self) -> None:
        """Solve."""
        found = self.room.inner(self.r).ravel() @ self.inverse
        self.room.inner(self.x)[:] = found.reshape(self.shape)


class Sweep:
    """One grid: its fields, and what the network does on it.

    Args:
        cells: The grid.
        weights: The weights on it.
        after: The next grid.
    """

    def __init__(self, cells: Cells, weights: Weights, after: Sweep | Last) -> None:
        dtype = np.dtype(str(weights.transfer.dtype).removeprefix("torch."))
        self.shape, self.by, self.after = cells.shape, cells.by, after
        sizes = zip(cells.shape, after.shape, cells.by, strict=True)
        even = tuple(2 * far if by == 2 else n for n, far, by in sizes)
        self.room = Room(even, cells.periodic, dtype)
        put = self.room.put
        self.active, self.scale = put(cells.active), put(cells.scale)
        self.ends = [put(ends) for ends in weights.stencil_ends]
        self.transfer_ends = put(weights.transfer_ends)
        self.stencils = [_eight(w) for w in weights.stencils]
        self.transfer = _eight(weights.transfer)
        self.floor = np.array([float(weights.floor), float(weights.gain)], dtype)
        self.r, self.s, self.x, self.y, self.z = (self.room.empty() for _ in range(5))
        row = self.room.padded[2]
        slab = self.room.padded[1] * row
        reach = [((0, 0), (1, 0), (-1, 1), (2, 1))[: 4 if n == 2 else 1] for n in cells.by[:2]]
        ways = sorted(product(*reach), key=lambda way: way[0][1] + way[1][1] > 0)  # own rows first
        self.own = cells.by[0] * cells.by[1]
        self.rows = np.array([i * slab + j * row for (i, _), (j, _) in ways])
        w = self.transfer.reshape(2, 2, 2)
        self.near, self.far = (np.array([w[a, b, c] for (_, a), (_, b) in ways]) for c in (0, 1))

    @property
    def n_bytes(self) -> int:
        """Memory of the fields."""
        held = (self.active, self.scale, self.transfer_ends, *self.ends)
        return sum(a.nbytes for a in (*held, self.r, self.s, self.x, self.y, self.z))

    def run(self) -> None:
        """Go down, let the coarser grids run, and come back up: from `r` and `s` to `x`."""
        self._down()
        self.after.run()
        self._up()

    def _down(self) -> None:
        from tensornet.kernels.cycle.cpu import restrict

        after, (_, nj, nk) = self.after, self.room.shape
        row, ends = after.room.padded[2], after.shape
        slab = after.room.padded[1] * row
        self.room.wrap(self.r)

        def run(first: int, last: int) -> None:
            restrict(
                self.r, self.transfer_ends, self.rows, self.near, self.far, self.own, nj, nk,
                self.by, after.scale, after.r, after.s, slab, row, ends[1], ends[2], first, last,
            )  # fmt: skip

        after.room.spread(run, ends[0], 8)

    def _up(self) -> None:
        from tensornet.kernels.cycle.cpu import finish, stencil

        after, (ni, nj, nk) = self.after, self.room.shape
        chain = list(zip(self.stencils, self.ends, strict=True))
        x, into, other = self.s, self.y, self.z
        for w, ends in (*chain, *chain[::-1]):
            self.room.wrap(x)
            fields = (x, self.active, ends, w, into)
            self.room.spread(partial(stencil, *fields, nj, nk), ni)
            x, into, other = into, other, into
        after.room.wrap(after.x)
        row = after.room.padded[2]
        slab = after.room.padded[1] * row

        def run(first: int, last: int) -> None:
            finish(
                x, self.s, self.scale, self.active, self.transfer_ends, self.floor, self.transfer,
                after.x, nj, nk, self.by, slab, row, after.shape[2], self.x, first, last,
            )  # fmt: skip

        self.room.spread(run, ni)


def _eight(weights: Tensor) -> Field:
    """The weights ``(2, 2, 2)``, zeros for axes that have none, flat."""
    full = weights.new_zeros(2, 2, 2)
    full[tuple(slice(n) for n in weights.shape)] = weights
    return np.ascontiguousarray(full.flatten().numpy())
