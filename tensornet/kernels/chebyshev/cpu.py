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

_FMA = ("contract", "nsz")
_INT32 = ir.IntType(32)


def _tile(columns: int, vectors: int) -> Any:
    """Code for ``out[i : i + points, q : q + columns]``, points = vectors * lanes of 64 bytes."""

    def tile(typing: Any, x: Any, i: Any, c: Any, q: Any, out: Any) -> Any:
        number = x.dtype
        lanes = 512 // number.bitwidth

        def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
            scalar = context.get_value_type(number)
            vector = ir.VectorType(scalar, lanes)
            X, C, O = (
                context.make_array(a)(context, b, v)
                for a, v in ((x, args[0]), (c, args[2]), (out, args[4]))
            )
            i0, q0 = args[1], args[3]
            m, r = cgutils.unpack_tuple(b, C.shape)

            def at(pointer: Any, index: Any, offset: int) -> Any:
                index = b.add(index, ir.Constant(index.type, offset))
                return b.gep(pointer, [index], source_etype=scalar)

            def every(value: Any) -> Any:
                one = b.insert_element(
                    ir.Constant(vector, ir.Undefined), value, ir.Constant(_INT32, 0)
                )
                zeros = ir.Constant(ir.VectorType(_INT32, lanes), None)
                return b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

            def constant(value: float) -> Any:
                return ir.Constant(vector, [ir.Constant(scalar, value)] * lanes)

            def variable(value: Any) -> Any:
                return cgutils.alloca_once_value(b, value)

            points = []
            for v in range(vectors):
                pointer = b.bitcast(at(X.data, i0, v * lanes), vector.as_pointer())
                points.append(b.load(pointer, align=number.bitwidth // 8))
            twice = [b.fadd(p, p) for p in points]
            before = [variable(p) for p in points]  # T_-1 = T_1
            now = [variable(constant(1.0)) for _ in points]
            sums = [[variable(constant(0.0)) for _ in points] for _ in range(columns)]
            with cgutils.for_range(b, m) as loop:
                row = b.add(b.mul(loop.index, r), q0)
                t = [b.load(n) for n in now]
                for k in range(columns):
                    factor = every(b.load(at(C.data, row, k)))
                    for v in range(vectors):
                        product = b.fmul(factor, t[v], flags=_FMA)
                        b.store(b.fadd(product, b.load(sums[k][v]), flags=_FMA), sums[k][v])
                for v in range(vectors):
                    product = b.fmul(twice[v], t[v], flags=_FMA)
                    b.store(b.fsub(product, b.load(before[v]), flags=_FMA), now[v])
                    b.store(t[v], before[v])
            for v in range(vectors):
                done = [b.load(sums[k][v]) for k in range(columns)]
                for lane in range(lanes):
                    point = b.add(i0, ir.Constant(i0.type, v * lanes + lane))
                    row = b.add(b.mul(point, r), q0)
                    for k in range(columns):
                        value = b.extract_element(done[k], ir.Constant(_INT32, lane))
                        b.store(value, at(O.data, row, k))
            return context.get_dummy_value()

        return types.void(x, types.intp, c, types.intp, out), emit

    return intrinsic(tile)


_eight, _four, _two, _one = _tile(8, 1), _tile(4, 2), _tile(2, 4), _tile(1, 4)


@_bridge.jit
def _block(x, c, out, i, stop):  # type: ignore[no-untyped-def]  # Numba infers them
    """Fill the rows from i to stop, a multiple of 64 of them, by tiles."""
    r = c.shape[1]
    lanes = 64 // x.itemsize
    for start in range(i, stop, 64):
        q = 0
        while q < r:
            left = r - q
            size = 8 if left > 4 else 4 if left > 2 else left
            if size > r:
                size //= 2
            q = min(q, r - size)  # the last tile may overlap the one before
            if size == 8:
                for j in range(start, start + 64, lanes):
                    _eight(x, j, c, q, out)
            elif size == 4:
                for j in range(start, start + 64, 2 * lanes):
                    _four(x, j, c, q, out)
            elif size == 2:
                for j in range(start, start + 64, 4 * lanes):
                    _two(x, j, c, q, out)
            else:
                for j in range(start, start + 64, 4 * lanes):
                    _one(x, j, c, q, out)
            q += size


@_bridge.jit
def _rows(x, c, out, start, stop):  # type: ignore[no-untyped-def]
    whole = start + (stop - start) // 64 * 64
    _block(x, c, out, start, whole)
    if whole < stop:
        points = np.zeros(64, x.dtype)
        rest = np.empty((64, c.shape[1]), x.dtype)
        points[: stop - whole] = x[whole:stop]
        _block(points, c, rest, 0, 64)
        out[whole:stop] = rest[: stop - whole]


@_bridge.jit
def _polynomials(x, rows):  # type: ignore[no-untyped-def]
    m, n = rows.shape
    for j in range(n):
        rows[0, j] = 1
    if m > 1:
        rows[1] = x
    for k in range(2, m):
        for j in range(n):
            rows[k, j] = (x[j] + x[j]) * rows[k - 1, j] - rows[k - 2, j]


def rows(x: Tensor, coefficients: Tensor) -> Tensor:
    """`chebyshev_rows` by tiles."""
    out = x.new_empty(x.shape[0], coefficients.shape[1])
    points, c, values = _bridge.arrays(x, coefficients, out)
    work = 64 * max(1, 30_000 // coefficients.numel())
    _bridge.spread(lambda i, j: _rows(points, c, values, i, j), x.shape[0], work)
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
