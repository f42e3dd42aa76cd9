"""The sparse product in Numba: vectors of channels, or of rows where the channels are few.

A row's channels are taken two vectors at a time: products of pairs are written to a small scratch,
then summed in registers. Rows of few channels are packed first, so that every lane has its own
row and channel. Rows are spread over threads.
"""

from typing import Any

import torch
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES, zeros
from tensornet.kernels.sparse.plan import Tables, tables
from tensornet.kernels.sparse.spec import one_or_all
from tensornet.kernels.sparse.tiles import (
    VECTORS,
    add,
    keep,
    pairs,
    spread,
    turn,
    weigh,
)

_GRAIN = 200_000  # multiplications worth a thread
_SHARE = 64  # rows, or packs of them, whose slopes of shared weights are summed at once


@_bridge.jit
def _split(whole, values):  # type: ignore[no-untyped-def]
    """The tables of `Tables`: tiles, units, and those of both kinds of sums."""
    n_tiles, n_units, n_runs, n_rows, n_terms, n_runs_b, n_rows_b, n_terms_b = whole[:8]
    a = 8 + 6 * n_tiles
    b = a + 4 * n_units
    c = b + 6 * n_runs
    d = c + 2 * n_rows
    e = d + n_terms
    f = e + 6 * n_runs_b
    g = f + 2 * n_rows_b
    tiles = whole[8:a].reshape(-1, 6)
    n_values = 0
    for r in range(n_runs):
        n_values += whole[b + 6 * r] * whole[b + 6 * r + 1] * whole[b + 6 * r + 3]
    rows = whole[b:c], whole[c:d], whole[d:e], values[:n_values]
    back = whole[e:f], whole[f:g], whole[g : g + n_terms_b], values[n_values:]
    return tiles, whole[a:b], rows, back


@_bridge.jit
def _product(tables, n, x, x0, y, y0, o, o0, s):  # type: ignore[no-untyped-def]
    """A few vectors of channels of one row."""
    tiles, units, (runs, rows, terms, values), _ = tables
    for t in range(len(tiles) - 1):
        a, b, c, d = tiles[t, 0], tiles[t, 1], tiles[t, 2], tiles[t + 1, 0]
        pairs(n, a, b, c, d, units, x, x0, y, y0, s)
        add(n, tiles[t, 3], tiles[t + 1, 3], runs, rows, terms, values, s, 0, o, o0)


@_bridge.jit
def _weighted(tables, n, x, x0, y, y0, w, w0, o, o0, s):  # type: ignore[no-untyped-def]
    """The same with weights."""
    tiles, units, (runs, rows, terms, values), _ = tables
    for t in range(len(tiles) - 1):
        a, b, c, d = tiles[t, 0], tiles[t, 1], tiles[t, 2], tiles[t + 1, 0]
        pairs(n, a, b, c, d, units, x, x0, y, y0, s)
        weigh(n, tiles[t, 3], tiles[t + 1, 3], runs, rows, terms, values, s, 0, w, w0, o, o0)


@_bridge.jit
def _slopes(tables, n, x, x0, y, y0, g, g0, u, u0, v, v0, s):  # type: ignore[no-untyped-def]
    """Gradients u of x and v of y."""
    tiles, units, _, (runs, rows, terms, values) = tables
    for t in range(len(tiles) - 1):
        a, b, c, d = tiles[t, 0], tiles[t, 1], tiles[t, 2], tiles[t + 1, 0]
        keep(n, tiles[t, 5], tiles[t + 1, 5], runs, rows, terms, values, g, g0, s, 0)
        spread(n, a, b, c, d, units, x, x0, y, y0, s, u, u0, v, v0)


@_bridge.jit
def _weighted_slopes(  # type: ignore[no-untyped-def]
    tables, n, x, x0, y, y0, w, w0, g, g0, u, u0, v, v0, o, o0, s, r
):
    """Gradients u of x, v of y and o of w; the numbers in `r` are the slopes of the rows."""
    tiles, units, (runs, rows, terms, values), (runs_b, rows_b, terms_b, values_b) = tables
    for t in range(len(tiles) - 1):
        a, b, c, d, row = tiles[t, 0], tiles[t, 1], tiles[t, 2], tiles[t + 1, 0], tiles[t, 4]
        first, last, first_b, last_b = tiles[t, 3], tiles[t + 1, 3], tiles[t, 5], tiles[t + 1, 5]
        pairs(n, a, b, c, d, units, x, x0, y, y0, s)
        turn(n, first, last, runs, rows, terms, values, s, 0, w, w0, g, g0, r, row, o, o0)
        keep(n, first_b, last_b, runs_b, rows_b, terms_b, values_b, r, 0, s, 0)
        spread(n, a, b, c, d, units, x, x0, y, y0, s, u, u0, v, v0)


