"""Products in CP format in Numba: blocks of items and channels, terms in the cache.

All items and channels meet the same factors, so a column of a block is any pair of the two: few
channels fill the vectors as well as many.
"""

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels.cp.tiles import (
    ADD,
    HEIGHT,
    STORE,
    TIMES,
    VECTORS,
    copy,
    fill,
    multiply,
    total,
)

_TERMS = 10 * HEIGHT  # of a block
_GRAIN = 200_000  # multiplications worth a thread
PRODUCT, SCALED, TRACES = 0, 1, 2


@_bridge.jit
def _columns(x, rows, c, q, n, work, start):  # type: ignore[no-untyped-def]
    """Columns q to q + n of features, to a block; a column is a pair of item and channel."""
    width = VECTORS * BYTES // work.itemsize
    done = 0
    while done < n:
        node, channel = (q + done) // c, (q + done) % c
        run = min(n - done, c - channel)
        for i in range(rows):
            copy(x, (node * rows + i) * c + channel, work, start + i * width + done, run)
        done += run


@_bridge.jit
def _back(work, start, rows, c, q, n, out):  # type: ignore[no-untyped-def]
    """A block to columns q to q + n of features."""
    width = VECTORS * BYTES // work.itemsize
    done = 0
    while done < n:
        node, channel = (q + done) // c, (q + done) % c
        run = min(n - done, c - channel)
        for k in range(rows):
            copy(work, start + k * width + done, out, (node * rows + k) * c + channel, run)
        done += run


@_bridge.jit
def _scales(h, rows, c, q, n, first, terms, work, start):  # type: ignore[no-untyped-def]
    """What items have for each term, repeated for their columns of a block."""
    width = VECTORS * BYTES // work.itemsize
    for r in range(terms):  # a row is filled too far, and then the next one is
        done = 0
        while done < n:
            node, channel = (q + done) // c, (q + done) % c
            run = min(n - done, c - channel)
            fill(h, node * rows + first + r, work, start + r * width + done, run)
            done += run


@_bridge.jit
def _traces(work, start, rows, c, q, n, first, terms, out):  # type: ignore[no-untyped-def]
    """Add terms of a block up to those of their items."""
    width = VECTORS * BYTES // work.itemsize
    done = 0
    while done < n:
        node, channel = (q + done) // c, (q + done) % c
        run = min(n - done, c - channel)
        for r in range(terms):
            out[node * rows + first + r] += total(work, start + r * width + done, run)
        done += run


@_bridge.jit
def _run(kind, sizes, a, b, h, u, v, w, out, start, stop):  # type: ignore[no-untyped-def]
    """Items from start to stop."""
    n_i, n_j, n_k, n_r, c = sizes
    width = VECTORS * BYTES // a.itemsize
    row_o, row_s = n_i + n_j, n_i + n_j + n_k
    rows = np.arange(row_s + _TERMS + 1) * width
    b0, o0, s0 = rows[n_i], rows[row_o], rows[row_s]
    work = np.zeros(s0 + (_TERMS + 1) * width, a.dtype)
    for q in range(start * c, stop * c, width):
        n = min(width, stop * c - q)
        _columns(a, n_i, c, q, n, work, 0)
        if kind != SCALED:
            _columns(b, n_j, c, q, n, work, b0)
        for first in range(0, n_r, _TERMS):
            terms = min(_TERMS, n_r - first)
            if kind == SCALED:
                _scales(h, n_r, c, q, n, first, terms, work, s0)
            else:
                multiply(STORE, terms, n_j, v, first * n_j, n_j, 1, work, rows, n_i, rows, row_s)
            multiply(TIMES, terms, n_i, u, first * n_i, n_i, 1, work, rows, 0, rows, row_s)
            if kind == TRACES:
                _traces(work, s0, n_r, c, q, n, first, terms, out)
            else:
                mode = ADD if first else STORE
                multiply(mode, n_k, terms, w, first * n_k, 1, n_k, work, rows, row_s, rows, row_o)
        if kind != TRACES:
            _back(work, o0, n_k, c, q, n, out)


def product(a: Tensor, b: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """`cp_product` by blocks."""
    out = a.new_empty(a.shape[0], w.shape[1], a.shape[2])
    return _spread(PRODUCT, a, b, u, u, v, w, out)


def scaled(a: Tensor, h: Tensor, u: Tensor, w: Tensor) -> Tensor:
    """`cp_scaled` by blocks."""
    out = a.new_empty(a.shape[0], w.shape[1], a.shape[2])
    return _spread(SCALED, a, a, h, u, u, w, out)


def traces(a: Tensor, b: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """`cp_traces` by blocks."""
    out = a.new_zeros(a.shape[0], u.shape[0])
    return _spread(TRACES, a, b, u, u, v, u, out)


def _spread(kind: int, a: Tensor, b: Tensor, *tensors: Tensor) -> Tensor:
    _, u, _, w, out = tensors
    sizes = a.shape[1], b.shape[1], w.shape[1], u.shape[0], a.shape[2]
    flat = _bridge.arrays(*(x.view(-1) for x in (a, b, *tensors)))
    # Parts begin with a block, so that sums over channels are the same for any number of threads.
    width = VECTORS * BYTES // a.itemsize
    grain = -(-_GRAIN // (3 * u.numel() * a.shape[2] * width)) * width
    _bridge.spread(lambda i, j: _run(kind, sizes, *flat, i, j), a.shape[0], grain)
    return out
