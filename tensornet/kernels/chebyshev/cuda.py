"""Chebyshev series in Numba CUDA: one thread per number of the result."""

from typing import Any

from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge


def rows_kernel(real: Any) -> Any:
    """Clenshaw's recurrence for the number at one point and one column."""

    def run(x, c, out, n, m, r):  # type: ignore[no-untyped-def]  # flat arrays or pointers
        for index in range(cuda.grid(1), n * r, cuda.gridsize(1)):
            point = x[index // r]
            column = index % r
            twice = point + point
            now = real(0)
            before = real(0)
            for k in range(m - 1, 0, -1):
                after = twice * now + (c[k * r + column] - before)
                before = now
                now = after
            out[index] = point * now + (c[column] - before)

    return run


def moments_kernel(real: Any) -> Any:
    """The sum over all points for one polynomial and one column."""

    def run(x, values, out, n, m, r):  # type: ignore[no-untyped-def]
        for index in range(cuda.grid(1), m * r, cuda.gridsize(1)):
            degree = index // r
            column = index % r
            total = real(0)
            for i in range(n):
                twice = x[i] + x[i]
                before = x[i]
                now = real(1)
                for _ in range(degree):
                    after = twice * now - before
                    before = now
                    now = after
                total += now * values[i * r + column]
            out[index] = total

    return run


KERNELS = {rows_kernel: "pppiii", moments_kernel: "pppiii"}
"""For each kernel its arguments: p is a pointer to numbers, i a size."""


def rows(x: Tensor, coefficients: Tensor) -> Tensor:
    """`chebyshev_rows` with one thread per number."""
    (n,), (m, r) = x.shape, coefficients.shape
    out = x.new_empty(n, r)
    _bridge.launch(rows_kernel, n * r, x, coefficients, out, n, m, r)
    return out


def moments(x: Tensor, values: Tensor, m: int) -> Tensor:
    """`chebyshev_moments` with one thread per number."""
    n, r = values.shape
    out = values.new_empty(m, r)
    _bridge.launch(moments_kernel, m * r, x, values, out, n, m, r)
    return out
