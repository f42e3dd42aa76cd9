"""Chebyshev series in Numba: a tile of points times columns that stays in registers.

The three-term recurrence runs over a vector of points while its values are added into one vector
per column, so that neither the polynomials nor partial sums travel through memory. Tiles of few
columns take more points to hide the latency of the recurrence.
"""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES, FMA, Vectors


def _tile(columns: int, vectors: int) -> Any:
    """Code for ``out[i : i + points, q : q + columns]``, points = vectors * lanes of a vector."""

    def tile(typing: Any, x: Any, i: Any, c: Any, q: Any, out: Any) -> Any:
        whole = types.intp
        return types.void(x, whole, c, whole, out), lambda *emit: _emit(columns, vectors, *emit)

    return intrinsic(tile)


def _emit(
    columns: int, vectors: int, context: Any, b: Any, signature: Any, args: tuple[Any, ...]
) -> Any:
    x, c, out = (context.make_array(signature.args[k])(context, b, args[k]) for k in (0, 2, 4))
    number = signature.args[0].dtype
    simd = Vectors(b, context.get_value_type(number), number.bitwidth)
    i, q = args[1], args[3]
    m, r = cgutils.unpack_tuple(b, c.shape)

    def plus(index: Any, offset: int) -> Any:
        return b.add(index, ir.Constant(index.type, offset))

    def variable(value: Any) -> Any:
        return cgutils.alloca_once_value(b, value)

    points = [simd.load(x.data, i, v) for v in range(vectors)]
    twice = [b.fadd(p, p) for p in points]
    before = [variable(p) for p in points]  # T_-1 = T_1
    now = [variable(simd.constant(1.0)) for _ in points]
    sums = [[variable(simd.constant(0.0)) for _ in points] for _ in range(columns)]
    with cgutils.for_range(b, m) as loop:
        row = b.add(b.mul(loop.index, r), q)
        t = [b.load(n) for n in now]
        for k in range(columns):
            factor = simd.every(c.data, plus(row, k))
            for v in range(vectors):
                b.store(simd.multiply_add(factor, t[v], b.load(sums[k][v])), sums[k][v])
        for v in range(vectors):
            product = b.fmul(twice[v], t[v], flags=FMA)
            b.store(b.fsub(product, b.load(before[v]), flags=FMA), now[v])
            b.store(t[v], before[v])
    for v in range(vectors):
        done = [b.load(sums[k][v]) for k in range(columns)]
        for lane in range(simd.lanes):
            row = b.add(b.mul(plus(i, v * simd.lanes + lane), r), q)
            for k in range(columns):
                value = b.extract_element(done[k], ir.Constant(ir.IntType(32), lane))
                b.store(value, b.gep(out.data, [plus(row, k)], source_etype=simd.scalar))
    return context.get_dummy_value()


_BLOCK = 64  # points: a whole number of every tile in both dtypes
_eight, _four, _two, _one = _tile(8, 1), _tile(4, 2), _tile(2, 4), _tile(1, 4)


@_bridge.jit
def _block(x, c, out, i, stop):  # type: ignore[no-untyped-def]  # Numba infers them
    """Fill the rows from i to stop, a whole number of blocks, by tiles."""
    r = c.shape[1]
    lanes = BYTES // x.itemsize
    for start in range(i, stop, _BLOCK):
        q = 0
        while q < r:
            left = r - q
            size = 8 if left > 4 else 4 if left > 2 else left
            if size > r:
                size //= 2
            q = min(q, r - size)  # the last tile may overlap the one before
            if size == 8:
                for j in range(start, start + _BLOCK, lanes):
                    _eight(x, j, c, q, out)
            elif size == 4:
                for j in range(start, start + _BLOCK, 2 * lanes):
                    _four(x, j, c, q, out)
            elif size == 2:
                for j in range(start, start + _BLOCK, 4 * lanes):
                    _two(x, j, c, q, out)
            else:
                for j in range(start, start + _BLOCK, 4 * lanes):
                    _one(x, j, c, q, out)
            q += size


@_bridge.jit
def _polynomials(x, rows):  # type: ignore[no-untyped-def]
    m, n = rows.shape
    for j in range(n):
        rows[0, j] = 1
    if m > 1:
        for j in range(n):
            rows[1, j] = x[j]
    for k in range(2, m):
        for j in range(n):
            rows[k, j] = (x[j] + x[j]) * rows[k - 1, j] - rows[k - 2, j]


def rows(x: Tensor, coefficients: Tensor) -> Tensor:
    """`chebyshev_rows` by tiles."""
    n, r = x.shape[0], coefficients.shape[1]
    out = x.new_empty(n, r)
    points, c, values = _bridge.arrays(x, coefficients, out)
    whole = n // _BLOCK * _BLOCK
    if whole:
        grain = _BLOCK * max(1, 500_000 // (_BLOCK * coefficients.numel()))
        _bridge.spread(lambda i, j: _block(points, c, values, i, j), whole, grain)
    if whole < n:
        last, rest = np.zeros(_BLOCK, points.dtype), np.empty((_BLOCK, r), points.dtype)
        last[: n - whole] = points[whole:]
        _block(last, c, rest, 0, _BLOCK)
        values[whole:] = rest[: n - whole]
    return out


def moments(x: Tensor, values: Tensor, m: int) -> Tensor:
    """`chebyshev_moments` by blocks of points whose polynomials stay in the cache."""
    out = values.new_zeros(m, values.shape[1])
    size = 512
    store = torch.empty(m, size, dtype=x.dtype)
    for start in range(0, x.shape[0], size):
        part = values[start : start + size]
        block = store if part.shape[0] == size else store.new_empty(m, part.shape[0])
        _polynomials(*_bridge.arrays(x[start : start + size], block))
        out.addmm_(block, part)
    return out
