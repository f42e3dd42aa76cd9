"""Harmonics in Numba: as many edges as a vector has lanes at once, every degree in registers.

An associated Legendre function over the sine's power is a polynomial in the height, made degree by
degree and differentiated along with it; sines and cosines times that power are powers of a complex
number. Rows are turned over in registers on their way from and to memory.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels._vector import (
    every,
    fill,
    lanes_of,
    line_start,
    load,
    load_first,
    load_second,
    load_third,
    rows_in,
    rows_out,
    soon_written,
    store,
    store_fours,
    store_threes,
)
from tensornet.kernels.harmonics.lengths import (
    absolute,
    larger,
    ordinary,
    over_root,
    root,
    where_zero,
)
from tensornet.kernels.harmonics.tables import n_degrees, recursion, three

Array = np.ndarray[Any, Any]
_GRAIN = 20_000  # harmonics worth a thread


@_bridge.jit
def _unit(x, y, z):  # type: ignore[no-untyped-def]  # Numba infers them
    """Directions, and one over lengths; both zero for a vector that is zero."""
    zero, one = fill(x, 0.0), fill(x, 1.0)
    shrink = one
    squared = x * x + y * y + z * z
    if ordinary(squared):
        inverse = over_root(squared)
    else:  # lengths that overflow when squared, or vanish, or are not numbers
        size = larger(absolute(x), larger(absolute(y), absolute(z)))
        shrink = one / where_zero(size, one, size)
        x, y, z = x * shrink, y * shrink, z * shrink
        squared = x * x + y * y + z * z
        inverse = where_zero(squared, zero, one / root(where_zero(squared, one, squared)))
    return x * inverse, y * inverse, z * inverse, inverse * shrink


@_bridge.jit
def _values(first, up, down, v, out, n_l, m, start, stop):  # type: ignore[no-untyped-def]
    """Rows of the edges from start to stop, and of some before them to fill a vector."""
    lanes = lanes_of(v)
    zero, one, side = fill(v, 0.0), fill(v, 1.0), fill(v, 3**0.5)
    if n_l == 2:  # nothing to add up: all stays in registers
        for begin in range(start, stop, lanes):
            e = min(begin, stop - lanes)
            soon_written(out, (e + 2 * lanes) * m, min(e + 3 * lanes, stop) * m)
            x, y, z, _ = _unit(load_first(v, 3 * e), load_second(v, 3 * e), load_third(v, 3 * e))
            store_fours(one + zero * x, side * x, side * y, side * z, out, e * m)
        return
    scratch = np.empty((max(m, lanes) + 1) * lanes, v.dtype)
    rest = np.empty(2 * lanes * lanes, v.dtype)
    base = line_start(scratch)
    for begin in range(start, stop, lanes):
        e = min(begin, stop - lanes)
        soon_written(out, (e + lanes) * m, min(e + 2 * lanes, stop) * m)
        x, y, z, _ = _unit(load_first(v, 3 * e), load_second(v, 3 * e), load_third(v, 3 * e))
        c, s = where_zero(x * x + y * y + z * z, zero, one), zero
        k = 0
        for order in range(n_l):
            now, before = every(first, order), zero
            for l in range(order, n_l):
                middle = base + (l * l + l) * lanes
                store(now * s, scratch, middle - order * lanes)
                store(now * c, scratch, middle + order * lanes)
                now, before = every(up, k) * y * now - every(down, k) * before, now
                k += 1
            c, s = z * c - x * s, z * s + x * c
        store(one + zero * x, scratch, base)
        rows_out(scratch, base, out, e * m, m, begin + 2 * lanes <= stop, rest)


@_bridge.jit
def _gradient(first, up, down, v, g, out, n_l, m, start, stop):  # type: ignore[no-untyped-def]
    """The sum of g times harmonics, differentiated in the vectors."""
    lanes = lanes_of(v)
    scratch = np.empty((max(m, lanes) + 1) * lanes, v.dtype)
    rest = np.empty(2 * lanes * lanes, v.dtype)
    base, zero = line_start(scratch), fill(v, 0.0)
    for begin in range(start, stop, lanes):
        e = min(begin, stop - lanes)
        rows_in(g, e * m, m, begin + 2 * lanes <= stop, scratch, base, rest)
        x, y, z, inverse = _unit(load_first(v, 3 * e), load_second(v, 3 * e), load_third(v, 3 * e))
        c, s, c_less, s_less = fill(v, 1.0), zero, zero, zero
        gx, gy, gz = zero, zero, zero
        k = 0
        for order in range(n_l):
            p, p_less, q, q_less = every(first, order), zero, zero, zero  # q is the slope of p
            a, b, a_q, b_q = zero, zero, zero, zero
            for l in range(order, n_l):
                middle = base + (l * l + l) * lanes
                g_c = load(scratch, middle + order * lanes)
                g_s = load(scratch, middle - order * lanes)
                a, a_q, b, b_q = a + g_c * p, a_q + g_c * q, b + g_s * p, b_q + g_s * q
                rise, fall = every(up, k), every(down, k)
                steep = rise * y
                q, q_less = steep * q + (rise * p - fall * q_less), q
                p, p_less = steep * p - fall * p_less, p
                k += 1
            times = fill(v, order)
            gx += times * (b * c_less - a * s_less)
            gy += a_q * c + b_q * s
            gz += times * (a * c_less + b * s_less)
            c_less, s_less = c, s
            c, s = z * c - x * s, z * s + x * c
        radial = x * gx + y * gy + z * gz
        gx, gy, gz = gx - x * radial, gy - y * radial, gz - z * radial
        store_threes(inverse * gx, inverse * gy, inverse * gz, out, 3 * e)


@_bridge.jit
def _bend(u, h, g, w, stretch, inverse):  # type: ignore[no-untyped-def]
    """How the part of g across u, over the length, changes where u does by h and g by w."""
    (x, y, z), (hx, hy, hz), (gx, gy, gz), (wx, wy, wz) = u, h, g, w
    radial = x * gx + y * gy + z * gz
    turn = hx * gx + hy * gy + hz * gz + x * wx + y * wy + z * wz
    wx = wx - x * turn - hx * radial - stretch * (gx - x * radial)
    wy = wy - y * turn - hy * radial - stretch * (gy - y * radial)
    wz = wz - z * turn - hz * radial - stretch * (gz - z * radial)
    return inverse * wx, inverse * wy, inverse * wz


@_bridge.jit
def _curvature(  # type: ignore[no-untyped-def]
    first, up, down, v, g, h, out, steps, n_l, m, start, stop
):
    """The gradient for g and the harmonics, both differentiated along h."""
    lanes = lanes_of(v)
    scratch = np.empty((max(m, lanes) + 1) * lanes, v.dtype)
    rest = np.empty(2 * lanes * lanes, v.dtype)
    base, zero = line_start(scratch), fill(v, 0.0)
    for begin in range(start, stop, lanes):
        e = min(begin, stop - lanes)
        more = begin + 2 * lanes <= stop
        rows_in(g, e * m, m, more, scratch, base, rest)
        soon_written(steps, e * m, (e + lanes) * m)
        x, y, z, inverse = _unit(load_first(v, 3 * e), load_second(v, 3 * e), load_third(v, 3 * e))
        hx, hy, hz = load_first(h, 3 * e), load_second(h, 3 * e), load_third(h, 3 * e)
        along = x * hx + y * hy + z * hz
        hx, hy, hz = hx - x * along, hy - y * along, hz - z * along
        hx, hy, hz = hx * inverse, hy * inverse, hz * inverse
        c, s, c_less, s_less = fill(v, 1.0), zero, zero, zero
        dc, ds, dc_less, ds_less = zero, zero, zero, zero  # along h
        gx, gy, gz, wx, wy, wz = zero, zero, zero, zero, zero, zero
        k = 0
        for order in range(n_l):
            p, q, r = every(first, order), zero, zero  # r is the slope of the slope
            p_less, q_less, r_less = zero, zero, zero
            a, a_q, a_r, b, b_q, b_r = zero, zero, zero, zero, zero, zero
            up_c, up_s = hy * c, hy * s
            for l in range(order, n_l):
                at_c = base + (l * l + l + order) * lanes
                at_s = base + (l * l + l - order) * lanes
                g_c, g_s = load(scratch, at_c), load(scratch, at_s)
                store(up_s * q + ds * p, scratch, at_s)
                store(up_c * q + dc * p, scratch, at_c)
                a, a_q, a_r = a + g_c * p, a_q + g_c * q, a_r + g_c * r
                b, b_q, b_r = b + g_s * p, b_q + g_s * q, b_r + g_s * r
                rise, fall = every(up, k), every(down, k)
                steep = rise * y
                r, r_less = steep * r + (rise * (q + q) - fall * r_less), r
                q, q_less = steep * q + (rise * p - fall * q_less), q
                p, p_less = steep * p - fall * p_less, p
                k += 1
            times = fill(v, order)
            gx += times * (b * c_less - a * s_less)
            gy += a_q * c + b_q * s
            gz += times * (a * c_less + b * s_less)
            a_h, b_h = hy * a_q, hy * b_q
            wx += times * (b_h * c_less + b * dc_less - a_h * s_less - a * ds_less)
            wy += a_r * up_c + a_q * dc + b_r * up_s + b_q * ds
            wz += times * (a_h * c_less + a * dc_less + b_h * s_less + b * ds_less)
            c_less, s_less, dc_less, ds_less = c, s, dc, ds
            c, s = z * c - x * s, z * s + x * c
            times = fill(v, order + 1)
            dc, ds = times * (hz * c_less - hx * s_less), times * (hz * s_less + hx * c_less)
        wx, wy, wz = _bend(
            (x, y, z), (hx, hy, hz), (gx, gy, gz), (wx, wy, wz), along * inverse, inverse
        )
        store_threes(wx, wy, wz, out, 3 * e)
        rows_out(scratch, base, steps, e * m, m, more, rest)


@cache
def _table(n_l: int, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    return tuple(a.astype(dtype) for a in recursion(n_l))


def _run(function: Any, n_l: int, *tensors: Tensor) -> None:
    """In threads, edges by the vector; the last edges are done twice if they do not fill one."""
    _run_arrays(function, n_l, len(tensors[0]), *_bridge.arrays(*tensors))


def _run_arrays(function: Any, n_l: int, n: int, *arrays: Array) -> None:
    m = n_l * n_l
    fixed = *_table(n_l, arrays[0].dtype), *arrays, n_l, m
    if n * m < 2 * _GRAIN or torch.get_num_threads() == 1:
        function(*fixed, 0, n)
    else:
        grain = 16 * -(-_GRAIN // (16 * m))
        _bridge.spread(lambda start, stop: function(*fixed, start, stop), n, grain)


def values_of_arrays(vectors: Array, n: int, out: Array) -> None:
    """Write the harmonics of the first n vectors; there is room for a vector of edges, or n."""
    _run_arrays(_values, n_degrees(out.shape[1]), max(n, BYTES // out.itemsize), vectors, out)


def gradient_of_arrays(vectors: Array, n: int, g: Array, out: Array) -> None:
    """Write the derivative of the sum of g times these harmonics; all behind the n are finite."""
    _run_arrays(_gradient, n_degrees(g.shape[1]), max(n, BYTES // g.itemsize), vectors, g, out)


def values(vectors: Tensor, m: int) -> Tensor:
    """`harmonics`, a vector of edges at a time."""
    three("harmonics", vectors=vectors)
    n, n_l = vectors.shape[0], n_degrees(m)
    v = _filled(n, vectors)
    out = v.new_empty(v.shape[0], n_l * n_l)
    if m:
        _run(_values, n_l, v, out)
    return _cut(out, n, m)


def gradient(vectors: Tensor, g: Tensor) -> Tensor:
    """`harmonics_gradient`, a vector of edges at a time."""
    three("harmonics_gradient", vectors=vectors)
    n, n_l = g.shape[0], n_degrees(g.shape[1])
    v, g = _filled(n, vectors), _filled(n, g, n_l * n_l)
    out = torch.empty_like(v)
    _run(_gradient, n_l, v, g, out)
    return _cut(out, n, 3)


def curvature(vectors: Tensor, g: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """`harmonics_curvature`, a vector of edges at a time."""
    three("harmonics_curvature", vectors=vectors, h=h)
    (n, m), n_l = g.shape, n_degrees(g.shape[1])
    v, g, h = _filled(n, vectors), _filled(n, g, n_l * n_l), _filled(n, h)
    out, steps = torch.empty_like(v), torch.empty_like(g)
    _run(_curvature, n_l, v, g, h, out, steps)
    return _cut(out, n, 3), _cut(steps, n, m)


def _filled(n: int, x: Tensor, m: int = 3) -> Tensor:
    """With rows of zeros where there are fewer than lanes, and numbers for all of a degree."""
    rows, columns = BYTES // x.itemsize - n, m - x.shape[1]
    if rows <= 0 and not columns:
        return x
    return torch.nn.functional.pad(x, (0, columns, 0, max(0, rows)))


def _cut(x: Tensor, n: int, m: int) -> Tensor:
    """Without what was filled."""
    return x if x.shape == (n, m) else x[:n, :m].contiguous()
