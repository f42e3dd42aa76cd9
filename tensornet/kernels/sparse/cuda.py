"""The sparse product in Numba CUDA: one thread per number of the result, in a fixed order."""

from typing import Any

import torch
from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import order_and_starts
from tensornet.kernels.sparse.spec import one_or_all


def product_kernel(real: Any) -> Any:
    """One number; `terms` sorts the coupling by the components of the result."""

    def run(  # type: ignore[no-untyped-def]  # flat or pointers
        x, y, at_i, at_j, values, terms, begins, out, n, n_i, n_j, n_k, c
    ):
        for place in range(cuda.grid(1), n * n_k * c, cuda.gridsize(1)):
            row = place // (n_k * c)
            k = place // c % n_k
            channel = place % c
            total = real(0)
            for q in range(begins[k], begins[k + 1]):
                t = terms[q]
                i = at_i[t]
                j = at_j[t]
                if i < 0 or j < 0 or i >= n_i or j >= n_j:
                    total = real(float("nan"))
                else:
                    pair = x[(row * n_i + i) * c + channel] * y[(row * n_j + j) * c + channel]
                    total += values[t] * pair
            out[place] = total

    return run


def weighted_kernel(real: Any) -> Any:
    """The same with weights; `n_w` is 0 where all rows share them, and otherwise 1."""

    def run(  # type: ignore[no-untyped-def]
        x, y, w, at_i, at_j, at_p, values, terms, begins, out, n, n_i, n_j, n_p, n_w, n_k, c
    ):
        for place in range(cuda.grid(1), n * n_k * c, cuda.gridsize(1)):
            row = place // (n_k * c)
            k = place // c % n_k
            channel = place % c
            total = real(0)
            for q in range(begins[k], begins[k + 1]):
                t = terms[q]
                i = at_i[t]
                j = at_j[t]
                p = at_p[t]
                low = i < 0 or j < 0 or p < 0
                if low or i >= n_i or j >= n_j or p >= n_p:
                    total = real(float("nan"))
                else:
                    pair = x[(row * n_i + i) * c + channel] * y[(row * n_j + j) * c + channel]
                    total += values[t] * pair * w[(row * n_w * n_p + p) * c + channel]
            out[place] = total

    return run


def sum_kernel(real: Any) -> Any:
    """Slopes of shared weights: a sum over rows; `terms` sorts the coupling by path."""

    def run(  # type: ignore[no-untyped-def]
        x, y, g, at_i, at_j, at_k, values, terms, begins, out, n, n_i, n_j, n_k, n_p, c
    ):
        for place in range(cuda.grid(1), n_p * c, cuda.gridsize(1)):
            p = place // c
            channel = place % c
            total = real(0)
            for q in range(begins[p], begins[p + 1]):
                t = terms[q]
                i = at_i[t]
                j = at_j[t]
                k = at_k[t]
                low = i < 0 or j < 0 or k < 0
                if low or i >= n_i or j >= n_j or k >= n_k:
                    total = real(float("nan"))
                else:
                    inner = real(0)
                    for row in range(n):
                        pair = x[(row * n_i + i) * c + channel] * y[(row * n_j + j) * c + channel]
                        inner += pair * g[(row * n_k + k) * c + channel]
                    total += values[t] * inner
            out[place] = total

    return run


KERNELS = {
    product_kernel: "ppqqpqqp" + "i" * 5,
    weighted_kernel: "pppqqqpqqp" + "i" * 7,
    sum_kernel: "pppqqqpqqp" + "i" * 6,
}
"""For each kernel its arguments: p points to numbers, q to whole numbers, i is a size."""


def product(
    x: Tensor, y: Tensor, i: Tensor, j: Tensor, k: Tensor, values: Tensor, n_k: int
) -> Tensor:
    """`sparse_product` with one thread per number."""
    n, n_i, c = x.shape
    out = x.new_empty(n, n_k, c)
    _bridge.launch(
        product_kernel, out.numel(),
        x, y, i, j, values, *order_and_starts(k, n_k), out, n, n_i, y.shape[1], n_k, c,
    )  # fmt: skip
    return out


def slopes(
    x: Tensor, y: Tensor, g: Tensor, i: Tensor, j: Tensor, k: Tensor, values: Tensor
) -> tuple[Tensor, Tensor]:
    """`sparse_slopes`, one after the other."""
    return (
        product(g, y, k, j, i, values, x.shape[1]),
        product(x, g, i, k, j, values, y.shape[1]),
    )


def weighted(
    x: Tensor, y: Tensor, w: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, n_k: int,
) -> Tensor:  # fmt: skip
    """`weighted_product` with one thread per number."""
    one_or_all("weighted_product", x, w)
    return _weighted(x, y, w, i, j, k, p, values, n_k)


def weighted_slopes(
    x: Tensor, y: Tensor, w: Tensor, g: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`weighted_slopes`, one after the other."""
    one_or_all("weighted_slopes", x, w)
    gx = _weighted(g, y, w, k, j, i, p, values, x.shape[1])
    gy = _weighted(x, g, w, i, k, j, p, values, y.shape[1])
    if len(w) == len(x):
        return gx, gy, _weighted(x, y, g, i, j, p, k, values, w.shape[1])
    gw = torch.empty_like(w)
    n, n_i, c = x.shape
    _bridge.launch(
        sum_kernel, gw.numel(),
        x, y, g, i, j, k, values, *order_and_starts(p, w.shape[1]), gw,
        n, n_i, y.shape[1], g.shape[1], w.shape[1], c,
    )  # fmt: skip
    return gx, gy, gw


def _weighted(
    x: Tensor, y: Tensor, w: Tensor,
    i: Tensor, j: Tensor, k: Tensor, p: Tensor, values: Tensor, n_k: int,
) -> Tensor:  # fmt: skip
    n, n_i, c = x.shape
    out = x.new_empty(n, n_k, c)
    _bridge.launch(
        weighted_kernel, out.numel(),
        x, y, w, i, j, p, values, *order_and_starts(k, n_k), out,
        n, n_i, y.shape[1], w.shape[1], int(len(w) == n), n_k, c,
    )  # fmt: skip
    return out
