"""Loops of multigrid in Numba: sweeps of one colour, and transfers between two grids.

All axes close to rings, whose last weight is zero where a grid ends. Cells with an even sum of
places are of the colour zero. Arrays are flat; weights are lines (one per place along each axis) or
fields. Sweeps go over rows from ``begin`` to ``end``. ``far`` is the shape of the coarser grid,
``halved`` tells the axes along which pairs are joined, and ``vi, vj, vk`` are the shares of its
neighbours in the interpolation: one per cell with ``single``, else one per face of that grid.
"""

from typing import Any

from tensornet.kernels._bridge import jit


@jit
def _row(row, ni, nj, nk, lines):  # type: ignore[no-untyped-def]  # Numba infers them
    """Where a row and those around it begin, in vectors, then in weights, then in fields."""
    i, j = row // nj % ni, row % nj
    di, ui = i - 1 if i else ni - 1, i + 1 if i + 1 < ni else 0
    dj, uj = j - 1 if j else nj - 1, j + 1 if j + 1 < nj else 0
    b = row // (ni * nj) * ni * nj * nk
    q = (i * nj + j) * nk
    qi, qj = (di * nj + j) * nk, (i * nj + dj) * nk
    around = (b + qi, b + (ui * nj + j) * nk, b + qj, b + (i * nj + uj) * nk)
    if lines:
        return b + q, around, (i, di, j, dj, 0, 0), q, i, j
    return b + q, around, (q, qi, q, qj, q, 1), q, i, j


@jit
def _pulled(x, wi, wj, wk, p, around, w, k, nk):  # type: ignore[no-untyped-def]
    """Neighbours of a cell times their weights."""
    down, up = k - 1 if k else nk - 1, k + 1 if k + 1 < nk else 0
    s = k * w[5]
    return (
        wi[w[0] + s] * x[around[1] + k]
        + wi[w[1] + s] * x[around[0] + k]
        + wj[w[2] + s] * x[around[3] + k]
        + wj[w[3] + s] * x[around[2] + k]
        + wk[w[4] + k] * x[p + up]
        + wk[w[4] + down] * x[p + down]
    )


@jit
def start(
    x: Any, b: Any, inverse: Any, ni: int, nj: int, nk: int, begin: int, end: int
) -> None:  # fmt: skip
    """Solve for the cells of colour zero alone, and clear the others."""
    for row in range(begin, end):
        j, i, p = row % nj, row // nj % ni, row * nk
        q, first = (i * nj + j) * nk, (i + j) & 1
        for k in range(first, nk, 2):
            x[p + k] = inverse[q + k] * b[p + k]
        for k in range(1 - first, nk, 2):
            x[p + k] = 0


@jit
def relax(
    x: Any, b: Any, inverse: Any, wi: Any, wj: Any, wk: Any, lines: bool, colour: int,
    backwards: bool, ni: int, nj: int, nk: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Solve for each cell of a colour in turn, in rows from first to last or backwards."""
    for t in range(begin, end):
        row = begin + end - 1 - t if backwards else t
        p, around, w, q, i, j = _row(row, ni, nj, nk, lines)
        first = (i + j + colour) & 1
        count = (nk - first + 1) // 2
        for u in range(count):
            k = first + 2 * (count - 1 - u if backwards else u)
            pulled = _pulled(x, wi, wj, wk, p, around, w, k, nk)
            x[p + k] = inverse[q + k] * (b[p + k] + pulled)


@jit
def _beside(place, n, halved):  # type: ignore[no-untyped-def]
    """Parent of a place, the parent's neighbour that is nearer, and the face to it."""
    own = place >> halved
    if halved == 0:
        return own, own, own
    if place & 1:
        return own, (own + 1 if own + 1 < n else 0), own
    below = own - 1 if own else n - 1
    return own, below, below


@jit
def _parents(i, j, far, halved):  # type: ignore[no-untyped-def]
    """Rows of parents: the own, the nearest along both axes, and where their faces are."""
    _, fj, fk = far
    own_i, near_i, face_i = _beside(i, far[0], halved[0])
    own_j, near_j, face_j = _beside(j, fj, halved[1])
    return (
        (own_i * fj + own_j) * fk,
        (near_i * fj + own_j) * fk,
        (own_i * fj + near_j) * fk,
        (face_i * fj + own_j) * fk,
        (own_i * fj + face_j) * fk,
    )


@jit
def restrict(
    x: Any, b: Any, inverse: Any, wi: Any, wj: Any, wk: Any, lines: bool, both: int, rows: int,
    ni: int, nj: int, nk: int, out: Any, vi: Any, vj: Any, vk: Any, single: bool, far: Any,
    halved: Any,
) -> None:  # fmt: skip
    """Hand residuals to the coarser grid: those of colour zero, or of both colours."""
    out[:] = 0
    for row in range(rows):
        p, around, w, q, i, j = _row(row, ni, nj, nk, lines)
        p0, p1, p2, f1, f2 = _parents(i, j, far, halved)
        c = row // (ni * nj) * far[0] * far[1] * far[2]
        for k in range(0 if both else (i + j) & 1, nk, 2 - both):
            if inverse[q + k] == 0:
                continue
            pulled = _pulled(x, wi, wj, wk, p, around, w, k, nk)
            r = b[p + k] + pulled - x[p + k] / inverse[q + k]
            own, near, face = _beside(k, far[2], halved[2])
            if single:
                si, sj, sk = vi[q + k] * r, vj[q + k] * r, vk[q + k] * r
            else:
                si, sj, sk = vi[f1 + own] * r, vj[f2 + own] * r, vk[p0 + face] * r
            out[c + p0 + own] += r - si - sj - sk
            out[c + p1 + own] += si
            out[c + p2 + own] += sj
            out[c + p0 + near] += sk


@jit
def prolong(
    x: Any, inverse: Any, both: int, ni: int, nj: int, nk: int, coarse: Any, vi: Any, vj: Any,
    vk: Any, single: bool, far: Any, halved: Any, begin: int, end: int,
) -> None:  # fmt: skip
    """Add what the coarser grid found, to cells of colour zero or of both colours."""
    for row in range(begin, end):
        j, i, p = row % nj, row // nj % ni, row * nk
        q = (i * nj + j) * nk
        p0, p1, p2, f1, f2 = _parents(i, j, far, halved)
        c = row // (ni * nj) * far[0] * far[1] * far[2]
        for k in range(0 if both else (i + j) & 1, nk, 2 - both):
            if inverse[q + k] == 0:
                continue
            own, near, face = _beside(k, far[2], halved[2])
            if single:
                si, sj, sk = vi[q + k], vj[q + k], vk[q + k]
            else:
                si, sj, sk = vi[f1 + own], vj[f2 + own], vk[p0 + face]
            here = coarse[c + p0 + own]
            x[p + k] += (
                here
                + si * (coarse[c + p1 + own] - here)
                + sj * (coarse[c + p2 + own] - here)
                + sk * (coarse[c + p0 + near] - here)
            )
