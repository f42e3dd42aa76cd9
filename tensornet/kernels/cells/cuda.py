"""Points in cells in Numba CUDA: one thread per moment, or per slope, in a fixed order."""

from typing import Any

from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import order_and_starts


def moments_kernel(real: Any) -> Any:
    """One moment of one cell; `order` and `starts` sort the points."""

    def run(u, v, w, order, starts, out, cells, n, a, b, c):  # type: ignore[no-untyped-def]
        size = a * b * c
        for place in range(cuda.grid(1), cells * size, cuda.gridsize(1)):
            d = place // size
            p = place % size // (b * c)
            q = place % (b * c) // c
            k = place % c
            total = real(0)
            if starts[0] > 0 or starts[cells] < n:  # a cell is out of range
                total = real(float("nan"))
            for s in range(starts[d], starts[d + 1]):
                i = order[s]
                total += u[i * a + p] * v[i * b + q] * w[i * c + k]
            out[place] = total

    return run


def slopes_kernel(real: Any) -> Any:
    """One slope at one point."""

    def run(core, u, v, w, cell, out, cells, n, a, b, c):  # type: ignore[no-untyped-def]
        width = a + b + c
        for index in range(cuda.grid(1), n * width, cuda.gridsize(1)):
            i = index // width
            column = index % width
            base = cell[i] * a * b * c
            total = real(0)
            if cell[i] < 0 or cell[i] >= cells:
                total = real(float("nan"))
            elif column < a:
                for q in range(b):
                    inner = real(0)
                    for k in range(c):
                        inner += core[base + (column * b + q) * c + k] * w[i * c + k]
                    total += v[i * b + q] * inner
            elif column < a + b:
                for p in range(a):
                    inner = real(0)
                    for k in range(c):
                        inner += core[base + (p * b + column - a) * c + k] * w[i * c + k]
                    total += u[i * a + p] * inner
            else:
                for p in range(a):
                    inner = real(0)
                    for q in range(b):
                        inner += core[base + (p * b + q) * c + column - a - b] * v[i * b + q]
                    total += u[i * a + p] * inner
            out[index] = total

    return run


KERNELS = {moments_kernel: "pppqqpiiiii", slopes_kernel: "ppppqpiiiii"}
"""For each kernel its arguments: p points to numbers, q to whole numbers, i is a size."""


def moments(u: Tensor, v: Tensor, w: Tensor, cell: Tensor, n_cells: int) -> Tensor:
    """`cell_moments` with one thread per moment."""
    a, b, c = u.shape[1], v.shape[1], w.shape[1]
    out = u.new_empty(n_cells, a, b, c)
    args = (u, v, w, *order_and_starts(cell, n_cells), out, n_cells, len(u), a, b, c)
    _bridge.launch(moments_kernel, out.numel(), *args)
    return out


def slopes(core: Tensor, u: Tensor, v: Tensor, w: Tensor, cell: Tensor) -> Tensor:
    """`cell_slopes` with one thread per slope."""
    cells, a, b, c = core.shape
    out = u.new_empty(len(u), a + b + c)
    args = (core, u, v, w, cell, out, cells, len(u), a, b, c)
    _bridge.launch(slopes_kernel, out.numel(), *args)
    return out
