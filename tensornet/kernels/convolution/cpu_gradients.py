"""All gradients of the edge convolution at once in Numba, and the derivatives of those.

Edges of a node are taken together: the coupling is contracted with the features received once for
all of them. Where that is little for all channels they go on edge by edge, else vector of channels
by vector of channels. What is summed at senders goes to a buffer per thread, and the buffers are
added in the order of their parts: gradients of features depend on the number of threads in the last
digit, all else does not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES, zeros
from tensornet.kernels.convolution.columns import (
    contract_once,
    contract_twice,
    expand,
    sums,
)
from tensornet.kernels.convolution.columns import curvatures as _curvatures_of_group
from tensornet.kernels.convolution.columns import slopes as _slopes_of_group
from tensornet.kernels.convolution.cpu import sorted_edges
from tensornet.kernels.convolution.gradient_plan import Array, GradientPlan, gradient_plan

_PAST = 2_000_000  # bytes of a result that no cache would keep until it is read
_MOST = 24  # edges of a node that are taken together
_GRAIN = 200_000  # multiplications worth a thread


@_bridge.jit
def _place(ends, order, sender, start, n, steps):  # type: ignore[no-untyped-def]  # Numba infers
    """Where the next n edges stand; see `columns.ENDS`."""
    n_x, n_w, n_y = steps
    for q in range(n):
        e = order[start + q]
        ends[5 * q] = sender[e] * n_x
        ends[5 * q + 1] = e * n_w
        ends[5 * q + 2] = e * n_y


@_bridge.jit
def _place_ahead(  # type: ignore[no-untyped-def]
    ends, order, sender, start, n, last, steps, turn, turns
):
    """Where that stands which is asked for meanwhile: for each edge a part of a later one."""
    later, part = divmod(turn * n, turns)
    x_part, w_part = steps[0] // turns, steps[1] // turns
    for q in range(n):
        e = order[min(start + n + later, last)]
        ends[5 * q + 3] = sender[e] * steps[0] + x_part * part
        ends[5 * q + 4] = e * steps[1] + w_part * part
        part += 1
        if part == turns:
            later, part = later + 1, 0


@_bridge.jit
def _part(n):  # type: ignore[no-untyped-def]
    """How many of n edges are taken together, so that parts are of nearly one size."""
    return -(-n // -(-n // _MOST))


@_bridge.jit
def _slopes(  # type: ignore[no-untyped-def]
    tables, sizes, x, y, w, g, sender, order, starts, ox, oy, ow, first, last
):
    """Gradients of the edges that the nodes from first to last receive."""
    groups, chunks, rows, segments, columns, cells, cell_values, terms, term_values = tables
    steps, n_g, width, largest, at_once, together, past = sizes
    lanes, n_y = BYTES // x.itemsize, steps[2]
    vectors = width // lanes
    n_x, n_w = steps[0] // vectors, steps[1] // vectors
    t0 = largest * width
    s = zeros(t0 + _MOST * n_y * lanes, x)
    ends, stop = np.empty(5 * _MOST, np.int64), starts[last] - 1
    for v in range(first, last):
        start = starts[v]
        while start < starts[v + 1]:
            n = _part(starts[v + 1] - start)
            _place(ends, order, sender, start, n, steps)
            for k in range(0, len(groups), 6):
                cell, cell_stop, term, term_stop = groups[k + 2 : k + 6]
                contract_once(
                    cell, cell_stop, cells, cell_values, term, term_stop, terms, term_values,
                    vectors, g, v * n_g, s, 0,
                )  # fmt: skip
                size = (cell_stop - cell) * lanes
                for u in range(0, vectors, at_once):
                    turn, turns = u // at_once, vectors // at_once
                    _place_ahead(ends, order, sender, start, n, stop, steps, turn, turns)
                    _slopes_of_group(
                        groups[k], groups[k + 1], chunks, rows, segments, columns, ends, n, n_y,
                        together, u, at_once // together, size, n_x, n_w, past, s, t0,
                        -cell * lanes, x, y, w, ox, ow,
                    )  # fmt: skip
            for q in range(n):
                sums(n_y, s, t0 + q * n_y * lanes, oy, ends[5 * q + 2])
            start += n


@_bridge.jit
def _curvatures(  # type: ignore[no-untyped-def]
    tables, sizes, x, y, w, g, hx, hy, hw, sender, order, starts, ox, oy, ow, og, first, last
):
    """Derivatives of those gradients."""
    groups, chunks, rows, segments, columns, cells, cell_values, terms, term_values = tables
    steps, n_g, width, largest, at_once, together, past = sizes
    lanes, n_y = BYTES // x.itemsize, steps[2]
    vectors = width // lanes
    n_x, n_w = steps[0] // vectors, steps[1] // vectors
    t0 = 2 * largest * width
    s = zeros(t0 + _MOST * n_y * lanes, x)
    ends, stop = np.empty(5 * _MOST, np.int64), starts[last] - 1
    for v in range(first, last):
        start = starts[v]
        while start < starts[v + 1]:
            n = _part(starts[v + 1] - start)
            _place(ends, order, sender, start, n, steps)
            for k in range(0, len(groups), 6):
                cell, cell_stop, term, term_stop = groups[k + 2 : k + 6]
                contract_twice(
                    cell, cell_stop, cells, cell_values, term, term_stop, terms, term_values,
                    vectors, g, v * n_g, s, 0,
                )  # fmt: skip
                size = 2 * (cell_stop - cell) * lanes
                for u in range(0, vectors, at_once):
                    turn, turns = u // at_once, vectors // at_once
                    _place_ahead(ends, order, sender, start, n, stop, steps, turn, turns)
                    _curvatures_of_group(
                        groups[k], groups[k + 1], chunks, rows, segments, columns, ends, n, n_y,
                        together, u, at_once // together, size, n_x, n_w, past, s, t0,
                        -2 * cell * lanes, x, y, w, hx, hy, hw, ox, ow,
                    )  # fmt: skip
                expand(
                    cell, cell_stop, cells, cell_values, term, term_stop, terms, term_values,
                    vectors, og, v * n_g, s, 0,
                )  # fmt: skip
            for q in range(n):
                sums(n_y, s, t0 + q * n_y * lanes, oy, ends[5 * q + 2])
            start += n


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
    n, c, v, n_y = x.shape[0], x.shape[2], g.shape[0], y.shape[1]
    order, starts = sorted_edges(name, sender, n, receiver, v)
    x, w, g = _bridge.padded(x, w, g)
    if along:
        hx, hw = _bridge.padded(along[0], along[2])
        along = hx, along[1], hw
    width = x.shape[2]
    shape = x.shape[1], n_y, g.shape[1], w.shape[1]
    tables = gradient_plan(name, shape, index, values, width, 2 if along else 1)
    oy = y.new_empty(y.shape)
    ow = w.new_zeros(w.shape) if tables.n_unmet else w.new_empty(w.shape)
    og = [g.new_zeros(g.shape)] if along else []
    ox = x.new_zeros(x.shape)
    inputs, outs = _bridge.arrays(x, y, w, g, *along, sender), _bridge.arrays(ox, oy, ow, *og)
    _run_arrays(run, tables, inputs, order, starts, outs)
    done = ox, oy, ow, *og
    return (
        done if width == c else tuple(t[..., :c].contiguous() if t.ndim == 3 else t for t in done)
    )


def slopes_of_arrays(
    tables: GradientPlan, inputs: Sequence[Array], order: Array, starts: Array,
    outs: Sequence[Array],
) -> None:  # fmt: skip
    """Slopes in x, added to, y and w: of x, y, w, g and the senders of edges that are sorted.

    Channels are whole vectors, and nothing is checked.
    """
    _, _, ow = outs
    if tables.n_unmet:
        ow.fill(0)
    _run_arrays(_slopes, tables, inputs, order, starts, outs)


def _run_arrays(
    run: Any, tables: GradientPlan, inputs: Sequence[Array], order: Array, starts: Array,
    outs: Sequence[Array],
) -> None:  # fmt: skip
    x, y, w, g = inputs[:4]
    ox, _, ow = outs[:3]
    (_, n_x, width), v = x.shape, len(g)
    past = ow.nbytes > _PAST and ow.ctypes.data % BYTES == 0 and tables.whole
    steps = n_x * width, w.shape[1] * width, y.shape[1]
    sizes = steps, g.shape[1] * width, width, tables.largest, *tables.at_once, int(past)
    *flat, sender = (a.reshape(-1) for a in inputs)
    more = [a.reshape(-1) for a in outs[1:]]

    def part(first: int, last: int) -> Array:
        mine = ox if first == 0 else np.zeros_like(ox)
        run(tables.flat, sizes, *flat, sender, order, starts, mine.reshape(-1), *more, first, last)
        return mine

    for mine in _bridge.spread(part, v, _grain(tables, x, w, v))[1:]:
        ox += mine


def _grain(tables: GradientPlan, x: Array, w: Array, v: int) -> int:
    """Receivers worth a thread: buffers of all threads are to take no more than the weights."""
    threads = max(1, w.size // x.size)
    edges = max(1, _GRAIN // (len(tables.cells) * int(x.shape[2])))
    return max(-(-v * edges // len(w)), -(-v // threads))
