"""The core contraction in Numba CUDA: one thread per point, or per slope."""

from typing import Any

from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge


def points_kernel(real: Any) -> Any:
    """The value at one point."""

    def run(core, u, v, w, out, n, a, b, c):  # type: ignore[no-untyped-def]  # flat or pointers
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            total = real(0)
            for p in range(a):
                row = real(0)
                for q in range(b):
                    inner = real(0)
                    for k in range(c):
                        inner += core[(p * b + q) * c + k] * w[i * c + k]
                    row += v[i * b + q] * inner
                total += u[i * a + p] * row
            out[i] = total

    return run


def slopes_kernel(real: Any) -> Any:
    """One slope at one point: two modes of the core against the vectors of those modes."""

    def run(core, u, v, w, out, n, a, b, c):  # type: ignore[no-untyped-def]
        width = a + b + c
        for index in range(cuda.grid(1), n * width, cuda.gridsize(1)):
            i = index // width
            column = index % width
            total = real(0)
            if column < a:
                for q in range(b):
                    inner = real(0)
                    for k in range(c):
                        inner += core[(column * b + q) * c + k] * w[i * c + k]
                    total += v[i * b + q] * inner
            elif column < a + b:
                for p in range(a):
                    inner = real(0)
                    for k in range(c):
                        inner += core[(p * b + column - a) * c + k] * w[i * c + k]
                    total += u[i * a + p] * inner
            else:
                for p in range(a):
                    inner = real(0)
                    for q in range(b):
                        inner += core[(p * b + q) * c + column - a - b] * v[i * b + q]
                    total += u[i * a + p] * inner
            out[index] = total

    return run


KERNELS = {points_kernel: "pppppiiii", slopes_kernel: "pppppiiii"}
"""For each kernel its arguments: p is a pointer to numbers, i a size."""


def points(core: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """`tucker_points` with one thread per point."""
    n = u.shape[0]
    out = u.new_empty(n)
    _bridge.launch(points_kernel, n, core, u, v, w, out, n, *core.shape)
    return out


def slopes(core: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """`tucker_slopes` with one thread per slope."""
    n, width = u.shape[0], sum(core.shape)
    out = u.new_empty(n, width)
    _bridge.launch(slopes_kernel, n * width, core, u, v, w, out, n, *core.shape)
    return out
