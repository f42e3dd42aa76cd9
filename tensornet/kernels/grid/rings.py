"""The steps of a product on the grid, tile by tile: to heights, around rings, and back.

A degree is the number of its line in the table of whole numbers. Harmonics, orders and values are
vectors, one behind the other.
"""

from tensornet.kernels import _bridge
from tensornet.kernels._tile import BYTES
from tensornet.kernels.grid import tiles
from tensornet.kernels.grid.tables import HIGH, TALL, WIDE


@_bridge.jit
def rise(degree, whole, numbers, heights, x, f):  # type: ignore[no-untyped-def]  # Numba infers
    """Orders at all heights, from harmonics."""
    line = 8 * degree
    l_max, slots, c0, u0 = whole[line], whole[line + 1], whole[line + 2], whole[line + 3]
    lanes = BYTES // x.itemsize
    step = (2 * l_max + 2) * lanes
    half = heights // 2
    for m in range(l_max + 1):
        pairs = (l_max - m) // 2 + 1
        cos, sin = whole[slots + m], whole[slots + l_max + 1 + m]
        for row in range(0, half, TALL):
            rows = min(TALL, half - row)
            up, down = row * step, (heights - 1 - row) * step
            tiles.rise(rows, x, 0, whole, c0, pairs, m, numbers, u0, f, up, down, step, cos, sin)
            u0 += 2 * pairs * rows
        c0 += 2 * pairs


@_bridge.jit
def ring(degree, whole, numbers, quads, f, h, v, v0):  # type: ignore[no-untyped-def]
    """Values on one ring."""
    l_max, t0 = whole[8 * degree], whole[8 * degree + 5]
    lanes = BYTES // f.itemsize
    slots = 2 * l_max + 2
    for start in range(0, quads, TALL):
        rows = min(TALL, quads - start)
        tiles.ring(
            rows, f, h * slots * lanes, l_max // 2 + 1, (l_max + 1) // 2,
            numbers, t0, v, v0 + start * 4 * lanes,
        )  # fmt: skip
        t0 += slots * rows


@_bridge.jit
def back(degree, whole, numbers, quads, v, g, h, add):  # type: ignore[no-untyped-def]
    """Orders of one ring, from its values."""
    l_max, b0 = whole[8 * degree], whole[8 * degree + 6]
    lanes = BYTES // v.itemsize
    first = h * (2 * l_max + 2)
    for kind in range(4):
        n = l_max // 2 + 1 if kind == 0 else l_max // 2 if kind == 2 else (l_max + 1) // 2
        slot = first + kind % 2 + (2 * (l_max // 2 + 1) if kind >= 2 else 0)
        for start in range(0, n, HIGH):
            rows = min(HIGH, n - start)
            g0 = (slot + 2 * start) * lanes
            tiles.back(rows, v, kind * lanes, quads, numbers, b0, g, g0, add)
            b0 += rows * quads


@_bridge.jit
def fall(degree, whole, numbers, heights, g, o):  # type: ignore[no-untyped-def]
    """Harmonics, from orders at all heights, which are overwritten."""
    l_max, slots, c0 = whole[8 * degree], whole[8 * degree + 1], whole[8 * degree + 2]
    d0 = whole[8 * degree + 4]
    lanes = BYTES // g.itemsize
    step = (2 * l_max + 2) * lanes
    half = heights // 2
    for h in range(half):
        tiles.fold(g, h * step, (heights - 1 - h) * step, 2 * l_max + 2)
    for m in range(l_max + 1):
        cos, sin = whole[slots + m], whole[slots + l_max + 1 + m]
        for parity in range(2):
            n = (l_max - m - parity) // 2 + 1
            g0 = 0 if parity == 0 else (heights - 1) * step
            along = step if parity == 0 else -step
            for start in range(0, n, WIDE):
                rows, c = min(WIDE, n - start), c0 + parity + 2 * start
                tiles.fall(rows, g, g0, along, cos, sin, half, numbers, d0, o, whole, c, m)
                d0 += rows * half
        c0 += 2 * ((l_max - m) // 2 + 1)
