"""Products on the grid in Numba: as many functions at once as a vector has lanes.

A vector holds channels where there are many, and samples where there are few. Nothing of the grid
but one ring per vector is stored.
"""

import torch
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES, zeros
from tensornet.kernels.grid import tiles
from tensornet.kernels.grid.rings import back, fall, ring, rise
from tensornet.kernels.grid.tables import degree_of, tables

COLUMNS, SHARED, SUMMED = 0, 1, 2
_GRAIN = 200_000  # multiplications worth a thread


@_bridge.jit
def _fetch(x, components, c, first, last, to):  # type: ignore[no-untyped-def]  # Numba infers them
    """Columns of functions into vectors."""
    lanes = BYTES // x.itemsize
    if c % lanes == 0:
        tiles.copy(x, first // c * components * c + first % c, c, to, 0, lanes, components)
    elif c == 1 and last - first == lanes and components >= lanes:
        for i in range(0, components, lanes):
            i = min(i, components - lanes)
            tiles.turn(x, first * components + i, components, to, i * lanes, lanes)
    elif c == 1:
        start = first * components
        for q in range(last - first):
            for i in range(components):
                to[i * lanes + q] = x[start]
                start += 1
    else:
        for column in range(first, last):
            start = column // c * components * c + column % c
            for i in range(components):
                to[i * lanes + column - first] = x[start + i * c]


@_bridge.jit
def _put(x, components, c, first, last, to):  # type: ignore[no-untyped-def]
    """Vectors into columns of functions."""
    lanes = BYTES // x.itemsize
    if c % lanes == 0:
        tiles.copy(x, 0, lanes, to, first // c * components * c + first % c, c, components)
    elif c == 1 and last - first == lanes and components >= lanes:
        for i in range(0, components, lanes):
            i = min(i, components - lanes)
            tiles.turn(x, i * lanes, lanes, to, first * components + i, components)
    elif c == 1:
        start = first * components
        for q in range(last - first):
            for i in range(components):
                to[start] = x[i * lanes + q]
                start += 1
    else:
        for column in range(first, last):
            start = column // c * components * c + column % c
            for i in range(components):
                to[start + i * c] = x[i * lanes + column - first]


@_bridge.jit
def _run(  # type: ignore[no-untyped-def]
    mode, sizes, degrees, whole, numbers, x, y, out, c, total, first, last
):
    """Vectors of functions from first to last, each with its own, if `mode` is `COLUMNS`.

    `SHARED`: vectors of second functions, each with all channels of its first; `SUMMED`: samples,
    whose channels are summed.
    """
    heights, quads = sizes
    lanes = BYTES // x.itemsize
    lx, ly, lz = degrees
    i, j, k = (lx + 1) ** 2, (ly + 1) ** 2, (lz + 1) ** 2
    f = zeros(heights * (2 * lx + 2) * lanes, x)
    g = zeros(heights * (2 * ly + 2) * lanes, x)
    o = zeros(heights * (2 * lz + 2) * lanes, x)
    n_ring = 4 * quads * lanes
    values = zeros(n_ring, x)
    others = zeros(n_ring * (heights if mode == SHARED else 1), x)
    a, b, z = zeros(i * lanes, x), zeros(j * lanes, x), zeros(k * lanes, x)
    per_sample = c // lanes
    for block in range(first, last):
        start, items = block * lanes, 1
        if mode == SHARED:
            items = (min(start + lanes, total) - start) * per_sample
        elif mode == SUMMED:
            start, items = block * c, per_sample
        for item in range(items):
            column = start + item * lanes if mode == SUMMED else start
            if mode == SHARED:
                column = start * c + item * lanes
            stop = min(column + lanes, total * c if mode == SHARED else total)
            own = mode != SHARED or item == 0
            _fetch(x, i, c, column, stop, a)
            rise(0, whole, numbers, heights, a, f)
            if own:
                if mode == SHARED:
                    _fetch(y, j, 1, start, min(start + lanes, total), b)
                else:
                    _fetch(y, j, c, column, stop, b)
                rise(1, whole, numbers, heights, b, g)
            for h in range(heights):
                w = h * n_ring if mode == SHARED else 0
                if own:
                    ring(1, whole, numbers, quads, g, h, others, w)
                ring(0, whole, numbers, quads, f, h, values, 0)
                if mode == SHARED:
                    tiles.join(values, others, w + item // per_sample, quads)
                else:
                    tiles.meet(values, others, w, quads)
                back(2, whole, numbers, quads, values, o, h, mode == SUMMED and item > 0)
            if mode != SUMMED or item == items - 1:
                fall(2, whole, numbers, heights, o, z)
            if mode != SUMMED:
                _put(z, k, c, column, stop, out)
        if mode == SUMMED:
            for component in range(k):
                sum_ = z[component * lanes]
                for q in range(1, lanes):
                    sum_ += z[component * lanes + q]
                out[block * k + component] = sum_


def product(x: Tensor, y: Tensor, k: int) -> Tensor:
    """`sphere_product`, functions in parallel."""
    degrees = degree_of("sphere_product", x=x.shape[1], y=y.shape[1], k=k)
    (n, _, c), b = x.shape, y.shape[2]
    if b not in (1, c):
        raise ValueError(f"`sphere_product(y=...)` must have 1 channel or the {c} of `x`. Got {b}.")
    lanes = BYTES // x.itemsize
    shared = b < c and 2 * c >= lanes
    if b < c and not shared:
        y = y.expand(-1, -1, c).contiguous()
    if shared:
        (x,) = _bridge.padded(x)
    width = x.shape[2]
    out = x.new_empty(n, k, width)
    found = tables(tuple(degrees), x.dtype == torch.float32)
    sizes, whole = (found.n_heights, found.n_quads), tuple(degrees)
    flat = _bridge.arrays(x.view(-1), y.view(-1), out.view(-1))
    work = max(1, sizes[0] * sizes[1] * (2 * max(degrees) + 1) * 3 * lanes)
    mode, total = (SHARED, n) if shared else (COLUMNS, n * width)
    if shared:
        work *= width // lanes
    vectors = -(-total // lanes)
    _bridge.spread(
        lambda first, last: _run(mode, sizes, whole, *found[2:], *flat, width, total, first, last),
        vectors,
        max(1, _GRAIN // work),
    )
    return out if width == c else out[..., :c].contiguous()


def overlap(x: Tensor, y: Tensor, k: int) -> Tensor:
    """`sphere_overlap`, samples in parallel."""
    degrees = degree_of("sphere_overlap", x=x.shape[1], y=y.shape[1], k=k)
    n, _, c = x.shape
    lanes = BYTES // x.itemsize
    if 2 * c < lanes:
        return product(x, y, k).sum(-1)
    x, y = _bridge.padded(x, y)
    c = x.shape[2]
    out = x.new_empty(n, k)
    found = tables(tuple(degrees), x.dtype == torch.float32)
    sizes, whole = (found.n_heights, found.n_quads), tuple(degrees)
    flat = _bridge.arrays(x.view(-1), y.view(-1), out.view(-1))
    work = max(1, sizes[0] * sizes[1] * (2 * max(degrees) + 1) * 3 * c)
    _bridge.spread(
        lambda first, last: _run(SUMMED, sizes, whole, *found[2:], *flat, c, n * c, first, last),
        n,
        max(1, _GRAIN // work),
    )
    return out
