"""The core contraction at points in Numba: blocks of points against the core, in registers."""

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES, SPREAD, WEIGH, product

_BLOCK = 32  # points: pairs of vectors in both dtypes


@_bridge.jit
def _turn(x, start, stop, out, row):  # type: ignore[no-untyped-def]  # Numba infers them
    """The rows of x from start to stop as columns of out, from a row on."""
    for k in range(x.shape[1]):
        for j in range(stop - start):
            out[row + k, j] = x[start + j, k]


@_bridge.jit
def _blocks(core, u, v, w, out, start, stop):  # type: ignore[no-untyped-def]
    """Values, or slopes if `out` has a column for each."""
    a, b, c = core.shape
    k = a + b + c
    slopes = out.shape[1] > 1
    mode = WEIGH | SPREAD if slopes else WEIGH
    flat = core.reshape(-1)
    rows = np.arange(max(b, c))
    work = np.zeros((2 * k, _BLOCK), core.dtype)  # the inputs turned, then their slopes
    o = work.reshape(-1)
    n = _BLOCK
    v0, w0, su, sv, sw = a * n, (a + b) * n, k * n, (k + a) * n, (k + a + b) * n
    vectors = n * core.itemsize // BYTES
    for i in range(start, stop, n):
        end = min(i + n, stop)
        _turn(u, i, end, work, 0)
        _turn(v, i, end, work, a)
        _turn(w, i, end, work, a + b)
        for p in range(su, len(o)):
            o[p] = 0
        for p in range(a):
            f, d, g = p * n, su + p * n, p * b * c
            product(mode, rows, 0, b, c, flat, g, c, 1, o, w0, n, o, sv, n, v0, d, f, vectors)
            if slopes:
                product(SPREAD, rows, 0, c, b, flat, g, 1, c, o, v0, n, o, sw, n, 0, 0, f, vectors)
        for j in range(end - i):
            if slopes:
                for p in range(k):
                    out[i + j, p] = work[k + p, j]
            else:
                out[i + j, 0] = 0
                for p in range(a):
                    out[i + j, 0] += work[p, j] * work[k + p, j]


def points(core: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """`tucker_points` by blocks of points."""
    return _run(1, core, u, v, w).view(-1)


def slopes(core: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """`tucker_slopes` by blocks of points."""
    return _run(sum(core.shape), core, u, v, w)


def _run(columns: int, *tensors: Tensor) -> Tensor:
    out = tensors[1].new_empty(tensors[1].shape[0], columns)
    args = _bridge.arrays(*tensors, out)
    _bridge.spread(lambda i, j: _blocks(*args, i, j), out.shape[0], _BLOCK)
    return out
