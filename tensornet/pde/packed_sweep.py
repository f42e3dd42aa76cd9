"""The loop of stencils on pieces of rows, in Numba."""

from typing import Any

from tensornet.kernels._bridge import jit
from tensornet.kernels._tile import BYTES
from tensornet.kernels._vector import every, load, store


@jit
def _beside(number, row, p, n, stride, up, around):  # type: ignore[no-untyped-def]  # Numba infers
    """Which cell is next to place p of a line, or -1."""
    q = p + 1 if up else p - 1
    if q < 0 or q >= n:
        if not around:
            return -1
        q = 0 if up else n - 1
    return number[row + (q - p) * stride]


@jit
def cut(
    number: Any, place: Any, ni: int, nj: int, nk: int, wi: Any, wj: Any, wk: Any, around: Any,
    table: Any, values: Any,
) -> int:  # fmt: skip
    """Cut active cells into pieces: see `tensornet.pde.packed.pieces`. Gives how many there are."""
    t = -1
    for v in range(len(place)):
        c = place[v]
        k, j, i = c % nk, c // nk % nj, c // (nk * nj)
        ui = _beside(number, c, i, ni, nj * nk, True, around[0])
        di = _beside(number, c, i, ni, nj * nk, False, around[0])
        uj = _beside(number, c, j, nj, nk, True, around[1])
        dj = _beside(number, c, j, nj, nk, False, around[1])
        s = table[t, 0] if t >= 0 else 0
        m = v - s
        joined = t >= 0 and k > 0 and place[v - 1] == c - 1
        if joined:
            for a, near in ((2, ui), (3, di), (4, uj), (5, dj)):
                first = table[t, a]
                joined = joined and (near < 0 if first < 0 else near == first + m)
            joined = joined and (m < 2 or wk[k - 1] == values[t, 6])
        if joined:
            values[t, 6] = wk[k - 1]
            table[t, 1] = m + 1
        else:
            t += 1
            table[t, 0], table[t, 1], table[t, 2], table[t, 3] = v, 1, ui, di
            table[t, 4], table[t, 5] = uj, dj
            values[t, 0], values[t, 1] = wi[i], wi[i - 1 if i else ni - 1]
            values[t, 2], values[t, 3] = wj[j], wj[j - 1 if j else nj - 1]
            table[t, 7] = _beside(number, c, k, nk, 1, False, around[2])
            values[t, 5], values[t, 6] = wk[k - 1 if k else nk - 1], 0
        table[t, 6] = _beside(number, c, k, nk, 1, True, around[2])
        values[t, 4] = wk[k]
    for u in range(t + 1):
        for a in range(6):
            if table[u, a + 2] < 0:
                table[u, a + 2], values[u, a] = table[u, 0], 0
    return t + 1


@jit
def apply(
    x: Any, out: Any, diagonal: Any, pieces: Any, weights: Any, n: int, begin: int, end: int
) -> None:
    """Apply to pieces from `begin` to `end`; those of one row of vectors come before the next."""
    lanes = BYTES // x.itemsize
    for index in range(begin, end):
        t, b = index % len(pieces), index // len(pieces) * n
        s, m, w = pieces[t, 0], pieces[t, 1], 7 * t
        ui, di, uj, dj = b + pieces[t, 2], b + pieces[t, 3], b + pieces[t, 4], b + pieces[t, 5]
        p = b + s
        above, below, inside = weights[w + 4], weights[w + 5], weights[w + 6]
        if m >= lanes + 2:
            a0, a1 = every(weights, w), every(weights, w + 1)
            a2, a3 = every(weights, w + 2), every(weights, w + 3)
            a4 = every(weights, w + 6)
            for first in range(1, m - 1, lanes):
                u = min(first, m - 1 - lanes)
                y = load(diagonal, s + u) * load(x, p + u)
                y = y - a0 * load(x, ui + u) - a1 * load(x, di + u)
                y = y - a2 * load(x, uj + u) - a3 * load(x, dj + u)
                y = y - a4 * (load(x, p + u + 1) + load(x, p + u - 1))
                store(y, out, p + u)
        step = m - 1 if m >= lanes + 2 else 1
        for u in range(0, m, max(step, 1)):
            up = inside * x[p + u + 1] if u + 1 < m else above * x[b + pieces[t, 6]]
            down = inside * x[p + u - 1] if u else below * x[b + pieces[t, 7]]
            out[p + u] = (
                diagonal[s + u] * x[p + u]
                - (weights[w] * x[ui + u] + weights[w + 1] * x[di + u])
                - (weights[w + 2] * x[uj + u] + weights[w + 3] * x[dj + u])
                - (up + down)
            )
