"""The aligned product in Numba: one item after the other, between the turns nothing is stored.

For a block of items their tilts to the axis are made at once, an item in each lane.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels.aligned.spec import degree
from tensornet.kernels.aligned.tables import plan, tables
from tensornet.kernels.aligned.tiles import torque, weigh
from tensornet.kernels.cp.tiles import (
    STORE,
    VECTORS,
    copy,
    four,
    multiply,
    one,
    six,
    three,
    turn,
    two,
)

_GRAIN = 100_000  # multiplications worth a thread


@_bridge.jit
def _angles(r, first, n, l_max, work, series, azimuths):  # type: ignore[no-untyped-def]
    """Of n items: cos and sin of multiples of the angle to the axis, and of the azimuth.

    Rows of a block: cos(k b) for k = 0 to l_max, sin(k b) from 1 on; then cos, sin and -sin of
    each multiple of the azimuth. All vectors of an axis have the azimuth zero.
    """
    width = VECTORS * BYTES // work.itemsize
    for q in range(n):
        x, y, z = r[3 * (first + q)], r[3 * (first + q) + 1], r[3 * (first + q) + 2]
        far = math.hypot(x, z)
        length = math.hypot(far, y)
        c, s = y / length, far / length
        p, t = (z / far, x / far) if far > 0 else (1.0, 0.0)
        ck, sk, pk, tk = 1.0, 0.0, 1.0, 0.0
        work[series + q] = length / length
        for k in range(1, l_max + 1):
            ck, sk = ck * c - sk * s, sk * c + ck * s
            pk, tk = pk * p - tk * t, tk * p + pk * t
            work[series + k * width + q] = ck
            work[series + (l_max + k) * width + q] = sk
            place = azimuths + 3 * (k - 1) * width + q
            work[place] = pk
            work[place + width] = tk
            work[place + 2 * width] = -tk


@_bridge.jit
def _in(x, x0, c, n, l_max, work, azimuths):  # type: ignore[no-untyped-def]
    """Features, turned about the axis, by degree."""
    width = VECTORS * BYTES // work.itemsize
    copy(x, x0, work, 0, n)
    for l in range(1, l_max + 1):
        given, made = x0 + (l * l + l) * c, l * l * width
        copy(x, given, work, made, n)
        for m in range(1, l + 1):
            at = azimuths + 3 * (m - 1) * width
            plus, minus = made + m * width, made + (l + m) * width
            turn(x, given - m * c, given + m * c, work, minus, plus, work, at, at + width, n)


@_bridge.jit
def _out(work, o0, out, x0, c, n, l_max, azimuths):  # type: ignore[no-untyped-def]
    """Turn back, and write features."""
    width = VECTORS * BYTES // work.itemsize
    copy(work, o0, out, x0, n)
    for l in range(1, l_max + 1):
        given, made = o0 + l * l * width, x0 + (l * l + l) * c
        copy(work, given, out, made, n)
        for m in range(1, l + 1):
            at = azimuths + 3 * (m - 1) * width
            plus, minus = given + m * width, given + (l + m) * width
            turn(work, minus, plus, out, made - m * c, made + m * c, work, at, at + 2 * width, n)


@_bridge.jit
def _walk(lines, first, last, a, base, work, places):  # type: ignore[no-untyped-def]
    """Lines of a plan: small matrices, each times rows of the work."""
    for line in range(first, last):
        height, size, a_row, a_step = lines[line, 0], lines[line, 1], lines[line, 3], lines[line, 4]
        cell, t, k = base + lines[line, 2], lines[line, 5], lines[line, 6]
        if height == 6:
            six(STORE, size, a, cell, a_row, a_step, work, places, t, places, k)
        elif height == 4:
            four(STORE, size, a, cell, a_row, a_step, work, places, t, places, k)
        elif height == 3:
            three(STORE, size, a, cell, a_row, a_step, work, places, t, places, k)
        elif height == 2:
            two(STORE, size, a, cell, a_row, a_step, work, places, t, places, k)
        else:
            one(STORE, size, a, cell, a_row, a_step, work, places, t, places, k)


@_bridge.jit
def _twist(pairs, values, about_x, work, places):  # type: ignore[no-untyped-def]
    """Torques about x and z, on the axis: of slopes and results, less of what was given."""
    left, right = pairs
    x, z, g, back = places
    n = len(values)
    tx = torque(work, g, z, left, right, values, 0, about_x)
    tx -= torque(work, back, x, left, right, values, 0, about_x)
    tz = torque(work, g, z, left, right, values, about_x, n)
    tz -= torque(work, back, x, left, right, values, about_x, n)
    return tx, tz


@_bridge.jit
def _run(  # type: ignore[no-untyped-def]
    l_max, c, tables, plan, x, g, r, w, core, out, out_r, out_w, start, stop
):
    """Items from start to stop: their products, or their slopes if there are places for them."""
    slopes = len(out_w) > 0
    series_table, left, right, values, about_x = tables
    lines, stops, places, n_rows = plan
    d, n_series = (l_max + 1) ** 2, 2 * l_max + 1
    n_cells = len(series_table) // n_series
    width = VECTORS * BYTES // x.itemsize
    step = d * width
    x0, z0, g0, b0, w0 = step, 2 * step, 3 * step, 4 * step, 5 * step
    slope, series = w0 + width, w0 + 2 * width
    tilts = series + n_series * width
    angles = tilts + n_cells * width
    work = np.zeros((n_rows + 1) * width, x.dtype)
    zero = work[0]
    for first in range(start, stop, width):
        n = min(width, stop - first)
        _angles(r, first, n, l_max, work, series, angles)
        row = series // width
        multiply(
            STORE, n_cells, n_series, series_table, 0, n_series, 1,
            work, places, row, places, row + n_series,
        )  # fmt: skip
        for q in range(n):
            item, azimuths, tilt = first + q, angles + q, tilts + q
            torque_x, torque_z = zero, zero
            for channel in range(0, c, width):
                at, most = item * d * c + channel, min(width, c - channel)
                if most < width:  # sums go over whole vectors
                    work[: d * width] = 0
                    work[w0:slope] = 0
                copy(w, item * c + channel, work, w0, most)
                if slopes:
                    _in(g, at, c, most, l_max, work, azimuths)
                    _walk(lines, stops[2], stops[3], work, tilt, work, places)
                _in(x, at, c, most, l_max, work, azimuths)
                _walk(lines, 0, stops[0], work, tilt, work, places)
                _walk(lines, stops[0], stops[1], core, 0, work, places)
                weigh(work, d, z0, w0, g0, slope)
                if slopes:
                    copy(work, slope, out_w, item * c + channel, most)
                    _walk(lines, stops[3], stops[4], core, 0, work, places)
                    weigh(work, d, b0, w0, g0, slope)
                    _walk(lines, stops[4], stops[5], work, tilt, work, places)
                    tx, tz = _twist((left, right), values, about_x, work, (x0, z0, g0, b0))
                    torque_x += tx
                    torque_z += tz
                else:
                    _walk(lines, stops[1], stops[2], work, tilt, work, places)
                _out(work, 0, out, at, c, most, l_max, azimuths)
            if slopes:
                _slope(r, item, l_max, work, series + q, azimuths, torque_x, torque_z, out_r)


@_bridge.jit
def _slope(r, item, l_max, work, series, azimuths, tx, tz, out):  # type: ignore[no-untyped-def]
    """The slope in r, of torques on the axis."""
    width = VECTORS * BYTES // work.itemsize
    x, y, z = r[3 * item], r[3 * item + 1], r[3 * item + 2]
    length = math.hypot(math.hypot(x, z), y)
    if l_max == 0:
        c, s, p, t = length / length, 0.0, 1.0, 0.0
    else:
        c, s = work[series + width], work[series + (l_max + 1) * width]
        p, t = work[azimuths], work[azimuths + width]
    out[3 * item] = (tx * c * t - tz * p) / length
    out[3 * item + 1] = -tx * s / length
    out[3 * item + 2] = (tx * c * p + tz * t) / length


@cache
def _tables(l_max: int, dtype: torch.dtype) -> tuple[Any, Any, Tensor, Tensor]:
    of, width = tables(l_max), VECTORS * BYTES // dtype.itemsize
    numbers, signs = torch.from_numpy(of.cores), torch.from_numpy(of.signs).to(dtype)
    tilts, values = (torch.from_numpy(t).to(dtype).view(-1) for t in (of.tilts, of.pair_values))
    floats = _bridge.arrays(tilts, values)
    left, right = (np.ascontiguousarray(p * width) for p in of.pairs)
    steps = plan(l_max, width)
    fixed = floats[0], left, right, floats[1], of.about_x
    return fixed, (steps.lines, steps.stops, steps.places, steps.rows), numbers, signs


def product(x: Tensor, r: Tensor, w: Tensor, core: Tensor) -> Tensor:
    """`aligned_product`, items in parallel."""
    out = torch.empty_like(x)
    nothing = x.new_empty(0)
    _spread(x, x, r, w, core, out, nothing, nothing)
    return out


def slopes(
    x: Tensor, g: Tensor, r: Tensor, w: Tensor, core: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`aligned_slopes`, items in parallel."""
    out = torch.empty_like(x), torch.empty_like(r), torch.empty_like(w)
    _spread(x, g, r, w, core, *out)
    return out


def _spread(x: Tensor, g: Tensor, r: Tensor, w: Tensor, core: Tensor, *out: Tensor) -> None:
    l_max = degree(x, r, core)
    fixed, steps, numbers, signs = _tables(l_max, x.dtype)
    cells = core.index_select(0, numbers) * signs
    flat = _bridge.arrays(*(t.view(-1) for t in (x, g, r, w, cells, *out)))
    n, d, c = x.shape
    grain = -(-_GRAIN // (d * d * c))
    _bridge.spread(lambda i, j: _run(l_max, c, fixed, steps, *flat, i, j), n, grain)
