"""Potentials of near charges in Numba: cells half as wide as the cutoff, no list of pairs.

For each target and each row of cells, the distances to all charges of the row come first, as
vectors; those below the cutoff are put together, and the kernel is evaluated for all of them, again
as vectors. What is subtracted from the kernel is a polynomial of the squared distance.
"""

from typing import Any

import numpy as np

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels._vector import every, fill, load, store

Array = np.ndarray[Any, Any]
_GRAIN = 256  # targets worth a thread
_CHUNK = 512  # charges of a row at a time
COULOMB, YUKAWA, DISPERSION = 0, 1, 2  # 1/r, exp(-screening r)/r, 1/r⁶


@_bridge.jit
def _horner(z, n, coefficients, value, slope):  # type: ignore[no-untyped-def]
    """A polynomial, the highest coefficient first, and its derivative, four vectors at a time."""
    lanes = BYTES // z.itemsize
    for k in range(0, n, 2 * lanes):
        z0, z1 = load(z, k), load(z, k + lanes)
        a0, a1 = every(coefficients, 0), every(coefficients, 0)
        b0, b1 = fill(z, 0.0), fill(z, 0.0)
        for j in range(1, len(coefficients)):
            c = every(coefficients, j)
            b0, b1 = b0 * z0 + a0, b1 * z1 + a1
            a0, a1 = a0 * z0 + c, a1 * z1 + c
        store(a0, value, k)
        store(a1, value, k + lanes)
        store(b0, slope, k)
        store(b1, slope, k + lanes)


@_bridge.jit
def _kernel(kind, screening, square, n, value, slope):  # type: ignore[no-untyped-def]
    """The kernel and its derivative by the squared distance, both less what stands there."""
    if kind == COULOMB:
        for k in range(n):
            r = 1 / np.sqrt(square[k])
            value[k] = r - value[k]
            slope[k] = -0.5 * r * r * r - slope[k]
    elif kind == YUKAWA:
        for k in range(n):
            r = np.sqrt(square[k])
            screened = np.exp(-screening * r) / r
            value[k] = screened - value[k]
            slope[k] = -0.5 * screened * (screening * r + 1) / square[k] - slope[k]
    else:
        for k in range(n):
            r = 1 / (square[k] * square[k] * square[k])
            value[k] = r - value[k]
            slope[k] = -3 * r / square[k] - slope[k]


@_bridge.jit
def _gathered(  # type: ignore[no-untyped-def]
    tx, ty, tz, n, hits, d2, x, y, z, q, limit, kind, screening, coefficients, work, sums
):
    """Add what n charges give at a target; how many of them are at a distance of zero."""
    stretch, touching = 2 / limit, 0
    away, arg, value, slope = work[0:3], work[3], work[4], work[5]
    for k in range(n):
        j = hits[k]
        away[0, k], away[1, k], away[2, k] = tx - x[j], ty - y[j], tz - z[j]
    for k in range(n):
        arg[k] = stretch * d2[k] - 1
        touching += d2[k] == 0
    _horner(arg, n, coefficients, value, slope)
    for k in range(n):
        slope[k] *= stretch
    _kernel(kind, screening, d2, n, value, slope)
    for k in range(n):
        charge = q[hits[k]]
        by = 2 * charge * slope[k]
        sums[0] += charge * value[k]
        sums[1] += by * away[0, k]
        sums[2] += by * away[1, k]
        sums[3] += by * away[2, k]
    return touching


