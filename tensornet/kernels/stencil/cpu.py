"""Stencils in Numba: row by row, a vector of cells at a time, neighbours from the cache.

Vectors that would reach over the end of a row are moved back and compute some cells twice. The
first and the last cell of a row have a neighbour at the other end and are computed by themselves.
"""

from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels._vector import every, load, store

_GRAIN = 200_000  # numbers worth a thread


@_bridge.jit
def _around(row, ni, nj, nk):  # type: ignore[no-untyped-def]  # Numba infers them
    """Where a row, and the rows around it, begin in the grid: below and above along i and j."""
    j = row % nj
    i = row // nj % ni
    down_i, up_i = i - 1 if i else ni - 1, i + 1 if i + 1 < ni else 0
    down_j, up_j = j - 1 if j else nj - 1, j + 1 if j + 1 < nj else 0
    here, slab = i * nj, nj * nk
    return (
        (here + j) * nk,
        down_i * slab + j * nk,
        up_i * slab + j * nk,
        (here + down_j) * nk,
        (here + up_j) * nk,
    )


@_bridge.jit
def _lines(x, d, wi, wj, wk, o, ni, nj, nk, first, last):  # type: ignore[no-untyped-def]
    """Rows from first to last; weights along their own axis."""
    lanes = BYTES // x.itemsize
    for row in range(first, last):
        q, di, ui, dj, uj = _around(row, ni, nj, nk)
        b = row * nk - q  # where the field begins
        i, j = row // nj % ni, row % nj
        ai, ci, aj, cj = wi[i], wi[di // (nj * nk)], wj[j], wj[dj // nk % nj]
        inner = nk - 2
        if inner >= lanes:
            vai, vci = every(wi, i), every(wi, di // (nj * nk))
            vaj, vcj = every(wj, j), every(wj, dj // nk % nj)
            for start in range(1, nk - 1, lanes):
                k = min(start, nk - 1 - lanes)
                p = b + q + k
                s = load(d, q + k) * load(x, p)
                s = s - vai * load(x, b + ui + k)
                s = s - vci * load(x, b + di + k)
                s = s - vaj * load(x, b + uj + k)
                s = s - vcj * load(x, b + dj + k)
                s = s - load(wk, k) * load(x, p + 1)
                s = s - load(wk, k - 1) * load(x, p - 1)
                store(s, o, p)
        step = nk - 1 if inner >= lanes else 1
        for k in range(0, nk, max(step, 1)):
            down, up = k - 1 if k else nk - 1, k + 1 if k + 1 < nk else 0
            p = b + q
            o[p + k] = (
                d[q + k] * x[p + k]
                - (ai * x[b + ui + k] + ci * x[b + di + k])
                - (aj * x[b + uj + k] + cj * x[b + dj + k])
                - (wk[k] * x[p + up] + wk[down] * x[p + down])
            )


@_bridge.jit
def _cells(x, d, li, ui, lj, uj, lk, uk, shared, o, ni, nj, nk, first, last):  # type: ignore[no-untyped-def]
    """Rows from first to last; with `shared` a lower weight is the upper one of the cell below."""
    lanes = BYTES // x.itemsize
    for row in range(first, last):
        q, down_i, up_i, down_j, up_j = _around(row, ni, nj, nk)
        b = row * nk - q
        qi, qj = (down_i, down_j) if shared else (q, q)
        inner = nk - 2
        if inner >= lanes:
            for start in range(1, nk - 1, lanes):
                k = min(start, nk - 1 - lanes)
                c, p = q + k, b + q + k
                s = load(d, c) * load(x, p)
                s = s - load(ui, c) * load(x, b + up_i + k)
                s = s - load(li, qi + k) * load(x, b + down_i + k)
                s = s - load(uj, c) * load(x, b + up_j + k)
                s = s - load(lj, qj + k) * load(x, b + down_j + k)
                s = s - load(uk, c) * load(x, p + 1)
                s = s - load(lk, c - shared) * load(x, p - 1)
                store(s, o, p)
        step = nk - 1 if inner >= lanes else 1
        for k in range(0, nk, max(step, 1)):
            down, up = k - 1 if k else nk - 1, k + 1 if k + 1 < nk else 0
            c, p = q + k, b + q
            below = q + down if shared else c
            o[p + k] = (
                d[c] * x[p + k]
                - (ui[c] * x[b + up_i + k] + li[qi + k] * x[b + down_i + k])
                - (uj[c] * x[b + up_j + k] + lj[qj + k] * x[b + down_j + k])
                - (uk[c] * x[p + up] + lk[below] * x[p + down])
            )


@_bridge.jit
def _moved(x, there, here, length, o, rows, n, g):  # type: ignore[no-untyped-def]
    """Move runs of rows of n numbers into rows of g; runs in order need not be added to zeros."""
    lanes = BYTES // x.itemsize
    done = 0
    for r in range(len(here)):
        inside = there[r] >= 0 and length[r] >= 0 and there[r] + length[r] <= n
        if here[r] < done or not inside:
            done = g + 1
            break
        done = here[r] + length[r]
    if done > g:
        o[:] = 0
        for r in range(len(here)):
            m = min(length[r], n - there[r], g - here[r])
            for b in range(rows if m > 0 and there[r] >= 0 and here[r] >= 0 else 0):
                for u in range(m):
                    o[b * g + here[r] + u] += x[b * n + there[r] + u]
        return
    for b in range(rows):
        done = 0
        for r in range(len(here)):
            p, q, m = b * n + there[r], b * g + here[r], length[r]
            o[b * g + done : q] = 0
            done = here[r] + m
            whole = m // lanes * lanes
            for u in range(0, whole, lanes):
                store(load(x, p + u), o, q + u)
            for u in range(whole, m):
                o[q + u] = x[p + u]
        o[b * g + done : (b + 1) * g] = 0


def embed(x: Tensor, first: Tensor, start: Tensor, length: Tensor, g: int) -> Tensor:
    """`embed_runs`."""
    return _move(x, start, first, length, g)


def restrict(x: Tensor, first: Tensor, start: Tensor, length: Tensor, n: int) -> Tensor:
    """`restrict_runs`."""
    return _move(x, first, start, length, n)


def _move(x: Tensor, there: Tensor, here: Tensor, length: Tensor, size: int) -> Tensor:
    (b, n), out = x.shape, x.new_empty(x.shape[0], size)
    flat = [a.reshape(-1) for a in _bridge.arrays(x, there, here, length, out)]
    _moved(*flat, b, n, size)
    return out


def lines(x: Tensor, diagonal: Tensor, wi: Tensor, wj: Tensor, wk: Tensor) -> Tensor:
    """`stencil_lines`, rows in parallel."""
    out, (b, ni, nj, nk) = x.new_empty(x.shape), x.shape
    flat = [a.reshape(-1) for a in _bridge.arrays(x, diagonal, wi, wj, wk, out)]
    grain = max(1, _GRAIN // nk)
    _bridge.spread(lambda s, e: _lines(*flat, ni, nj, nk, s, e), b * ni * nj, grain)
    return out


def faces(x: Tensor, diagonal: Tensor, wi: Tensor, wj: Tensor, wk: Tensor) -> Tensor:
    """`stencil_faces`, rows in parallel."""
    return _run(1, x, diagonal, wi, wi, wj, wj, wk, wk)


def sides(x: Tensor, diagonal: Tensor, *weights: Tensor) -> Tensor:
    """`stencil_sides`, rows in parallel."""
    return _run(0, x, diagonal, *weights)


def _run(shared: int, x: Tensor, *fields: Tensor) -> Tensor:
    out, (b, ni, nj, nk) = x.new_empty(x.shape), x.shape
    flat = [a.reshape(-1) for a in _bridge.arrays(x, *fields)]
    (o,) = _bridge.arrays(out.view(-1))
    grain = max(1, _GRAIN // nk)
    _bridge.spread(lambda s, e: _cells(*flat, shared, o, ni, nj, nk, s, e), b * ni * nj, grain)
    return out
