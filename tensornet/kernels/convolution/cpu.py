"""The edge convolution in Numba: edge by edge, each result in registers, no message stored.

For as many edges as a vector has lanes, the coupling is contracted with the harmonics at once; then
every edge meets its channels. Receivers are spread over threads.
"""

from functools import lru_cache

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import check_range, sorted_places
from tensornet.kernels._tile import BYTES
from tensornet.kernels.convolution.plan import Array, Plan, plan
from tensornet.kernels.convolution.tiles import (
    contract,
    contract_sums,
    convolve,
    fetch,
    pair,
    weigh,
)

_GRAIN = 200_000  # multiplications worth a thread


@_bridge.jit
def _matrices(plan, y, order, start, stop, turned, m):  # type: ignore[no-untyped-def]
    """Contract the coupling with the harmonics of a vector of edges."""
    cell_starts, cell_j, cell_values = plan
    n_j, lanes = y.shape[1], BYTES // y.itemsize
    for q in range(stop - start):
        e = order[start + q]
        for j in range(n_j):
            turned[j * lanes + q] = y[e, j]
    contract(cell_starts, len(cell_starts) - 1, cell_j, cell_values, turned, m, 0)


@_bridge.jit
def _away(size):  # type: ignore[no-untyped-def]
    """How many edges ahead of use their weights, of so many bytes, are asked for."""
    return max(1, min(8, 4096 // size))


@_bridge.jit
def _convolve(  # type: ignore[no-untyped-def]
    chunks, rows, columns, plan, sizes, x, y, w, sender, order, starts, out, first, last
):
    """Sum at the receivers from first to last."""
    n_x, n_w, n_out, width = sizes
    lanes = BYTES // x.itemsize
    turned = np.zeros(y.shape[1] * lanes, x.dtype)
    m = np.empty((len(plan[0]) - 1) * lanes, x.dtype)
    n_columns, turns = len(columns) // 2, lanes * (len(columns) // 2) * (-(-width // (2 * lanes)))
    k_x, k_w, away = -(-n_x // turns), -(-n_w // turns), _away(n_w * w.itemsize)
    stop, v = starts[last], first
    for start in range(starts[first], stop, lanes):
        end = min(start + lanes, stop)
        _matrices(plan, y, order, start, end, turned, m)
        for q in range(end - start):
            while starts[v + 1] <= start + q:
                v += 1
            e = order[start + q]
            x0, w0, o0 = sender[e] * n_x, e * n_w, v * n_out
            after = order[min(start + q + away, stop - 1)]
            convolve(
                chunks, len(chunks), width // lanes, columns, rows, m, q, x, x0, w, w0, out, o0,
                n_columns, sender[after] * n_x, after * n_w, n_x, n_w, k_x, k_w,
            )  # fmt: skip


@_bridge.jit
def _weigh(  # type: ignore[no-untyped-def]
    segments, rows, columns, plan, sizes, x, y, g, sender, receiver, order, out, first, last
):
    """Numbers of the edges from first to last."""
    n_x, n_g, n_out, width = sizes
    lanes = BYTES // x.itemsize
    turned = np.zeros(y.shape[1] * lanes, x.dtype)
    m = np.empty((len(plan[0]) - 1) * lanes, x.dtype)
    for start in range(first, last, lanes):
        end = min(start + lanes, last)
        _matrices(plan, y, order, start, end, turned, m)
        for e in range(start, end):
            x0, g0, o0 = sender[e] * n_x, receiver[e] * n_g, e * n_out
            if e + 1 < last:
                fetch(x, sender[e + 1] * n_x, n_x)
                fetch(g, receiver[e + 1] * n_g, n_g)
            for s in range(o0, o0 + n_out):
                out[s] = 0
            weigh(
                segments, len(segments), width // lanes, columns, rows,
                m, e - start, x, x0, g, g0, out, o0,
            )  # fmt: skip


@_bridge.jit
def _pair(  # type: ignore[no-untyped-def]
    chunks, rows, columns, plan, sizes, x, w, g, sender, receiver, out, first, last
):
    """Rows of the edges from first to last."""
    n_x, n_w, n_g, width, n_cells = sizes
    j_starts, j_cells, j_values = plan
    lanes = BYTES // x.itemsize
    n_j = len(j_starts) - 1
    products = np.empty(n_cells * lanes, x.dtype)
    for e in range(first, last):
        x0, w0, g0 = sender[e] * n_x, e * n_w, receiver[e] * n_g
        if e + 1 < last:
            fetch(x, sender[e + 1] * n_x, n_x)
            fetch(g, receiver[e + 1] * n_g, n_g)
            fetch(w, w0 + n_w, n_w)
        for s in range(len(products)):
            products[s] = 0
        pair(chunks, len(chunks), width // lanes, columns, rows, x, x0, w, w0, g, g0, products, 0)
        contract_sums(j_starts, n_j, j_cells, j_values, products, out, e * n_j)


def convolution(
    x: Tensor, y: Tensor, w: Tensor, sender: Tensor, receiver: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, v: int, n_k: int,
) -> Tensor:  # fmt: skip
    """`edge_convolution`, receivers in parallel."""
    name = "edge_convolution"
    sizes = x.shape[1], y.shape[1], n_k, w.shape[1]
    tables = plan(name, sizes, (i, j, k, p), values)
    c, (x, w) = x.shape[2], _bridge.padded(x, w)
    width = x.shape[2]
    order, starts = sorted_edges(name, sender, x.shape[0], receiver, v)
    out = x.new_zeros(v, n_k, width)
    x_, y_, w_, from_ = _bridge.arrays(x, y, w, sender)
    convolve_arrays(tables, x_, y_, w_, from_, order, starts, out.numpy())
    return out if width == c else out[..., :c].contiguous()


def convolve_arrays(
    tables: Plan, x: Array, y: Array, w: Array, sender: Array, order: Array, starts: Array,
    out: Array,
) -> None:  # fmt: skip
    """Add the convolution to `out`: channels are whole vectors, edges sorted, nothing checked."""
    v, n_k, width = out.shape
    steps = x.shape[1] * width, w.shape[1] * width, n_k * width, width
    build = tables.cell_starts, tables.cell_j, tables.cell_values
    given = (
        tables.chunks, *_scaled(tables, width), build, steps, x.reshape(-1), y, w.reshape(-1),
        sender, order, starts, out.reshape(-1),
    )  # fmt: skip
    n_edges = max(1, int(starts[-1]))
    grain = -(-v * _edges(tables, width) // n_edges)
    _bridge.spread(lambda a, b: _convolve(*given, a, b), v, grain)


def weights(
    x: Tensor, y: Tensor, g: Tensor, sender: Tensor, receiver: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, n_p: int,
) -> Tensor:  # fmt: skip
    """`edge_weights`, edges in parallel."""
    name = "edge_weights"
    sizes = x.shape[1], y.shape[1], g.shape[1], n_p
    tables = plan(name, sizes, (i, j, k, p), values)
    c, (x, g) = x.shape[2], _bridge.padded(x, g)
    width = x.shape[2]
    _check_ends(name, sender, len(x), receiver, len(g))
    out = x.new_empty(len(sender), n_p, width)
    flat = _bridge.arrays(x.view(-1), y, g.view(-1), sender, receiver)
    (o,) = _bridge.arrays(out.view(-1))
    order = np.arange(len(sender))
    scaled = _scaled(tables, width)
    steps = x.shape[1] * width, g.shape[1] * width, n_p * width, width
    build = tables.cell_starts, tables.cell_j, tables.cell_values
    _bridge.spread(
        lambda a, b: _weigh(tables.segments, *scaled, build, steps, *flat, order, o, a, b),
        len(sender),
        _edges(tables, width),
    )
    return out if width == c else out[..., :c].contiguous()


def harmonics(
    x: Tensor, w: Tensor, g: Tensor, sender: Tensor, receiver: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, n_j: int,
) -> Tensor:  # fmt: skip
    """`edge_harmonics`, edges in parallel."""
    name = "edge_harmonics"
    sizes = x.shape[1], n_j, g.shape[1], w.shape[1]
    tables = plan(name, sizes, (i, j, k, p), values)
    x, w, g = _bridge.padded(x, w, g)
    width = x.shape[2]
    _check_ends(name, sender, len(x), receiver, len(g))
    out = x.new_empty(len(sender), n_j)
    flat = _bridge.arrays(x.view(-1), w.view(-1), g.view(-1), sender, receiver, out.view(-1))
    scaled = _scaled(tables, width)
    steps = [t.shape[1] * width for t in (x, w, g)]
    whole = (*steps, width, len(tables.cell_starts) - 1)
    sums = tables.j_starts, tables.j_cells, tables.j_values
    _bridge.spread(
        lambda a, b: _pair(tables.chunks, *scaled, sums, whole, *flat, a, b),
        len(sender),
        _edges(tables, width),
    )
    return out


@lru_cache(maxsize=256)
def _scaled(tables: Plan, width: int) -> tuple[Array, Array]:
    """Rows and columns as places in a row of channels."""
    return tables.rows * width, (tables.columns * width).reshape(-1)


def _edges(tables: Plan, width: int) -> int:
    """How many edges are worth a thread."""
    return max(1, _GRAIN // (len(tables.cell_starts) * width))


def sorted_edges(
    name: str, sender: Tensor, n: int, receiver: Tensor, v: int
) -> tuple[Array, Array]:
    """Check the ends of the edges and sort these by receiver: the order, and where each starts."""
    (from_,) = _bridge.arrays(sender)
    check_range(name, "sender", from_, n)
    return sorted_places(name, "receiver", receiver, v)


def _check_ends(name: str, sender: Tensor, n: int, receiver: Tensor, v: int) -> None:
    from_, to = _bridge.arrays(sender, receiver)
    check_range(name, "sender", from_, n)
    check_range(name, "receiver", to, v)
