"""The chain of cores in Numba CUDA: one thread per number of the result, or per product."""

from typing import Any

from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge


def step_kernel(real: Any) -> Any:
    """One number of one row vector; NaN where the index is out of range."""

    def run(left, core, index, out, n, r, d, q):  # type: ignore[no-untyped-def]  # flat or pointers
        for place in range(cuda.grid(1), n * q, cuda.gridsize(1)):
            i = place // q
            column = place % q
            s = index[i]
            total = real(0)
            if s < 0 or s >= d:
                total = real(float("nan"))
            else:
                for p in range(r):
                    total += left[i * r + p] * core[(p * d + s) * q + column]
            out[place] = total

    return run


def moments_kernel(real: Any) -> Any:
    """One product of one point, added to its slice; `out` starts with zeros."""

    def run(left, right, index, out, n, r, d, q):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), n * r * q, cuda.gridsize(1)):
            i = place // (r * q)
            p = place // q % r
            column = place % q
            s = index[i]
            if s >= 0 and s < d:
                product = left[i * r + p] * right[i * q + column]
                cuda.atomic.add(out, (p * d + s) * q + column, product)

    return run


KERNELS = {step_kernel: "ppqpiiii", moments_kernel: "ppqPiiii"}
"""For each kernel its arguments: p points to numbers, q to whole numbers, P is an array of numbers
(atomic operations take no pointers), i a size."""


def step(left: Tensor, core: Tensor, index: Tensor) -> Tensor:
    """`chain_step` with one thread per number."""
    (n, r), (_, d, q) = left.shape, core.shape
    out = left.new_empty(n, q)
    _bridge.launch(step_kernel, n * q, left, core, index, out, n, r, d, q)
    return out


def moments(left: Tensor, right: Tensor, index: Tensor, d: int) -> Tensor:
    """`chain_moments` with one thread per product."""
    (n, r), q = left.shape, right.shape[1]
    out = left.new_zeros(r, d, q)
    _bridge.launch(moments_kernel, n * r * q, left, right, index, out, n, r, d, q)
    return out
