"""Points in cells in Numba: one cell after the other, its numbers in the first-level cache."""

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import sorted_places
from tensornet.kernels._tile import BYTES, SPREAD, WEIGH, product

_GRAIN = 8  # cells worth a thread
_POINTS = 16  # of one cell at a time: whole vectors in both dtypes


@_bridge.jit
def _moments(u, v, w, order, starts, out, first, last):  # type: ignore[no-untyped-def]
    """The cells from first to last: for some points at a time, products of two modes by the third.

    The third mode is padded to whole vectors, and a vector of ones stands behind the sums.
    """
    a, b, c = u.shape[1], v.shape[1], w.shape[1]
    lanes = BYTES // out.itemsize
    vectors = (c + lanes - 1) // lanes
    pad, ab = vectors * lanes, a * b
    sums, third = np.ones((ab + 1) * pad, out.dtype), np.zeros(_POINTS * pad, out.dtype)
    pairs, rows = np.zeros(_POINTS * ab, out.dtype), np.arange(ab)
    for d in range(first, last):
        sums[: ab * pad] = 0
        for begin in range(starts[d], starts[d + 1], _POINTS):
            points = min(_POINTS, starts[d + 1] - begin)
            for t in range(points):
                i = order[begin + t]
                for p in range(a):
                    for q in range(b):
                        pairs[t * ab + p * b + q] = u[i, p] * v[i, q]
                for k in range(c):
                    third[t * pad + k] = w[i, k]
            product(
                SPREAD, rows, 0, ab, points, pairs, 0, 1, ab, third, 0, pad,
                sums, 0, pad, 0, 0, ab * pad, vectors,
            )  # fmt: skip
        for pq in range(ab):
            for k in range(c):
                out[(d * ab + pq) * c + k] = sums[pq * pad + k]


@_bridge.jit
def _turn(x, order, begin, points, out, row):  # type: ignore[no-untyped-def]
    """The rows of some points as columns of out, from a row on."""
    for t in range(points):
        i = order[begin + t]
        for k in range(x.shape[1]):
            out[row + k, t] = x[i, k]


@_bridge.jit
def _slopes(core, u, v, w, order, starts, out, first, last):  # type: ignore[no-untyped-def]
    """The points of the cells from first to last, some of one cell at a time side by side."""
    a, b, c = u.shape[1], v.shape[1], w.shape[1]
    k, n = a + b + c, _POINTS
    rows = np.arange(max(b, c))
    work = np.zeros((2 * k, n), core.dtype)  # the inputs turned, then their slopes
    o = work.reshape(-1)
    v0, w0, su, sv, sw = a * n, (a + b) * n, k * n, (k + a) * n, (k + a + b) * n
    vectors = n * core.itemsize // BYTES
    for d in range(first, last):
        for begin in range(starts[d], starts[d + 1], n):
            points = min(n, starts[d + 1] - begin)
            _turn(u, order, begin, points, work, 0)
            _turn(v, order, begin, points, work, a)
            _turn(w, order, begin, points, work, a + b)
            o[su:] = 0
            for p in range(a):
                f, s, g = p * n, su + p * n, (d * a + p) * b * c
                product(
                    WEIGH | SPREAD, rows, 0, b, c, core, g, c, 1, o, w0, n,
                    o, sv, n, v0, s, f, vectors,
                )  # fmt: skip
                product(SPREAD, rows, 0, c, b, core, g, 1, c, o, v0, n, o, sw, n, 0, 0, f, vectors)
            for t in range(points):
                for p in range(k):
                    out[order[begin + t], p] = work[k + p, t]


def moments(u: Tensor, v: Tensor, w: Tensor, cell: Tensor, n_cells: int) -> Tensor:
    """`cell_moments`, cells in parallel."""
    order, starts = sorted_places("cell_moments", "cell", cell, n_cells)
    out = u.new_empty(n_cells, u.shape[1], v.shape[1], w.shape[1])
    *rows, flat = _bridge.arrays(u, v, w, out.view(-1))
    _bridge.spread(lambda i, j: _moments(*rows, order, starts, flat, i, j), n_cells, _GRAIN)
    return out


def slopes(core: Tensor, u: Tensor, v: Tensor, w: Tensor, cell: Tensor) -> Tensor:
    """`cell_slopes`, cells in parallel."""
    n_cells = len(core)
    order, starts = sorted_places("cell_slopes", "cell", cell, n_cells)
    out = u.new_empty(len(u), u.shape[1] + v.shape[1] + w.shape[1])
    flat, *rows, o = _bridge.arrays(core.reshape(-1), u, v, w, out)
    _bridge.spread(lambda i, j: _slopes(flat, *rows, order, starts, o, i, j), n_cells, _GRAIN)
    return out
