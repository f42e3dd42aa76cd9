"""The symmetric contraction in Numba: rows of one species at a time, channels in vectors.

Channels, and where no sum over rows is taken also rows, are spread over threads.
"""

from collections.abc import Sequence

import torch
from numba.cpython.unsafe.tuple import tuple_setitem
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import sorted_places
from tensornet.kernels._tile import BYTES, zeros
from tensornet.kernels._vector import load, store
from tensornet.kernels.contraction import coupling
from tensornet.kernels.contraction.coupling import run_arrays, suits
from tensornet.kernels.contraction.plan import Array, Plan, plan
from tensornet.kernels.contraction.tiles import (
    ROWS,
    bend,
    differentiate,
    differentiate_all,
    evaluate,
    multiply,
    multiply_turns,
    spread,
    spread_bends,
)

_EVALUATE, _SLOPE, _GRADIENT, _CURVATURE = range(4)
_GRAIN = 200_000  # multiplications worth a thread
_OFTEN = 20  # times what is said to be evaluated often, at the least
_STRIPE = 64  # rows that stay in the cache while their channels are gone through


@_bridge.jit
def _take(x, n, c, order, begin, count, work, start, at, width):  # type: ignore[no-untyped-def]
    """Copy n components of a few rows; rows that are missing are zero."""
    lanes = BYTES // x.itemsize
    for v in range(ROWS):
        for i in range(n):
            target = start + (i * ROWS + v) * lanes
            if v >= count:
                work[target : target + lanes] = 0
            else:
                source = (order[begin + v] * n + i) * c + at
                if width == lanes:
                    store(load(x, source), work, target)
                else:
                    for lane in range(width):
                        work[target + lane] = x[source + lane]


@_bridge.jit
def _give(x, n, c, order, begin, count, work, start, at, width):  # type: ignore[no-untyped-def]
    """Copy back."""
    lanes = BYTES // x.itemsize
    for v in range(count):
        for i in range(n):
            source = start + (i * ROWS + v) * lanes
            target = (order[begin + v] * n + i) * c + at
            if width == lanes:
                store(load(work, source), x, target)
            else:
                for lane in range(width):
                    x[target + lane] = work[source + lane]


@_bridge.jit
def _batch(mode, products, runs, rights, work, places, n_factors, n_k):  # type: ignore[no-untyped-def]
    """Compute for a few rows."""
    lanes = BYTES // work.itemsize
    n_products, n_runs = len(products) // 3, len(runs) // 4
    _, _, _, out, slope, _, _, change = places
    if mode in (_EVALUATE, _CURVATURE):
        work[out : out + n_k * ROWS * lanes] = 0
    if mode != _EVALUATE:
        work[slope : slope + n_factors * ROWS * lanes] = 0
    if mode == _CURVATURE:
        work[change : change + n_factors * ROWS * lanes] = 0
        multiply_turns(products, n_products, rights, work, places)
        bend(runs, n_runs, rights, work, places)
        spread_bends(products, n_products, rights, work, places)
        return
    multiply(products, n_products, rights, work, places)
    if mode == _EVALUATE:
        evaluate(runs, n_runs, rights, work, places)
    else:
        if mode == _SLOPE:
            differentiate(runs, n_runs, rights, work, places)
        else:
            differentiate_all(runs, n_runs, rights, work, places)
        spread(products, n_products, rights, work, places)


@_bridge.jit
def _rows(  # type: ignore[no-untyped-def]
    mode, tables, sizes, places, work, x, g, h, order, out, out_g, at, first, last
):
    """All rows of one species, from first to last, for one vector of channels."""
    products, runs, rights, _ = tables
    n_i, n_k, _, n_c = sizes
    lanes = BYTES // x.itemsize
    factor, _, given, result, slope, _, turn, change = places
    one, width = ROWS * lanes, min(lanes, n_c - at)
    n_factors = 1 + n_i + len(products) // 3
    for row in range(first, last, ROWS):
        count = min(ROWS, last - row)
        _take(x, n_i, n_c, order, row, count, work, factor + one, at, width)
        if mode != _EVALUATE:
            _take(g, n_k, n_c, order, row, count, work, given, at, width)
        if mode == _CURVATURE:
            _take(h, n_i, n_c, order, row, count, work, turn + one, at, width)
        _batch(mode, products, runs, rights, work, places, n_factors, n_k)
        if mode == _EVALUATE:
            _give(out, n_k, n_c, order, row, count, work, result, at, width)
        elif mode == _CURVATURE:
            _give(out, n_i, n_c, order, row, count, work, change + one, at, width)
            _give(out_g, n_k, n_c, order, row, count, work, result, at, width)
        else:
            _give(out, n_i, n_c, order, row, count, work, slope + one, at, width)


