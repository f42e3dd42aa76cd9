"""Sums over segments in Numba CUDA: one thread per number of the result, in a fixed order."""

from typing import Any

from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import order_and_starts


def sum_kernel(real: Any) -> Any:
    """One number of one receiver; `order` and `starts` sort the edges."""

    def run(x, order, starts, out, n, c, n_edges):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), n * c, cuda.gridsize(1)):
            node = place // c
            column = place % c
            total = real(0)
            if starts[0] > 0 or starts[n] < n_edges:  # a receiver is out of range
                total = real(float("nan"))
            for s in range(starts[node], starts[node + 1]):
                total += x[order[s] * c + column]
            out[place] = total

    return run


KERNELS = {sum_kernel: "pqqpiii"}
"""For each kernel its arguments: p points to numbers, q to whole numbers, i is a size."""


def total(x: Tensor, receiver: Tensor, n: int) -> Tensor:
    """`segment_sum` with one thread per number."""
    (e, c), out = x.shape, x.new_empty(n, x.shape[1])
    _bridge.launch(sum_kernel, n * c, x, *order_and_starts(receiver, n), out, n, c, e)
    return out
