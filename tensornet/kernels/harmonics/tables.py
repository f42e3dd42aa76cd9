"""Numbers that harmonics are made of, in component normalisation."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def n_degrees(m: int) -> int:
    """How many degrees the first m harmonics take."""
    return math.isqrt(m - 1) + 1 if m else 0


def three(name: str, **tensors: Tensor) -> None:
    """Refuse tensors whose rows are not of three numbers."""
    for argument, x in tensors.items():
        if x.shape[1] != 3:
            raise ValueError(
                f"`{name}({argument}=...)` must have shape (e, 3). Got {tuple(x.shape)}."
            )


@cache
def recursion(n_l: int) -> tuple[NDArray[np.float64], ...]:
    """Coefficients of P[l + 1] = up y P[l] - down P[l - 1] for each order, and P[l = order].

    P is the associated Legendre function over the power of the sine, so a polynomial in y; by
    order, then by degree, from the order to the last. The step out of the last degree is zero.
    """
    first = np.ones(max(n_l, 1))
    for order in range(1, n_l):
        ratio = (2 * order + 1) / (2 * order) * (2 if order == 1 else 1)
        first[order] = first[order - 1] * math.sqrt(ratio)
    up, down = [], []
    for order in range(n_l):
        for l in range(order, n_l):
            step = _step(l + 1, order)
            up.append(step if l + 1 < n_l else 0.0)
            down.append(step / _step(l, order) if l + 1 < n_l and l > order else 0.0)
    return first, np.array(up), np.array(down)


def _step(l: int, order: int) -> float:
    return math.sqrt((4 * l * l - 1) / (l * l - order * order))


@cache
def ladder(n_l: int) -> NDArray[np.float64]:  # (3, m, m)
    """Each derivative of a solid harmonic, r^l times a harmonic, in those of one degree less.

    ``d R[k] / d x[a] = sum over i of R[i] ladder[a, i, k]``.

    References:
        Varshalovich, Moskalev & Khersonskii, Quantum Theory of Angular Momentum, 5.8.3.
    """
    out = np.zeros((3, n_l * n_l, n_l * n_l))
    for l in range(1, n_l):
        scale = math.sqrt((2 * l + 1) / (2 * l - 1))
        low, high = (l - 1) * l, l * (l + 1)  # order zero of the two degrees

        found: list[tuple[int, int, int, float]] = []  # axis, order below, order, value
        for k in range(l + 1):
            along = math.sqrt((l - k) * (l + k))
            less = math.sqrt((l + k) * (l + k - 1)) / 2 * (math.sqrt(2) if k == 1 else 1)
            more = math.sqrt((l - k) * (l - k - 1)) / 2 * (math.sqrt(2) if k == 0 else 1)
            found += [(1, k, k, along), (2, k + 1, k, -more), (0, -k - 1, k, -more)]
            if k:
                found += [(1, -k, -k, along), (2, k - 1, k, less), (2, -k - 1, -k, -more)]
                found += [(0, k - 1, -k, less), (0, k + 1, -k, more)]
            if k > 1:
                found += [(0, 1 - k, k, -less), (2, 1 - k, -k, less)]
        for a, below, order, value in found:
            if abs(below) < l:
                out[a, low + below, high + order] = scale * value
    return out


def as_tensor(make: Any, n_l: int, like: Tensor) -> Tensor:
    """A table where a tensor is, in its dtype."""
    return torch.from_numpy(make(n_l)).to(like)
