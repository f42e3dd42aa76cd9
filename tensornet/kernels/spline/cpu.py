"""Splines in Numba: the six polynomials of a point once, then vectors of splines."""

from functools import cache
from typing import Any

import numpy as np
from numba.extending import register_jitable
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels._vector import every, fill, load, store
from tensornet.kernels.spline.basis import as_rows, basis, whole_knots

Array = np.ndarray[Any, Any]
_GRAIN = 100_000  # numbers worth a thread


@register_jitable(inline="always")
def _weigh(point, k, basis, order, w):  # type: ignore[no-untyped-def]  # Numba infers them
    """The polynomials at a point, from the nearer end; the first of their rows."""
    first = 0
    if point >= k // 3 - 1:
        first = k // 3 - 2
    elif point > 0:
        first = int(point)
    s = point - first
    near = 0
    if s > 0.5:
        near, s = 3, 1 - s
    for j in range(6):
        total = basis[6 * j + 5]
        for p in range(4, -1, -1):
            total = total * s + basis[6 * j + p]
        if near and (order + j % 3) % 2:  # turned over, odd ones change sign
            total = -total
        w[(j + near) % 6] = total
    return 3 * first


@_bridge.jit
def _values(x, rows, table, basis, order, k, q, out, start, stop):  # type: ignore[no-untyped-def]
    """Rows of the points from start to stop; each in a table of its own if there are `rows`."""
    lanes = BYTES // x.itemsize
    whole = q // lanes * lanes
    w = np.empty(6, x.dtype)
    for e in range(start, stop):
        a = _weigh(x[e], k, basis, order, w) * q
        if len(rows):
            a += rows[e] * q
        o = e * q
        w0, w1, w2 = every(w, 0), every(w, 1), every(w, 2)
        w3, w4, w5 = every(w, 3), every(w, 4), every(w, 5)
        for v in range(0, whole, lanes):
            b = a + v
            left = w0 * load(table, b) + w1 * load(table, b + q) + w2 * load(table, b + 2 * q)
            b += 3 * q
            right = w3 * load(table, b) + w4 * load(table, b + q) + w5 * load(table, b + 2 * q)
            store(left + right, out, o + v)
        for v in range(whole, q):
            total = w[0] * table[a + v]
            for j in range(1, 6):
                total += w[j] * table[a + j * q + v]
            out[o + v] = total


@_bridge.jit
def _slopes(  # type: ignore[no-untyped-def]
    x, rows, table, g, basis, order, k, q, out, start, stop
):
    """Numbers of the points from start to stop; each in a table of its own if there are `rows`."""
    lanes = BYTES // x.itemsize
    whole = q // lanes * lanes
    w, sums = np.empty(6, x.dtype), np.empty(lanes, x.dtype)
    for e in range(start, stop):
        a = _weigh(x[e], k, basis, order, w) * q
        if len(rows):
            a += rows[e] * q
        o = e * q
        w0, w1, w2 = every(w, 0), every(w, 1), every(w, 2)
        w3, w4, w5 = every(w, 3), every(w, 4), every(w, 5)
        both = fill(x, 0.0)
        for v in range(0, whole, lanes):
            b = a + v
            left = w0 * load(table, b) + w1 * load(table, b + q) + w2 * load(table, b + 2 * q)
            b += 3 * q
            right = w3 * load(table, b) + w4 * load(table, b + q) + w5 * load(table, b + 2 * q)
            both = both + (left + right) * load(g, o + v)
        store(both, sums, 0)
        result = sums[0]
        for v in range(1, lanes):
            result += sums[v]
        for v in range(whole, q):
            total = w[0] * table[a + v]
            for j in range(1, 6):
                total += w[j] * table[a + j * q + v]
            result += total * g[o + v]
        out[e] = result