@_bridge.jit
def scratch(n, x):  # type: ignore[no-untyped-def]
    """Room for n places."""
    return zeros(n * VECTORS * BYTES // x.itemsize, x)


@_bridge.jit
def _each_product(whole, values, n_s, x, y, o, first, last):  # type: ignore[no-untyped-def]
    """Rows from first to last."""
    tables, c, lanes = _split(whole, values), x.shape[2], BYTES // x.itemsize
    n_x, n_y, n_o = x.shape[1] * c, y.shape[1] * c, o.shape[1] * c
    x, y, o = x.reshape(-1), y.reshape(-1), o.reshape(-1)
    s = scratch(n_s, x)
    for r in range(first, last):
        x0, y0, o0 = r * n_x, r * n_y, r * n_o
        o[o0 : o0 + n_o] = 0
        for v in range(0, c, lanes * VECTORS):
            n = min((c - v) // lanes, VECTORS)
            _product(tables, n, x, x0 + v, y, y0 + v, o, o0 + v, s)


@_bridge.jit
def _each_weighted(whole, values, n_s, x, y, w, o, first, last):  # type: ignore[no-untyped-def]
    tables, c, lanes = _split(whole, values), x.shape[2], BYTES // x.itemsize
    n_x, n_y, n_o = x.shape[1] * c, y.shape[1] * c, o.shape[1] * c
    n_w = 0 if len(w) == 1 else w.shape[1] * c
    x, y, w, o = x.reshape(-1), y.reshape(-1), w.reshape(-1), o.reshape(-1)
    s = scratch(n_s, x)
    for r in range(first, last):
        x0, y0, w0, o0 = r * n_x, r * n_y, r * n_w, r * n_o
        o[o0 : o0 + n_o] = 0
        for v in range(0, c, lanes * VECTORS):
            n = min((c - v) // lanes, VECTORS)
            _weighted(tables, n, x, x0 + v, y, y0 + v, w, w0 + v, o, o0 + v, s)


@_bridge.jit
def _each_slope(whole, values, n_s, x, y, g, u, v, first, last):  # type: ignore[no-untyped-def]
    tables, c, lanes = _split(whole, values), x.shape[2], BYTES // x.itemsize
    n_x, n_y, n_g = x.shape[1] * c, y.shape[1] * c, g.shape[1] * c
    x, y, g, u, v = x.reshape(-1), y.reshape(-1), g.reshape(-1), u.reshape(-1), v.reshape(-1)
    s = scratch(n_s, x)
    for r in range(first, last):
        x0, y0, g0 = r * n_x, r * n_y, r * n_g
        u[x0 : x0 + n_x] = 0
        v[y0 : y0 + n_y] = 0
        for a in range(0, c, lanes * VECTORS):
            n = min((c - a) // lanes, VECTORS)
            i, j = x0 + a, y0 + a
            _slopes(tables, n, x, i, y, j, g, g0 + a, u, i, v, j, s)


@_bridge.jit
def _each_weighted_slope(  # type: ignore[no-untyped-def]
    whole, values, n_s, n_r, share, x, y, w, g, u, v, o, first, last
):
    """Slopes of shared weights are summed over `share` rows."""
    tables, c, lanes = _split(whole, values), x.shape[2], BYTES // x.itemsize
    n_x, n_y, n_w, n_g = x.shape[1] * c, y.shape[1] * c, w.shape[1] * c, g.shape[1] * c
    n_o, n_w = n_w, 0 if len(w) == 1 else n_w
    x, y, w, g = x.reshape(-1), y.reshape(-1), w.reshape(-1), g.reshape(-1)
    u, v, o = u.reshape(-1), v.reshape(-1), o.reshape(-1)
    s, t = scratch(n_s, x), scratch(n_r, x)
    for r in range(first, last):
        x0, y0, w0, g0, o0 = r * n_x, r * n_y, r * n_w, r * n_g, r // share * n_o
        u[x0 : x0 + n_x] = 0
        v[y0 : y0 + n_y] = 0
        for a in range(0, c, lanes * VECTORS):
            n = min((c - a) // lanes, VECTORS)
            i, j = x0 + a, y0 + a
            _weighted_slopes(
                tables, n, x, i, y, j, w, w0 + a, g, g0 + a, u, i, v, j, o, o0 + a, s, t
            )


@_bridge.jit
def _pack(x, out, rows):  # type: ignore[no-untyped-def]
    """Lay channels of `rows` rows side by side, then zeros."""
    c = x.shape[2]
    for b in range(len(out)):
        there = min(rows, len(x) - b * rows)
        for i in range(x.shape[1]):
            for s in range(there):
                for k in range(c):
                    out[b, i, s * c + k] = x[b * rows + s, i, k]
            for k in range(there * c, out.shape[2]):
                out[b, i, k] = 0


@_bridge.jit
def _unpack(x, out, rows):  # type: ignore[no-untyped-def]
    """Undo `_pack`."""
    c = out.shape[2]
    for r in range(len(out)):
        b, s = r // rows, r % rows
        for i in range(x.shape[1]):
            for k in range(c):
                out[r, i, k] = x[b, i, s * c + k]


class _Layout:
    """Channels as whole vectors: those of several rows side by side, then zeros."""

    def __init__(self, x: Tensor, lanes: int) -> None:
        self.n, _, self.c = x.shape
        self.rows = max(1, min(self.n, VECTORS * lanes // self.c))
        self.width = -(-self.rows * self.c // lanes) * lanes

    def pack(self, x: Tensor) -> Tensor:
        """Of something with a row for each, or one for all."""
        if len(x) == 1 < self.n:
            x = x.expand(self.rows, -1, -1).contiguous()
        out = x.new_empty(-(-len(x) // self.rows), x.shape[1], self.width)
        _pack(*_bridge.arrays(x, out), self.rows)
        return out

    def unpack(self, x: Tensor) -> Tensor:
        """Give each row its own again."""
        out = x.new_empty(self.n, x.shape[1], self.c)
        _unpack(*_bridge.arrays(x, out), self.rows)
        return out

    def sum(self, x: Tensor) -> Tensor:
        """Sum over packs, and over the rows in them, to one row."""
        total = x.sum(0)[:, : self.rows * self.c].reshape(-1, self.rows, self.c)
        return total.sum(1)[None]


def _layout(x: Tensor, *more: Tensor) -> tuple[_Layout | None, tuple[Tensor, ...]]:
    """Tensors with channels as whole vectors, and how that is undone."""
    lanes = BYTES // x.itemsize
    if x.shape[2] % lanes == 0:
        return None, (x, *more)
    layout = _Layout(x, lanes)
    return layout, tuple(layout.pack(t) for t in (x, *more))


def _run(each: Any, found: Tables, numbers: tuple[Any, ...], *t: Tensor) -> None:
    """Spread rows over threads."""
    flat = _bridge.arrays(*t)
    n, _, width = t[0].shape
    if torch.get_num_threads() == 1:
        each(found.whole, found.values, *numbers, *flat, 0, n)
        return
    grain = -(-_GRAIN // (found.n_terms * width * _SHARE)) * _SHARE
    _bridge.spread(lambda a, b: each(found.whole, found.values, *numbers, *flat, a, b), n, grain)


def product(
    x: Tensor, y: Tensor, i: Tensor, j: Tensor, k: Tensor, values: Tensor, n_k: int
) -> Tensor:
    """`sparse_product`."""
    layout, (x, y) = _layout(x, y)
    n, n_i, width = x.shape
    sizes = n_i, y.shape[1], n_k
    found = tables("sparse_product", "ijk", sizes, width, i, j, k, values)
    out = x.new_empty(n, n_k, width)
    _run(_each_product, found, found.most[:1], x, y, out)
    return out if layout is None else layout.unpack(out)


def weighted(
    x: Tensor, y: Tensor, w: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, n_k: int,
) -> Tensor:  # fmt: skip
    """`weighted_product`."""
    one_or_all("weighted_product", x, w)
    layout, (x, y, w) = _layout(x, y, w)
    n, n_i, width = x.shape
    sizes = n_i, y.shape[1], n_k, w.shape[1]
    found = tables("weighted_product", "ijkp", sizes, width, i, j, k, p, values)
    out = x.new_empty(n, n_k, width)
    _run(_each_weighted, found, found.most[:1], x, y, w, out)
    return out if layout is None else layout.unpack(out)


def slopes(
    x: Tensor, y: Tensor, g: Tensor, i: Tensor, j: Tensor, k: Tensor, values: Tensor
) -> tuple[Tensor, Tensor]:
    """`sparse_slopes`."""
    layout, (x, y, g) = _layout(x, y, g)
    sizes = x.shape[1], y.shape[1], g.shape[1]
    found = tables("sparse_slopes", "ijk", sizes, x.shape[2], i, j, k, values)
    gx, gy = torch.empty_like(x), torch.empty_like(y)
    _run(_each_slope, found, found.most[:1], x, y, g, gx, gy)
    return (gx, gy) if layout is None else (layout.unpack(gx), layout.unpack(gy))


def weighted_slopes(
    x: Tensor, y: Tensor, w: Tensor, g: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`weighted_slopes`."""
    one_or_all("weighted_slopes", x, w)
    shared = len(w) != len(x)
    share = _SHARE if shared else 1
    layout, (x, y, w, g) = _layout(x, y, w, g)
    sizes = x.shape[1], y.shape[1], g.shape[1], w.shape[1]
    found = tables("weighted_slopes", "ijkp", sizes, x.shape[2], i, j, k, p, values)
    gx, gy = torch.empty_like(x), torch.empty_like(y)
    gw = w.new_zeros(-(-len(x) // share), *w.shape[1:])
    _run(_each_weighted_slope, found, (*found.most, share), x, y, w, g, gx, gy, gw)
    if layout is None:
        return gx, gy, gw.sum(0, keepdim=True) if shared else gw
    gw = layout.sum(gw) if shared else layout.unpack(gw)
    return layout.unpack(gx), layout.unpack(gy), gw
