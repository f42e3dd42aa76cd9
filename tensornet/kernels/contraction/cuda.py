"""The symmetric contraction in Numba CUDA: one thread per number of the result, in a fixed order.

Each kernel multiplies the factors of monomials as dual numbers, with the change along h beside the
value, and sums one of the two.
"""

from typing import Any

import torch
from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import order_and_starts


def result_kernel(real: Any) -> Any:
    """One component of the result of one row, or its change; `terms` sorts monomials by it."""

    def run(  # type: ignore[no-untyped-def]  # flat or pointers
        x, c, h, species, monomials, terms, begins, out,
        dual, n, n_i, n_c, n_s, n_t, n_q, n_k,
    ):  # fmt: skip
        for place in range(cuda.grid(1), n * n_k * n_c, cuda.gridsize(1)):
            node = place // (n_k * n_c)
            k = place // n_c % n_k
            channel = place % n_c
            s = species[node]
            total = real(0)
            if begins[0] > 0 or begins[n_k] < n_t or s < 0 or s >= n_s:
                total = real(float("nan"))
            else:
                for entry in range(begins[k], begins[k + 1]):
                    t = terms[entry]
                    value = real(1)
                    change = real(0)
                    for q in range(n_q):
                        i = monomials[t * n_q + q]
                        if i < 0 or i > n_i:
                            value = real(float("nan"))
                            change = value
                        elif i < n_i:
                            there = (node * n_i + i) * n_c + channel
                            change = change * x[there] + value * h[there]
                            value *= x[there]
                    if dual:
                        value = change
                    total += c[(s * n_t + t) * n_c + channel] * value
            out[place] = total

    return run


def component_kernel(real: Any) -> Any:
    """The slope in one component of one row, or its change; `places` sorts the factors by it."""

    def run(  # type: ignore[no-untyped-def]
        x, c, g, h, species, monomials, at_k, places, begins, out,
        dual, n, n_i, n_c, n_s, n_t, n_q, n_k,
    ):  # fmt: skip
        for place in range(cuda.grid(1), n * n_i * n_c, cuda.gridsize(1)):
            node = place // (n_i * n_c)
            component = place // n_c % n_i
            channel = place % n_c
            s = species[node]
            total = real(0)
            if begins[0] > 0 or begins[n_i + 1] < n_t * n_q or s < 0 or s >= n_s:
                total = real(float("nan"))
            else:
                for entry in range(begins[component], begins[component + 1]):
                    t = places[entry] // n_q
                    k = at_k[t]
                    if k < 0 or k >= n_k:
                        total = real(float("nan"))
                    else:
                        value = real(1)
                        change = real(0)
                        for q in range(n_q):
                            i = monomials[t * n_q + q]
                            if t * n_q + q != places[entry] and i < n_i:
                                there = (node * n_i + i) * n_c + channel
                                change = change * x[there] + value * h[there]
                                value *= x[there]
                        if dual:
                            value = change
                        value *= g[(node * n_k + k) * n_c + channel]
                        total += c[(s * n_t + t) * n_c + channel] * value
            out[place] = total

    return run


def coefficient_kernel(real: Any) -> Any:
    """The slope in one coefficient, or its change; `order` sorts the rows by species."""

    def run(  # type: ignore[no-untyped-def]
        x, g, h, order, starts, monomials, at_k, out,
        dual, n, n_i, n_c, n_s, n_t, n_q, n_k,
    ):  # fmt: skip
        for place in range(cuda.grid(1), n_s * n_t * n_c, cuda.gridsize(1)):
            s = place // (n_t * n_c)
            t = place // n_c % n_t
            channel = place % n_c
            k = at_k[t]
            total = real(0)
            if starts[0] > 0 or starts[n_s] < n or k < 0 or k >= n_k:
                total = real(float("nan"))
            else:
                for entry in range(starts[s], starts[s + 1]):
                    node = order[entry]
                    value = real(1)
                    change = real(0)
                    for q in range(n_q):
                        i = monomials[t * n_q + q]
                        if i < 0 or i > n_i:
                            value = real(float("nan"))
                            change = value
                        elif i < n_i:
                            there = (node * n_i + i) * n_c + channel
                            change = change * x[there] + value * h[there]
                            value *= x[there]
                    if dual:
                        value = change
                    total += g[(node * n_k + k) * n_c + channel] * value
            out[place] = total

    return run


