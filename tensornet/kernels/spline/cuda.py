"""Splines in Numba CUDA: one thread per number of the result, in a fixed order."""

from typing import Any

import torch
from numba import cuda
from torch import Tensor

from tensornet.kernels import _bridge
from tensornet.kernels._index import order_and_starts
from tensornet.kernels.spline.basis import basis, whole_knots


def values_kernel(real: Any) -> Any:
    """One spline at one point; `first` holds the knot before each point."""

    def run(x, first, table, rows, out, q, e):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), e * q, cuda.gridsize(1)):
            point = place // q
            knot = first[point]
            s = x[point] - real(knot)
            total = real(0)
            for j in range(6):
                weight = rows[6 * j + 5]
                for p in range(4, -1, -1):
                    weight = weight * s + rows[6 * j + p]
                total += weight * table[(3 * knot + j) * q + place % q]
            out[place] = total

    return run


def slopes_kernel(real: Any) -> Any:
    """The sum over splines at one point."""

    def run(x, first, table, g, rows, out, q, e):  # type: ignore[no-untyped-def]
        for point in range(cuda.grid(1), e, cuda.gridsize(1)):
            knot = first[point]
            s = x[point] - real(knot)
            total = real(0)
            for j in range(6):
                weight = rows[6 * j + 5]
                for p in range(4, -1, -1):
                    weight = weight * s + rows[6 * j + p]
                inner = real(0)
                for column in range(q):
                    inner += table[(3 * knot + j) * q + column] * g[point * q + column]
                total += weight * inner
            out[point] = total

    return run


def moments_kernel(real: Any) -> Any:
    """One number of the table; `order` and `starts` sort the points by the knot before them."""

    def run(x, order, starts, g, rows, out, k, q):  # type: ignore[no-untyped-def]
        for place in range(cuda.grid(1), k * q, cuda.gridsize(1)):
            row = place // q
            total = real(0)
            for behind in range(2):
                knot = row // 3 - behind
                j = row % 3 + 3 * behind
                if knot >= 0 and knot < k // 3 - 1:
                    for t in range(starts[knot], starts[knot + 1]):
                        point = order[t]
                        s = x[point] - real(knot)
                        weight = rows[6 * j + 5]
                        for p in range(4, -1, -1):
                            weight = weight * s + rows[6 * j + p]
                        total += weight * g[point * q + place % q]
            out[place] = total

    return run


KERNELS = {values_kernel: "pqpppii", slopes_kernel: "pqppppii", moments_kernel: "pqqpppii"}
"""For each kernel its arguments: p points to numbers, q to whole numbers, i is a size."""


def _knots(x: Tensor, k: int) -> Tensor:  # (e,)
    return x.nan_to_num().floor().clamp(0, k // 3 - 2).to(torch.int64)


def _rows(order: int, like: Tensor) -> Tensor:
    return torch.from_numpy(basis(order)).to(like)


def values(x: Tensor, table: Tensor, order: int) -> Tensor:
    """`spline` with one thread per number."""
    (k, q), out = table.shape, x.new_empty(len(x), table.shape[1])
    whole_knots("spline", table=k)
    _bridge.launch(
        values_kernel, out.numel(),
        x, _knots(x, k), table, _rows(order, x), out, q, len(x),
    )  # fmt: skip
    return out


def slopes(x: Tensor, table: Tensor, g: Tensor, order: int) -> Tensor:
    """`spline_slopes` with one thread per point."""
    (k, q), out = table.shape, torch.empty_like(x)
    whole_knots("spline_slopes", table=k)
    _bridge.launch(
        slopes_kernel, len(x),
        x, _knots(x, k), table, g, _rows(order, x), out, q, len(x),
    )  # fmt: skip
    return out


def moments(x: Tensor, g: Tensor, k: int, order: int) -> Tensor:
    """`spline_moments` with one thread per number."""
    q, out = g.shape[1], g.new_empty(k, g.shape[1])
    whole_knots("spline_moments", k=k)
    _bridge.launch(
        moments_kernel, out.numel(),
        x, *order_and_starts(_knots(x, k), k // 3 - 1), g, _rows(order, x), out, k, q,
    )  # fmt: skip
    return out
