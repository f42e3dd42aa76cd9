"""All gradients of the edge convolution at once in Numba, and the derivatives of those.

An edge is read once. What is summed at receivers stands in scratch while their edges pass by; what
is summed at senders goes to a buffer per thread, and the buffers are added in the order of their
parts: gradients of features depend on the number of threads in the last digit, all else does not.
"""

from typing import Any

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels.convolution.columns import curvatures as _curvatures_of_edge
from tensornet.kernels.convolution.columns import move, move_past, reduce, stage, unstage
from tensornet.kernels.convolution.columns import slopes as _slopes_of_edge
from tensornet.kernels.convolution.cpu import _away, _checked, _edges, _ordered, _padded
from tensornet.kernels.convolution.plan import Plan, plan
from tensornet.kernels.convolution.tiles import contract

_PAST = 8_000_000  # bytes of a result that no cache would keep until it is read


@_bridge.jit
def _scratch(n, like):  # type: ignore[no-untyped-def]  # Numba infers them
    """Memory for n numbers, and where in it a line of the cache begins."""
    s = np.zeros(n + BYTES // like.itemsize, like.dtype)
    return s, (-s.ctypes.data // like.itemsize) % (BYTES // like.itemsize)


@_bridge.jit
def _matrices(build, y, order, start, stop, turned, s, m0):  # type: ignore[no-untyped-def]
    """Contract the coupling with the harmonics of a vector of edges."""
    cell_starts, cell_j, cell_values = build
    n_j, lanes = y.shape[1], BYTES // y.itemsize
    for q in range(stop - start):
        e = order[start + q]
        for j in range(n_j):
            turned[j * lanes + q] = y[e, j]
    contract(cell_starts, len(cell_starts) - 1, cell_j, cell_values, turned, s, m0)


@_bridge.jit
def _slopes(  # type: ignore[no-untyped-def]
    tables, build, sums, sizes, x, y, w, g, sender, order, starts, ox, oy, ow, first, last
):
    """Gradients of the edges that the nodes from first to last receive."""
    chunks, rows, columns = tables
    n_x, n_w, n_g, width, past = sizes
    lanes, n_j, n_cells = BYTES // x.itemsize, y.shape[1], len(build[0]) - 1
    n_columns = len(columns) // 3
    staged = len(rows) * width
    k_x, k_w = -(-n_x // (width * n_columns)), -(-n_w // (width * n_columns))
    away = _away(n_w * w.itemsize)
    turned = np.zeros(n_j * lanes, x.dtype)
    s, m0 = _scratch(2 * n_cells * lanes + staged + n_w, x)
    t0 = m0 + n_cells * lanes
    g0 = t0 + n_cells * lanes
    ow0 = g0 + staged
    stop, v, here = starts[last], first, -1
    for start in range(starts[first], stop, lanes):
        end = min(start + lanes, stop)
        _matrices(build, y, order, start, end, turned, s, m0)
        for q in range(end - start):
            while starts[v + 1] <= start + q:
                v += 1
            if v != here:
                stage(rows, len(rows), width // lanes, g, v * n_g, s, g0)
                here = v
            e = order[start + q]
            after = order[min(start + q + away, stop - 1)]
            _slopes_of_edge(
                chunks, len(chunks), width // lanes, columns, len(rows),
                s, m0 + q, g0, ow0, t0, x, w, ox, sender[e] * n_x, e * n_w,
                sender[after] * n_x, after * n_w, n_x, n_w, k_x, k_w,
            )  # fmt: skip
            reduce(sums[0], n_j, sums[1], sums[2], s, t0, oy, e * n_j)
            if past:
                move_past(s, ow0, ow, e * n_w, n_w)
            else:
                move(s, ow0, ow, e * n_w, n_w)


@_bridge.jit
def _curvatures(  # type: ignore[no-untyped-def]
    tables, build, sums, sizes, x, y, w, g, hx, hy, hw, sender, order, starts,
    ox, oy, ow, og, first, last,
):  # fmt: skip
    """Derivatives of those gradients."""
    chunks, rows, columns = tables
    n_x, n_w, n_g, width, past = sizes
    lanes, n_j, n_cells = BYTES // x.itemsize, y.shape[1], len(build[0]) - 1
    n_columns = len(columns) // 3
    staged = len(rows) * width
    k_x, k_w = -(-n_x // (width * n_columns)), -(-n_w // (width * n_columns))
    away = _away(n_w * w.itemsize)
    turned = np.zeros(n_j * lanes, x.dtype)
    s, m0 = _scratch(3 * n_cells * lanes + 2 * staged + n_w, x)
    n0 = m0 + n_cells * lanes
    t0 = n0 + n_cells * lanes
    g0 = t0 + n_cells * lanes
    og0 = g0 + staged
    ow0 = og0 + staged
    stop, v, here = starts[last], first, -1
    for start in range(starts[first], stop, lanes):
        end = min(start + lanes, stop)
        _matrices(build, y, order, start, end, turned, s, m0)
        _matrices(build, hy, order, start, end, turned, s, n0)
        for q in range(end - start):
            while starts[v + 1] <= start + q:
                v += 1
            if v != here:
                if here >= 0:
                    unstage(rows, len(rows), width // lanes, og, here * n_g, s, og0)
                stage(rows, len(rows), width // lanes, g, v * n_g, s, g0)
                here = v
            e = order[start + q]
            after = order[min(start + q + away, stop - 1)]
            _curvatures_of_edge(
                chunks, len(chunks), width // lanes, columns, len(rows), s, m0 + q, n0 + q,
                g0, og0, ow0, t0, x, hx, w, hw, ox, sender[e] * n_x, e * n_w,
                sender[after] * n_x, after * n_w, n_x, n_w, k_x, k_w,
            )  # fmt: skip
            reduce(sums[0], n_j, sums[1], sums[2], s, t0, oy, e * n_j)
            if past:
                move_past(s, ow0, ow, e * n_w, n_w)
            else:
                move(s, ow0, ow, e * n_w, n_w)
    if here >= 0:
        unstage(rows, len(rows), width // lanes, og, here * n_g, s, og0)


def slopes(
    x: Tensor, y: Tensor, w: Tensor, g: Tensor, sender: Tensor, receiver: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """`edge_slopes`, receivers in parallel."""
    return _run("edge_slopes", _slopes, (x, y, w, g), (), sender, receiver, (i, j, k, p), values)


def curvatures(
    x: Tensor, y: Tensor, w: Tensor, g: Tensor, hx: Tensor, hy: Tensor, hw: Tensor,
    sender: Tensor, receiver: Tensor, i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """`edge_curvatures`, receivers in parallel."""
    at = i, j, k, p
    along = hx, hy, hw
    return _run("edge_curvatures", _curvatures, (x, y, w, g), along, sender, receiver, at, values)


def _run(
    name: str, run: Any, at: tuple[Tensor, ...], along: tuple[Tensor, ...],
    sender: Tensor, receiver: Tensor, index: tuple[Tensor, ...], values: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    x, y, w, g = at
    n, c, v = x.shape[0], x.shape[2], g.shape[0]
    tables = plan(name, (x.shape[1], y.shape[1], g.shape[1], w.shape[1]), index, values, True)
    _checked(name, "sender", sender, n)
    order, starts = _ordered(name, "receiver", receiver, v)
    x, w, g = _padded(x, w, g)
    if along:
        hx, hw = _padded(along[0], along[2])
        along = hx, along[1], hw
    width = x.shape[2]
    oy, ow = y.new_empty(y.shape), w.new_empty(w.shape)
    og = [g.new_zeros(g.shape)] if along else []
    inputs = [t if t.ndim == 2 else t.view(-1) for t in (x, y, w, g, *along)]
    flat = _bridge.arrays(*inputs, sender)
    outs = _bridge.arrays(oy.view(-1), ow.view(-1), *(t.view(-1) for t in og))
    columns = (tables.columns * [width, width, 1]).reshape(-1)
    scaled = tables.chunks, tables.rows * width, columns
    build = tables.cell_starts, tables.cell_j, tables.cell_values
    sums = tables.j_starts, tables.j_cells, tables.j_values
    past = ow.nbytes > _PAST and ow.data_ptr() % BYTES == 0
    sizes = x.shape[1] * width, w.shape[1] * width, g.shape[1] * width, width, past

    def part(first: int, last: int) -> Tensor:
        mine = x.new_zeros(x.shape)
        (ox,) = _bridge.arrays(mine.view(-1))
        run(scaled, build, sums, sizes, *flat, order, starts, ox, *outs, first, last)
        return mine

    parts = _bridge.spread(part, v, _grain(tables, x, w, v))
    for more in parts[1:]:
        parts[0] += more
    done = parts[0], oy, ow, *og
    return (
        done if width == c else tuple(t[..., :c].contiguous() if t.ndim == 3 else t for t in done)
    )


def _grain(tables: Plan, x: Tensor, w: Tensor, v: int) -> int:
    """Receivers worth a thread: buffers of all threads are to take no more than the weights."""
    threads = max(1, w.numel() // x.numel())
    return max(-(-v * _edges(tables, x.shape[2]) // len(w)), -(-v // threads))