KERNELS = {
    result_kernel: "pppqqqqp" + "i" * 8,
    component_kernel: "ppppqqqqqp" + "i" * 8,
    coefficient_kernel: "pppqqqqp" + "i" * 8,
}
"""For each kernel its arguments: p points to numbers, q to whole numbers, i is a size."""


def _sizes(dual: int, x: Tensor, c: Tensor, monomials: Tensor, n_k: int) -> tuple[int, ...]:
    return dual, *x.shape, c.shape[0], *monomials.shape, n_k


def _results(
    dual: int, x: Tensor, c: Tensor, h: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor, k: int,
) -> Tensor:  # fmt: skip
    out = x.new_empty(x.shape[0], k, x.shape[2])
    _bridge.launch(
        result_kernel, out.numel(),
        x, c, h, species, monomials, *order_and_starts(at_k, k), out,
        *_sizes(dual, x, c, monomials, k),
    )  # fmt: skip
    return out


def _components(
    dual: int, x: Tensor, c: Tensor, g: Tensor, h: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor,
) -> Tensor:  # fmt: skip
    out = torch.empty_like(x)
    places = order_and_starts(monomials.view(-1), x.shape[1] + 1)
    _bridge.launch(
        component_kernel, out.numel(),
        x, c, g, h, species, monomials, at_k, *places, out,
        *_sizes(dual, x, c, monomials, g.shape[1]),
    )  # fmt: skip
    return out


def _coefficients(
    dual: int, x: Tensor, c: Tensor, g: Tensor, h: Tensor,
    species: Tensor, monomials: Tensor, at_k: Tensor,
) -> Tensor:  # fmt: skip
    out = torch.empty_like(c)
    _bridge.launch(
        coefficient_kernel, out.numel(),
        x, g, h, *order_and_starts(species, c.shape[0]), monomials, at_k, out,
        *_sizes(dual, x, c, monomials, g.shape[1]),
    )  # fmt: skip
    return out


def polynomial(
    x: Tensor, c: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor, k: int
) -> Tensor:
    """`symmetric_polynomial` with one thread per number."""
    return _results(0, x, c, x, species, monomials, at_k, k)


def slope(
    x: Tensor, c: Tensor, g: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor
) -> Tensor:
    """`polynomial_slope` with one thread per number."""
    return _components(0, x, c, g, x, species, monomials, at_k)


def gradient(
    x: Tensor, c: Tensor, g: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor
) -> tuple[Tensor, Tensor]:
    """`polynomial_gradient` with one thread per number."""
    at = 0, x, c, g, x, species, monomials, at_k
    return _components(*at), _coefficients(*at)


def curvature(
    x: Tensor, c: Tensor, g: Tensor, h: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`polynomial_curvature` with one thread per number."""
    at = 1, x, c, g, h, species, monomials, at_k
    change = _results(1, x, c, h, species, monomials, at_k, g.shape[1])
    return _components(*at), _coefficients(*at), change


def turned_polynomial(
    x: Tensor, c: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor, k: int
) -> Tensor:
    """`turned_polynomial`; the features are turned beforehand."""
    return polynomial(x.mT.contiguous(), c, species, monomials, at_k, k)


def turned_slope(
    x: Tensor, c: Tensor, g: Tensor, species: Tensor, monomials: Tensor, at_k: Tensor
) -> Tensor:
    """`turned_slope`; the features are turned beforehand."""
    return slope(x.mT.contiguous(), c, g, species, monomials, at_k).mT.contiguous()
