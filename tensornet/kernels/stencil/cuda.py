"""Stencils in Numba CUDA: one thread per cell."""

from typing import Any

from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge


def lines_kernel(real: Any) -> Any:
    """One cell; weights along their own axis."""

    def run(x, d, wi, wj, wk, out, n, ni, nj, nk):  # type: ignore[no-untyped-def]  # flat
        cells = ni * nj * nk
        for place in range(cuda.grid(1), n, cuda.gridsize(1)):
            q = place % cells
            k, j, i = q % nk, q // nk % nj, q // (nk * nj)
            down_i, up_i = (i + ni - 1) % ni, (i + 1) % ni
            down_j, up_j = (j + nj - 1) % nj, (j + 1) % nj
            down_k, up_k = (k + nk - 1) % nk, (k + 1) % nk
            s = d[q] * x[place]
            s -= wi[i] * x[place + (up_i - i) * nj * nk]
            s -= wi[down_i] * x[place + (down_i - i) * nj * nk]
            s -= wj[j] * x[place + (up_j - j) * nk] + wj[down_j] * x[place + (down_j - j) * nk]
            s -= wk[k] * x[place + up_k - k] + wk[down_k] * x[place + down_k - k]
            out[place] = s

    return run


def cells_kernel(real: Any) -> Any:
    """One cell; with `shared` a lower weight is the upper one of the cell below."""

    def run(x, d, li, ui, lj, uj, lk, uk, out, shared, n, ni, nj, nk):  # type: ignore[no-untyped-def]
        cells = ni * nj * nk
        for place in range(cuda.grid(1), n, cuda.gridsize(1)):
            q = place % cells
            k, j, i = q % nk, q // nk % nj, q // (nk * nj)
            down_i = ((i + ni - 1) % ni - i) * nj * nk
            down_j = ((j + nj - 1) % nj - j) * nk
            down_k = (k + nk - 1) % nk - k
            s = d[q] * x[place]
            s -= ui[q] * x[place + ((i + 1) % ni - i) * nj * nk]
            s -= uj[q] * x[place + ((j + 1) % nj - j) * nk]
            s -= uk[q] * x[place + (k + 1) % nk - k]
            s -= li[q + shared * down_i] * x[place + down_i]
            s -= lj[q + shared * down_j] * x[place + down_j]
            s -= lk[q + shared * down_k] * x[place + down_k]
            out[place] = s

    return run


def runs_kernel(real: Any) -> Any:
    """One number in 32 of one run of one row, added to its place; `out` starts with zeros."""

    def run(x, there, here, length, out, rows, runs, n, g):  # type: ignore[no-untyped-def]
        for index in range(cuda.grid(1), rows * runs * 32, cuda.gridsize(1)):
            r, b = index // 32 % runs, index // 32 // runs
            m = length[r]
            if n - there[r] < m:
                m = n - there[r]
            if g - here[r] < m:
                m = g - here[r]
            if there[r] < 0 or here[r] < 0:
                m = 0
            for u in range(index % 32, m, 32):
                cuda.atomic.add(out, b * g + here[r] + u, x[b * n + there[r] + u])

    return run


KERNELS = {
    lines_kernel: "ppppppiiii",
    cells_kernel: "pppppppppiiiii",
    runs_kernel: "pqqqPiiii",
}
"""For each kernel its arguments: p points to numbers, q to whole numbers, P is an array of numbers
(atomic operations take no pointers), i a size."""


def lines(x: Tensor, diagonal: Tensor, wi: Tensor, wj: Tensor, wk: Tensor) -> Tensor:
    """`stencil_lines` with one thread per cell."""
    out, n = x.new_empty(x.shape), x.numel()
    _bridge.launch(lines_kernel, n, x, diagonal, wi, wj, wk, out, n, *x.shape[1:])
    return out


def faces(x: Tensor, diagonal: Tensor, wi: Tensor, wj: Tensor, wk: Tensor) -> Tensor:
    """`stencil_faces` with one thread per cell."""
    return _run(1, x, diagonal, wi, wi, wj, wj, wk, wk)


def sides(x: Tensor, diagonal: Tensor, *weights: Tensor) -> Tensor:
    """`stencil_sides` with one thread per cell."""
    return _run(0, x, diagonal, *weights)


def _run(shared: int, x: Tensor, *fields: Tensor) -> Tensor:
    out, n = x.new_empty(x.shape), x.numel()
    _bridge.launch(cells_kernel, n, x, *fields, out, shared, n, *x.shape[1:])
    return out


def embed(x: Tensor, first: Tensor, start: Tensor, length: Tensor, g: int) -> Tensor:
    """`embed_runs` with 32 threads per run."""
    return _moved(x, start, first, length, g)


def restrict(x: Tensor, first: Tensor, start: Tensor, length: Tensor, n: int) -> Tensor:
    """`restrict_runs` with 32 threads per run."""
    return _moved(x, first, start, length, n)


def _moved(x: Tensor, there: Tensor, here: Tensor, length: Tensor, size: int) -> Tensor:
    (b, n), out = x.shape, x.new_zeros(x.shape[0], size)
    items = b * len(there) * 32
    _bridge.launch(runs_kernel, items, x, there, here, length, out, b, len(there), n, size)
    return out