@_bridge.jit
def _near(  # type: ignore[no-untyped-def]
    targets, same, x, y, z, q, starts, low, width, shape, cutoff, kind, screening, coefficients,
    out, first, last,
):  # fmt: skip
    """The targets from first to last; how many pairs have a distance of zero."""
    limit = cutoff * cutoff
    room = 2 * _CHUNK + 2 * BYTES // x.itemsize
    square, d2 = np.empty(_CHUNK, x.dtype), np.ones(room, x.dtype)
    hits, work, sums = np.empty(room, np.int64), np.zeros((6, room), x.dtype), np.zeros(4, x.dtype)
    touching = 0
    for i in range(first, last):
        tx, ty, tz, me = targets[i, 0], targets[i, 1], targets[i, 2], same[i]
        cx = min(max(int((tx - low[0]) / width[0]), 0), shape[0] - 1)
        cy = min(max(int((ty - low[1]) / width[1]), 0), shape[1] - 1)
        cz = min(max(int((tz - low[2]) / width[2]), 0), shape[2] - 1)
        count = 0
        sums[:] = 0
        for az in range(max(cz - 2, 0), min(cz + 3, shape[2])):
            for ay in range(max(cy - 2, 0), min(cy + 3, shape[1])):
                row = (az * shape[1] + ay) * shape[0]
                begin, end = starts[row + max(cx - 2, 0)], starts[row + min(cx + 3, shape[0])]
                for start in range(begin, end, _CHUNK):
                    n = min(_CHUNK, end - start)
                    for k in range(n):
                        dx, dy, dz = tx - x[start + k], ty - y[start + k], tz - z[start + k]
                        square[k] = dx * dx + dy * dy + dz * dz
                    for k in range(n):
                        hits[count] = start + k
                        d2[count] = square[k]
                        count += (square[k] < limit) & (start + k != me)
                    if count > _CHUNK:
                        touching += _gathered(
                            tx, ty, tz, count, hits, d2, x, y, z, q, limit, kind, screening,
                            coefficients, work, sums,
                        )  # fmt: skip
                        count = 0
        touching += _gathered(
            tx, ty, tz, count, hits, d2, x, y, z, q, limit, kind, screening, coefficients, work,
            sums,
        )  # fmt: skip
        for k in range(4):
            out[i, k] = sums[k]
    return touching


def near(
    targets: Array,  # (n, 3)
    same: Array,  # (n,) int64
    sources: Array,  # (m, 3)
    charges: Array,  # (m,)
    cutoff: float,
    kind: int,
    screening: float,
    coefficients: Array,  # (k,)
) -> tuple[Array, Array, int]:  # (n,), (n, 3)
    """Sum the short range of charges at targets.

    Args:
        targets: Points.
        same: For each target the charge that is left out, or -1.
        sources: Where the charges are.
        charges: The charges.
        cutoff: Where the short range ends.
        kind: `COULOMB`, `YUKAWA` or `DISPERSION`.
        screening: Inverse length of `YUKAWA`.
        coefficients: Of what is subtracted, a polynomial of 2 r² / cutoff² - 1, highest first.

    Returns:
        Potentials, their gradients, and how many pairs have no distance.
    """
    dtype = sources.dtype
    low, high = sources.min(0), sources.max(0)
    most = max(4.0, len(sources) ** (1 / 3) * 2)
    shape = np.clip((high - low) / (0.5 * cutoff), 1, most).astype(np.int64)
    width = np.maximum((high - low) / shape, 0.5 * cutoff).astype(dtype)
    cells = np.clip(((sources - low) / width).astype(np.int64), 0, shape - 1)
    index = (cells[:, 2] * shape[1] + cells[:, 1]) * shape[0] + cells[:, 0]
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(int(shape.prod()) + 1))
    x, y, z = (np.ascontiguousarray(sources[order, k]) for k in range(3))
    place = np.append(np.empty(len(order), np.int64), -1)
    place[order] = np.arange(len(order))
    turn = np.lexsort(np.clip(((targets - low) / width).astype(np.int64), 0, shape - 1).T)
    near_by = np.ascontiguousarray(targets[turn])
    out = np.empty((len(targets), 4), dtype)
    given = (
        near_by, place[same[turn]], x, y, z, charges[order], starts, low, width, shape,
        dtype.type(cutoff), kind, dtype.type(screening), coefficients.astype(dtype), out,
    )  # fmt: skip
    touching = _bridge.spread(lambda a, b: _near(*given, a, b), len(targets), _GRAIN)
    found = np.empty_like(out)
    found[turn] = out
    return found[:, 0], found[:, 1:], sum(touching)
