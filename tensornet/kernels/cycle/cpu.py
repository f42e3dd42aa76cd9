"""The V-cycle in Numba, for a CPU; its definition is `models.direction_linear.LinearDirection`.

Fields are flat, with one cell more at either end of each axis, zero or wrapped around; ``nj`` and
``nk`` are the cells between. Vectors of numbers run over the ends of rows: what they write there is
zero, or is written again with the next row. Buffers ``a`` and ``b`` hold one row. Stencils have
eight weights ``w``, by the distance 0 or 1 along each axis, the last axis fastest.
"""

from typing import Any

import numpy as np

from tensornet.kernels._bridge import jit
from tensornet.kernels._vector import every, lanes_of, load, store


@jit
def spread_out(
    x: Any, factor: float, first: Any, start: Any, length: Any, scale: Any, r: Any, s: Any
) -> None:
    """Put runs of a vector, times a factor, on a field, and scaled on another."""
    for t in range(len(first)):
        for u in range(length[t]):
            r[first[t] + u] = x[start[t] + u] * factor
        for u in range(length[t]):
            s[first[t] + u] = scale[first[t] + u] * r[first[t] + u]


@jit
def gather(field: Any, factor: float, first: Any, start: Any, length: Any, out: Any) -> None:
    """Take runs out of a field, times a factor."""
    for t in range(len(first)):
        for u in range(length[t]):
            out[start[t] + u] = field[first[t] + u] * factor


@jit
def stencil(
    x: Any, active: Any, ends: Any, w: Any, out: Any, nj: int, nk: int, first: int, last: int
) -> None:
    """Write ``active (stencil x) + ends x`` for slabs from first to last."""
    lanes, nk2 = lanes_of(x), nk + 2
    slab = (nj + 2) * nk2
    a, b = np.zeros(nk2 + 3 * lanes, x.dtype), np.zeros(nk2 + 3 * lanes, x.dtype)
    w0, w1, w2, w3 = every(w, 0), every(w, 1), every(w, 2), every(w, 3)
    w4, w5, w6, w7 = every(w, 4), every(w, 5), every(w, 6), every(w, 7)
    for i in range(first + 1, last + 1):
        for j in range(1, nj + 1):
            row = i * slab + j * nk2
            for k in range(0, nk2, lanes):
                p = row + k
                x0 = load(x, p)
                xj = load(x, p - nk2) + load(x, p + nk2)
                xi = load(x, p - slab) + load(x, p + slab)
                xij = load(x, p - slab - nk2) + load(x, p - slab + nk2)
                xij = xij + load(x, p + slab - nk2) + load(x, p + slab + nk2)
                store(w0 * x0 + w2 * xj + w4 * xi + w6 * xij, a, k)
                store(w1 * x0 + w3 * xj + w5 * xi + w7 * xij, b, k)
            for k in range(1, nk + 1, lanes):
                p = row + k
                sides = load(a, k) + load(b, k - 1) + load(b, k + 1)
                store(load(active, p) * sides + load(ends, p) * load(x, p), out, p)


@jit
def restrict(
    r: Any, ends: Any, rows: Any, near: Any, far: Any, own: int, nj: int, nk: int, by: Any,
    scale: Any, out: Any, scaled: Any, cslab: int, crow: int, cj: int, ck: int, first: int,
    last: int,
) -> None:  # fmt: skip
    """Hand residuals to the coarser grid, for its slabs from first to last.

    ``rows`` are where the rows of a coarse row begin, those of its own cells first, ``near`` and
    ``far`` their weights for the cells of a pair and for those beside it.
    """
    lanes, nk2 = lanes_of(r), nk + 2
    slab = (nj + 2) * nk2
    a, b = np.zeros(nk2 + 3 * lanes, r.dtype), np.zeros(nk2 + 3 * lanes, r.dtype)
    for i in range(first, last):
        for j in range(cj):
            base = (i * by[0] + 1) * slab + (j * by[1] + 1) * nk2
            for k in range(0, nk2, lanes):
                p = base + k
                v = load(r, p + rows[0])
                s = every(near, 0) * v + load(ends, p + rows[0]) * v
                t = every(far, 0) * v
                for m in range(1, own):
                    v = load(r, p + rows[m])
                    s = s + every(near, m) * v + load(ends, p + rows[m]) * v
                    t = t + every(far, m) * v
                for m in range(own, len(rows)):
                    v = load(r, p + rows[m])
                    s = s + every(near, m) * v
                    t = t + every(far, m) * v
                store(s, a, k)
                store(t, b, k)
            c = (i + 1) * cslab + (j + 1) * crow + 1
            for u in range(ck):
                k = u * by[2] + 1
                found = a[k]
                if by[2] == 2:
                    found += a[k + 1] + b[k - 1] + b[k + 2]
                here = scale[c + u]
                out[c + u] = found if here > 0 else 0
                scaled[c + u] = found * here


@jit
def finish(
    y: Any, s: Any, scale: Any, active: Any, ends: Any, floor: Any, w: Any, coarse: Any, nj: int,
    nk: int, by: Any, cslab: int, crow: int, ck: int, out: Any, first: int, last: int,
) -> None:  # fmt: skip
    """Write what the grid and the coarser one found, for slabs from first to last."""
    lanes, nk2, slab = lanes_of(s), nk + 2, (nj + 2) * (nk + 2)
    a, b = np.zeros(ck + 2, s.dtype), np.zeros(ck + 2, s.dtype)
    far, own = np.zeros(nk2 + 3 * lanes, s.dtype), np.zeros(nk2 + 3 * lanes, s.dtype)
    vfloor, gain = every(floor, 0), every(floor, 1)
    for i in range(first + 1, last + 1):
        for j in range(1, nj + 1):
            ii, jj = (i - 1) // by[0] + 1, (j - 1) // by[1] + 1
            di = 0 if by[0] == 1 else (cslab if i % 2 == 0 else -cslab)
            dj = 0 if by[1] == 1 else (crow if j % 2 == 0 else -crow)
            c = ii * cslab + jj * crow
            for u in range(ck + 2):
                x0, xj = coarse[c + u], coarse[c + dj + u]
                xi, xij = coarse[c + di + u], coarse[c + di + dj + u]
                a[u] = w[0] * x0 + w[2] * xj + w[4] * xi + w[6] * xij
                b[u] = w[1] * x0 + w[3] * xj + w[5] * xi + w[7] * xij
            if by[2] == 2:
                for u in range(1, ck + 1):
                    far[2 * u - 1] = a[u] + b[u - 1]
                    far[2 * u] = a[u] + b[u + 1]
                    own[2 * u - 1] = coarse[c + u]
                    own[2 * u] = coarse[c + u]
            else:
                for u in range(1, ck + 1):
                    far[u] = a[u]
                    own[u] = coarse[c + u]
            row = i * slab + j * nk2
            for k in range(1, nk + 1, lanes):
                p = row + k
                rest = load(active, p) * load(far, k) + load(ends, p) * load(own, k)
                near = load(scale, p) * (load(y, p) + vfloor * load(s, p))
                store(near + gain * rest, out, p)
