"""Products in CP format in Numba CUDA: one thread per number, first of the terms, then of the rest.

A thread sums in a fixed order. The terms of all items pass through memory once.
"""

from typing import Any

from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge


def product_terms_kernel(real: Any) -> Any:
    """One term of one item and channel."""

    def run(a, b, u, v, out, size, i, j, r, c):  # type: ignore[no-untyped-def]  # flat or pointers
        for place in range(cuda.grid(1), size, cuda.gridsize(1)):
            node = place // (r * c)
            term = place // c % r
            channel = place % c
            left = real(0)
            for p in range(i):
                left += u[term * i + p] * a[(node * i + p) * c + channel]
            right = real(0)
            for p in range(j):
                right += v[term * j + p] * b[(node * j + p) * c + channel]
            out[place] = left * right

    return run


def scaled_terms_kernel(real: Any) -> Any:
    """One term of one item and channel, scaled."""

    def run(a, h, u, out, size, i, r, c):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), size, cuda.gridsize(1)):
            node = place // (r * c)
            term = place // c % r
            channel = place % c
            left = real(0)
            for p in range(i):
                left += u[term * i + p] * a[(node * i + p) * c + channel]
            out[place] = left * h[node * r + term]

    return run


def back_kernel(real: Any) -> Any:
    """One number of the result, from the terms of its item and channel."""

    def run(terms, w, out, size, r, k, c):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), size, cuda.gridsize(1)):
            node = place // (k * c)
            row = place // c % k
            channel = place % c
            total = real(0)
            for term in range(r):
                total += w[term * k + row] * terms[(node * r + term) * c + channel]
            out[place] = total

    return run


def traces_kernel(real: Any) -> Any:
    """One term of one item, summed over channels."""

    def run(a, b, u, v, out, size, i, j, r, c):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), size, cuda.gridsize(1)):
            node = place // r
            term = place % r
            total = real(0)
            for channel in range(c):
                left = real(0)
                for p in range(i):
                    left += u[term * i + p] * a[(node * i + p) * c + channel]
                right = real(0)
                for p in range(j):
                    right += v[term * j + p] * b[(node * j + p) * c + channel]
                total += left * right
            out[place] = total

    return run


KERNELS = {
    product_terms_kernel: "pppppiiiii",
    scaled_terms_kernel: "ppppiiii",
    back_kernel: "pppiiii",
    traces_kernel: "pppppiiiii",
}
"""For each kernel its arguments: p is a pointer to numbers, i a size."""


def product(a: Tensor, b: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """`cp_product` with one thread per number."""
    (n, i, c), (r, j) = a.shape, v.shape
    terms = a.new_empty(n, r, c)
    _bridge.launch(
        product_terms_kernel, terms.numel(), a, b, u, v, terms, terms.numel(), i, j, r, c
    )
    return _back(terms, w)


def scaled(a: Tensor, h: Tensor, u: Tensor, w: Tensor) -> Tensor:
    """`cp_scaled` with one thread per number."""
    (n, i, c), r = a.shape, u.shape[0]
    terms = a.new_empty(n, r, c)
    _bridge.launch(scaled_terms_kernel, terms.numel(), a, h, u, terms, terms.numel(), i, r, c)
    return _back(terms, w)


def traces(a: Tensor, b: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """`cp_traces` with one thread per number."""
    (n, i, c), (r, j) = a.shape, v.shape
    out = a.new_empty(n, r)
    _bridge.launch(traces_kernel, out.numel(), a, b, u, v, out, out.numel(), i, j, r, c)
    return out


def _back(terms: Tensor, w: Tensor) -> Tensor:
    (n, r, c), k = terms.shape, w.shape[1]
    out = terms.new_empty(n, k, c)
    _bridge.launch(back_kernel, out.numel(), terms, w, out, out.numel(), r, k, c)
    return out