@_bridge.jit
def _moments(x, g, basis, order, k, q, out, start, stop):  # type: ignore[no-untyped-def]
    """Columns from start to stop, of which the first is a multiple of the lanes."""
    lanes = BYTES // x.itemsize
    whole = start + (stop - start) // lanes * lanes
    w = np.empty(6, x.dtype)
    for row in range(k):
        for v in range(start, stop):
            out[row * q + v] = 0
    for e in range(len(x)):
        a = _weigh(x[e], k, basis, order, w) * q
        for v in range(start, whole, lanes):
            number = load(g, e * q + v)
            for j in range(6):
                place = a + j * q + v
                store(load(out, place) + every(w, j) * number, out, place)
        for j in range(6):
            for v in range(whole, stop):
                out[a + j * q + v] += w[j] * g[e * q + v]


_ONE = np.empty(0, np.int64)  # all points in one table


def _arguments(order: int, k: int, q: int, *tensors: Tensor) -> tuple[Any, ...]:
    flat = [a.reshape(-1) for a in _bridge.arrays(*tensors)]
    return *flat, as_rows(order, tensors[0]), min(order, 6), k, q


def values(x: Tensor, table: Tensor, order: int) -> Tensor:
    """`spline`, points in parallel."""
    (k, q), out = table.shape, x.new_empty(len(x), table.shape[1])
    whole_knots("spline", table=k)
    (points, *given), (o,) = _arguments(order, k, q, x, table), _bridge.arrays(out.view(-1))
    _bridge.spread(
        lambda a, b: _values(points, _ONE, *given, o, a, b), len(x), max(1, _GRAIN // (6 * q))
    )
    return out


def slopes(x: Tensor, table: Tensor, g: Tensor, order: int) -> Tensor:
    """`spline_slopes`, points in parallel."""
    (k, q), out = table.shape, x.new_empty(len(x))
    whole_knots("spline_slopes", table=k)
    (points, *given), (o,) = _arguments(order, k, q, x, table, g), _bridge.arrays(out)
    _bridge.spread(
        lambda a, b: _slopes(points, _ONE, *given, o, a, b), len(x), max(1, _GRAIN // (6 * q))
    )
    return out


def moments(x: Tensor, g: Tensor, k: int, order: int) -> Tensor:
    """`spline_moments`, splines in parallel."""
    q, out = g.shape[1], g.new_empty(k, g.shape[1])
    whole_knots("spline_moments", k=k)
    given, (o,) = _arguments(order, k, q, x, g), _bridge.arrays(out.view(-1))
    lanes = BYTES // x.itemsize
    grain = lanes * max(1, _GRAIN // (6 * len(x) * lanes))
    _bridge.spread(lambda a, b: _moments(*given, o, a, b), q, grain)
    return out


def values_of_tables(
    x: Array,  # (e,)
    rows: Array,  # (e,)
    tables: Array,  # (s k, q)
    k: int,
    out: Array,  # (e or more, q)
) -> None:
    """Write `spline` with one of several tables per point, which begins at a row of its own.

    For inference: it has no derivatives but `slopes_of_tables`, and checks no index.
    """
    q = tables.shape[1]
    given = x, rows, tables.reshape(-1), _basis(0, x.dtype), 0, k, q, out.reshape(-1)
    grain = max(1, _GRAIN // (6 * q))
    _bridge.spread(lambda a, b: _values(*given, a, b), len(x), grain)


def slopes_of_tables(
    x: Array,  # (e,)
    rows: Array,  # (e,)
    tables: Array,  # (s k, q)
    g: Array,  # (e or more, q)
    k: int,
) -> Array:  # (e,)
    """Differentiate the sum of `g` times `values_of_tables` in the points."""
    q, out = tables.shape[1], np.empty_like(x)
    given = x, rows, tables.reshape(-1), g.reshape(-1), _basis(1, x.dtype), 1, k, q, out
    grain = max(1, _GRAIN // (6 * q))
    _bridge.spread(lambda a, b: _slopes(*given, a, b), len(x), grain)
    return out


@cache
def _basis(order: int, dtype: np.dtype[Any]) -> Array:
    return basis(order).reshape(-1).astype(dtype)