@_bridge.jit
def _pack(c, s, sizes, terms, work, start, first, last):  # type: ignore[no-untyped-def]
    """Copy the coefficients of a species in the order of their use, vectors from first to last."""
    _, _, n_t, n_c = sizes
    lanes = BYTES // c.itemsize
    for t in range(n_t):
        row = (s * n_t + terms[t]) * n_c
        for block in range(first, last):
            at, target = block * lanes, start + ((block - first) * n_t + t) * lanes
            if at + lanes <= n_c:
                store(load(c, row + at), work, target)
            else:
                for lane in range(n_c - at):
                    work[target + lane] = c[row + at + lane]


@_bridge.jit
def _unpack(work, start, s, sizes, terms, c, first, last):  # type: ignore[no-untyped-def]
    """Copy slopes in coefficients back."""
    _, _, n_t, n_c = sizes
    lanes = BYTES // c.itemsize
    for t in range(n_t):
        row = (s * n_t + terms[t]) * n_c
        for block in range(first, last):
            at, source = block * lanes, start + ((block - first) * n_t + t) * lanes
            for lane in range(min(lanes, n_c - at)):
                c[row + at + lane] = work[source + lane]


@_bridge.jit
def _run(  # type: ignore[no-untyped-def]
    mode, tables, sizes, x, c, g, h, order, starts, out, out_c, out_g, low, high, first, last
):
    """Rows from low to high in the order of their species, vectors of channels from first to last.

    A few rows meet all their channels before others come, so that memory is read once, in lines.
    """
    products, _, _, terms = tables
    n_i, n_k, n_t, _ = sizes
    lanes = BYTES // x.itemsize
    one, all_terms = ROWS * lanes, n_t * lanes
    factors = (1 + n_i + len(products) // 3) * one
    lengths = (
        factors,
        all_terms * (last - first),
        n_k * one,
        n_k * one,
        factors if mode != _EVALUATE else 0,
        all_terms * (last - first) if mode in (_GRADIENT, _CURVATURE) else 0,
        factors if mode == _CURVATURE else 0,
        factors if mode == _CURVATURE else 0,
    )
    work = zeros(sum(lengths), x)
    place, places = 0, lengths
    for k in range(len(lengths)):
        places = tuple_setitem(places, k, place)
        place += lengths[k]
    coefficient, gradient = places[1], places[5]
    work[places[0] : places[0] + one] = 1
    for s in range(len(starts) - 1):
        begin, end = max(starts[s], low), min(starts[s + 1], high)
        if begin >= end:
            continue
        _pack(c, s, sizes, terms, work, coefficient, first, last)
        work[gradient : gradient + lengths[5]] = 0
        for row in range(begin, end, _STRIPE):
            stop = min(row + _STRIPE, end)
            for block in range(first, last):
                moved = (block - first) * all_terms
                here = tuple_setitem(places, 1, coefficient + moved)
                here = tuple_setitem(here, 5, gradient + moved)
                at = block * lanes
                _rows(mode, tables, sizes, here, work, x, g, h, order, out, out_g, at, row, stop)
        if lengths[5]:
            _unpack(work, gradient, s, sizes, terms, out_c, first, last)


def _start(
    name: str, mode: int, x: Tensor, c: Tensor, g: Tensor, h: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor, n_k: int,
    out: Tensor, out_c: Tensor, out_g: Tensor,
) -> None:  # fmt: skip
    tables = plan(name, x.shape[1], n_k, monomials, at_k)
    order, starts = sorted_places(name, "species", species, len(c))
    given = _bridge.arrays(x, c, g, h), order, starts, _bridge.arrays(out, out_c, out_g)
    _run_arrays(mode, tables, *given, n_k)


def _run_arrays(
    mode: int, tables: Plan, inputs: Sequence[Array], order: Array, starts: Array,
    outs: Sequence[Array], n_k: int,
) -> None:  # fmt: skip
    (n, n_i, n_c), n_t = inputs[0].shape, inputs[1].shape[1]
    flat, flat_outs = (tuple(a.reshape(-1) for a in arrays) for arrays in (inputs, outs))
    sizes = n_i, n_k, n_t, n_c
    blocks = -(-n_c * inputs[0].itemsize // BYTES)
    work = (n_t + len(tables.products)) * n_c  # of a row
    given = mode, tables.flat, sizes, *flat, order, starts, *flat_outs
    if mode < _GRADIENT:
        _bridge.spread(lambda a, b: _run(*given, a, b, 0, blocks), n, -(-_GRAIN // work))
    else:
        _bridge.spread(
            lambda a, b: _run(*given, 0, n, a, b), blocks, -(-_GRAIN * blocks // (n * work))
        )


def polynomial_arrays(
    tables: Plan, x: Array, c: Array, g: Array | None, order: Array, starts: Array, out: Array
) -> None:
    """Write the polynomials, or with `g` their slope: rows sorted by species, nothing checked.

    It is for what is evaluated time and again: code is made sooner.
    """
    n_k = (out if g is None else g).shape[1]
    other = x if g is None else g
    if suits(_OFTEN * len(x), *c.shape[1:]):
        run_arrays(g is not None, False, tables, x, c, other, order, starts, out, n_k)
    else:
        mode = _EVALUATE if g is None else _SLOPE
        _run_arrays(mode, tables, (x, c, other, x), order, starts, (out, out, out), n_k)


def polynomial(
    x: Tensor, c: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor, k: int,
    name: str = "symmetric_polynomial",
) -> Tensor:  # fmt: skip
    """`symmetric_polynomial`, vectors of channels; `name` is said in errors."""
    out = x.new_empty(x.shape[0], k, x.shape[2])
    at = species, monomials, at_k, k
    if suits(len(x), *c.shape[1:]):
        coupling.start(name, False, False, x, c, x, *at, out)
    else:
        _start(name, _EVALUATE, x, c, x, x, *at, out, out, out)
    return out


def slope(
    x: Tensor, c: Tensor, g: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor,
    name: str = "polynomial_slope",
) -> Tensor:  # fmt: skip
    """`polynomial_slope`, vectors of channels; `name` is said in errors."""
    out = torch.empty_like(x)
    at = species, monomials, at_k, g.shape[1]
    if suits(len(x), *c.shape[1:]):
        coupling.start(name, True, False, x, c, g, *at, out)
    else:
        _start(name, _SLOPE, x, c, g, x, *at, out, out, out)
    return out


def turned_polynomial(
    x: Tensor, c: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor, k: int
) -> Tensor:
    """`turned_polynomial`, blocks of channels and components turned over in registers."""
    name, at = "turned_polynomial", (species, monomials, at_k, k)
    if not suits(len(x), *c.shape[1:]):
        return polynomial(x.mT.contiguous(), c, *at, name)
    out = x.new_empty(x.shape[0], k, x.shape[1])
    coupling.start(name, False, True, x, c, x, *at, out)
    return out


def turned_slope(
    x: Tensor, c: Tensor, g: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor
) -> Tensor:
    """`turned_slope`, blocks of channels and components turned over in registers."""
    name, at = "turned_slope", (species, monomials, at_k)
    if not suits(len(x), *c.shape[1:]):
        return slope(x.mT.contiguous(), c, g, *at, name).mT.contiguous()
    out = torch.empty_like(x)
    coupling.start(name, True, True, x, c, g, *at, g.shape[1], out)
    return out


def gradient(
    x: Tensor, c: Tensor, g: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor
) -> tuple[Tensor, Tensor]:
    """`polynomial_gradient`, vectors of channels."""
    out, out_c = torch.empty_like(x), torch.zeros_like(c)
    at = species, monomials, at_k, g.shape[1]
    _start("polynomial_gradient", _GRADIENT, x, c, g, x, *at, out, out_c, out)
    return out, out_c


def curvature(
    x: Tensor, c: Tensor, g: Tensor, h: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`polynomial_curvature`, vectors of channels."""
    out, out_c, out_g = torch.empty_like(x), torch.zeros_like(c), torch.empty_like(g)
    at = species, monomials, at_k, g.shape[1]
    _start("polynomial_curvature", _CURVATURE, x, c, g, h, *at, out, out_c, out_g)
    return out, out_c, out_g
