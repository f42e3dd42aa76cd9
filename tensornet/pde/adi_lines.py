"""Tridiagonal systems along lines of a grid, in Numba: elimination and back substitution."""

from typing import Any

from tensornet.kernels._bridge import jit


@jit
def solve_lines(
    x: Any, diagonal: Any, face: Any, shift: float, c: Any, count: int, n: int, inner: int,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Solve in place for lines of n cells, `inner` of them side by side; the rest one by one.

    Row p is ``(shift + diagonal[p]) y[p] - face[p] y[p + 1] - face[p - 1] y[p - 1]``, with a last
    face of zero. Blocks of lines go from `begin` to `end`; `count` of them are a field.
    """
    for block in range(begin, end):
        b, q = block * n * inner, block % count * n * inner
        for u in range(inner):
            m = 1 / (shift + diagonal[q + u])
            c[b + u] = face[q + u] * m
            x[b + u] *= m
        for p in range(1, n):
            here = p * inner
            for u in range(here, here + inner):
                w = face[q + u - inner]
                m = 1 / (shift + diagonal[q + u] - w * c[b + u - inner])
                c[b + u] = face[q + u] * m
                x[b + u] = (x[b + u] + w * x[b + u - inner]) * m
        for p in range(n - 2, -1, -1):
            here = p * inner
            for u in range(here, here + inner):
                x[b + u] += c[b + u] * x[b + u + inner]
