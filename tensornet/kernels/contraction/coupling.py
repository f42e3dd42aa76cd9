"""Values and slopes of the symmetric contraction in code made for its coupling.

It takes features as (n, i, c), or as (n, c, i), whose blocks are turned over in registers.
"""

from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import sorted_places
from tensornet.kernels._tile import BYTES, zeros
from tensornet.kernels._vector import load, rows_in, rows_out, store
from tensornet.kernels.contraction.plan import Array, Plan, plan
from tensornet.kernels.contraction.straight import call, compiled

_WORTH = 1_000_000  # multiplications that are worth to make code
_LONGEST = 1000  # terms
_GRAIN = 200_000  # multiplications worth a thread
_STRIPE = 32  # rows that stay in the cache while their channels are gone through


def suits(n: int, n_t: int, n_c: int) -> bool:
    """Whether to make code for a coupling."""
    return n_t <= _LONGEST and n * n_t * n_c >= _WORTH


@_bridge.jit
def _pack(c, s, n_t, n_c, terms, work, start, at, width):  # type: ignore[no-untyped-def]
    """Copy the coefficients of a species and of a vector of channels in the order of their use."""
    lanes = BYTES // c.itemsize
    for t in range(n_t):
        source, target = (s * n_t + terms[t]) * n_c + at, start + t * lanes
        if width == lanes:
            store(load(c, source), work, target)
        else:
            for lane in range(width):
                work[target + lane] = c[source + lane]


@_bridge.jit
def _clear(x, start, step, n):  # type: ignore[no-untyped-def]
    lanes = BYTES // x.itemsize
    for k in range(n):
        for lane in range(lanes):
            x[start + k * step + lane] = 0


@_bridge.jit
def _take(turned, x, node, n, n_c, at, width, work, start, rest):  # type: ignore[no-untyped-def]
    """Copy the components of a vector of channels of one row."""
    lanes = BYTES // x.itemsize
    if turned and width == lanes:
        place = (node * n_c + at) * n
        rows_in(x, place, n, place + (n + 1) * lanes <= len(x), work, start, rest)
        return
    for i in range(n):
        for lane in range(width):
            place = (node * n_c + at + lane) * n + i if turned else (node * n + i) * n_c + at + lane
            work[start + i * lanes + lane] = x[place]


@_bridge.jit
def _give(turned, x, node, n, n_c, at, width, work, start, rest):  # type: ignore[no-untyped-def]
    """Copy back."""
    lanes = BYTES // x.itemsize
    if turned and width == lanes:
        rows_out(work, start, x, (node * n_c + at) * n, n, False, rest)
        return
    for i in range(n):
        for lane in range(width):
            place = (node * n_c + at + lane) * n + i if turned else (node * n + i) * n_c + at + lane
            x[place] = work[start + i * lanes + lane]


@_bridge.jit
def _run(  # type: ignore[no-untyped-def]
    code, slope, turned, sizes, x, c, g, order, starts, out, terms, low, high
):
    """Rows from low to high in the order of their species; a few rows meet all their channels."""
    n_i, n_k, n_c = sizes
    n_t, lanes = len(terms), BYTES // x.itemsize
    n_out = n_i if slope else n_k
    blocks = -(-n_c // lanes)
    work = zeros((blocks * n_t + 3 * (n_i + n_k) + 3) * lanes, x)
    here_x = blocks * n_t * lanes  # behind the coefficients
    here_g, here_out = here_x + n_i * lanes, here_x + (n_i + n_k) * lanes
    rest = work[here_out + max(n_i, n_k) * lanes :]
    for s in range(len(starts) - 1):
        begin, end = max(starts[s], low), min(starts[s + 1], high)
        if begin >= end:
            continue
        for block in range(blocks):
            at = block * lanes
            to = block * n_t * lanes
            _pack(c, s, n_t, n_c, terms, work, to, at, min(lanes, n_c - at))
        for stripe in range(begin, end, _STRIPE):
            for block in range(blocks):
                at = block * lanes
                width = min(lanes, n_c - at)
                whole = width == lanes
                to = block * n_t * lanes
                for row in range(stripe, min(stripe + _STRIPE, end)):
                    node = order[row]
                    x_, xs, xt = x, node * n_i * n_c + at, n_c
                    g_, gs, gt = g, node * n_k * n_c + at, n_c
                    out_, os, ot = out, node * n_out * n_c + at, n_c
                    if turned or not whole:
                        _take(turned, x, node, n_i, n_c, at, width, work, here_x, rest)
                        x_, xs, xt = work, here_x, lanes
                    if slope and not whole:
                        _take(False, g, node, n_k, n_c, at, width, work, here_g, rest)
                        g_, gs, gt = work, here_g, lanes
                    aside = not whole or (slope and turned)
                    if aside:
                        out_, os, ot = work, here_out, lanes
                    _clear(out_, os, ot, n_out)
                    call(code, x_, xs, xt, work, to, g_, gs, gt, out_, os, ot)
                    if aside:
                        t = turned and slope
                        _give(t, out, node, n_out, n_c, at, width, work, here_out, rest)


def start(
    name: str, slope: bool, turned: bool, x: Tensor, c: Tensor, g: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor, n_k: int, out: Tensor,
) -> None:  # fmt: skip
    """Fill `out` with the values of the polynomials, or with their slope."""
    tables = plan(name, x.shape[2 if turned else 1], n_k, monomials, at_k)
    order, starts = sorted_places(name, "species", species, len(c))
    given, values, slopes = _bridge.arrays(x, c, g)
    run_arrays(slope, turned, tables, given, values, slopes, order, starts, out.numpy(), n_k)


def run_arrays(
    slope: bool, turned: bool, tables: Plan, x: Array, c: Array, g: Array,
    order: Array, starts: Array, out: Array, n_k: int,
) -> None:  # fmt: skip
    """Fill `out`; rows are sorted by species, nothing is checked."""
    n, n_i, n_c = len(x), x.shape[2 if turned else 1], c.shape[2]
    code, terms = compiled("slope" if slope else "value", tables, n_i, 8 * x.itemsize)
    flat = (a.reshape(-1) for a in (x, c, g))
    sizes = n_i, n_k, n_c
    given = slope, turned, sizes, *flat, order, starts, out.reshape(-1), terms
    grain = -(-_GRAIN // (len(terms) * n_c))
    _bridge.spread(lambda a, b: _run(code.address, *given, a, b), n, grain)
