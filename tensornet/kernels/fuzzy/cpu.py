"""The fuzzy product in Numba: converted, multiplied and converted back near the processor."""

from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels.sparse.cpu import _layout, _product, _run, _split, scratch
from tensornet.kernels.sparse.plan import Array, Builder, Sums, tables
from tensornet.kernels.sparse.tiles import VECTORS, keep


@_bridge.jit
def _each_fuzzy(whole, values, there, back, n_s, n_m, x, y, o, first, last):  # type: ignore[no-untyped-def]
    """Rows from first to last; `there` and `back` hold the sums of the conversions."""
    tables, c, lanes = _split(whole, values), x.shape[2], BYTES // x.itemsize
    n_x = x.shape[1] * c
    x, y, o = x.reshape(-1), y.reshape(-1), o.reshape(-1)
    s, X, Y, Z = scratch(n_s, x), scratch(n_m, x), scratch(n_m, x), scratch(n_m, x)
    runs, rows, terms, numbers = there
    runs_b, rows_b, terms_b, numbers_b = back
    n_runs, n_runs_b = len(runs) // 6, len(runs_b) // 6
    for r in range(first, last):
        for v in range(0, c, lanes * VECTORS):
            n, x0 = min((c - v) // lanes, VECTORS), r * n_x + v
            keep(n, 0, n_runs, runs, rows, terms, numbers, x, x0, X, 0)
            keep(n, 0, n_runs, runs, rows, terms, numbers, y, x0, Y, 0)
            Z[:] = 0
            _product(tables, n, X, 0, Y, 0, Z, 0, s)
            keep(n, 0, n_runs_b, runs_b, rows_b, terms_b, numbers_b, Z, 0, o, x0)


@lru_cache(maxsize=64)
def _conversions(
    shape: tuple[int, int], width: int, dtype: str, content: bytes
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Sums that convert rows of so many channels to the scratch, and back."""
    basis = np.frombuffer(content, dtype).reshape(shape)
    m, i = basis.nonzero()
    step = BYTES // basis.itemsize * VECTORS
    there, back = Builder(), Builder()
    at = there.add(m, i, basis[m, i], shape[0], cut=False)[1]
    at_back = back.add(i, m, basis[m, i], shape[1], cut=False)[1]
    return (
        _flat(there.sums(np.stack([at, at], 1)), step, width),
        _flat(back.sums(np.stack([at_back, at_back], 1)), width, step),
    )


def _flat(sums: Sums, step: int, step_terms: int) -> tuple[Array, ...]:
    whole = sums.runs, sums.rows * step, sums.terms * step_terms
    return *(t.reshape(-1).astype(np.int64) for t in whole), sums.values


def fuzzy(
    x: Tensor, y: Tensor, basis: Tensor, i: Tensor, j: Tensor, k: Tensor, values: Tensor
) -> Tensor:
    """`fuzzy_product`."""
    layout, (x, y) = _layout(x, y)
    m, width, step = len(basis), x.shape[2], BYTES // x.itemsize * VECTORS
    found = tables("fuzzy_product", "ijk", (m, m, m), step, i, j, k, values)
    (array,) = _bridge.arrays(basis)
    ways = _conversions(array.shape, width, array.dtype.char, array.tobytes())
    out = x.new_empty(x.shape)
    numbers: Any = (*ways, found.most[0], m)
    _run(_each_fuzzy, found, numbers, x, y, out)
    return out if layout is None else layout.unpack(out)
