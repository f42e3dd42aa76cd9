"""Values and derivatives of functions in Chebyshev-Tucker form at many points."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet.formats import chebyshev
from tensornet.kernels import tucker_points

# Numbers of the largest intermediate of one block of points: about the second-level cache.
_BLOCK = 2**18


def jet(
    core: Tensor,  # (r_1, ..., r_d)
    coefficients: Sequence[Tensor],  # (m_k, r_k) each
    points: Tensor,  # (n, d), in [-1, 1]^d
    order: int,
) -> dict[tuple[int, ...], Tensor]:  # (n,) each
    """Compute all partial derivatives up to an order at once.

    In every mode, one matrix product gives the series and their derivatives. The core is then
    contracted mode by mode, and what the derivatives have in common is computed once: value and
    gradient together take two products with the core, not 1 + d.

    Args:
        core: The core.
        coefficients: Chebyshev coefficients, one series per column.
        points: Points, scaled to [-1, 1].
        order: Zero for values, one for gradients too, two for second derivatives.

    Returns:
        For each non-decreasing sequence of modes, the derivative with respect to them; the empty
        sequence is the value.

    Derivatives:
        Any order, in the core, the coefficients and the points.
    """
    if order == 0 and core.ndim == 3:
        pairs = zip(points.unbind(1), coefficients, strict=True)
        rows = [chebyshev.evaluate(x.contiguous(), c) for x, c in pairs]
        return {(): tucker_points(core, *rows)}
    series = [_with_derivatives(c, order) for c in coefficients]
    widest = max(1, core.numel() // core.shape[0]) * (order + 1)
    block = max(64, _BLOCK // widest)
    if len(points) <= block:
        return _jet(core, series, points, order)
    blocks = [_jet(core, series, x, order) for x in points.split(block)]
    return {modes: torch.cat([b[modes] for b in blocks]) for modes in blocks[0]}


def _with_derivatives(c: Tensor, order: int) -> Tensor:  # (m, r) -> (m, (order + 1) r)
    found = [c]
    for _ in range(order):
        found.append(chebyshev.derivative(found[-1]))
    return torch.cat([chebyshev.pad(x, len(c)) for x in found], 1) if order else c


def _jet(
    core: Tensor, series: Sequence[Tensor], points: Tensor, order: int
) -> dict[tuple[int, ...], Tensor]:
    partial: dict[tuple[int, ...], Tensor] = {(): core[None]}
    for k, c in enumerate(series):
        rows = chebyshev.evaluate(points[:, k].contiguous(), c)
        rows_by_order = rows.split(core.shape[k], 1)
        partial = {
            modes + (k,) * q: contract(rows_by_order[q], x)
            for modes, x in partial.items()
            for q in range(order - len(modes) + 1)
        }
    return partial


def contract(
    rows: Tensor,  # (n, r)
    x: Tensor,  # (n or 1, r, ...)
) -> Tensor:  # (n, ...)
    """Contract the first mode of a tensor for every point, or of one tensor for all points."""
    if x.ndim == 2 and len(x) > 1:
        return (rows * x).sum(1)
    if len(x) == 1:  # the core itself, before any point has met it
        return (rows @ x.reshape(rows.shape[1], -1)).reshape(len(rows), *x.shape[2:])
    rest = math.prod(x.shape[2:])
    joined = rows[:, None, :] @ x.reshape(len(x), rows.shape[1], rest)
    return joined.reshape(len(rows), *x.shape[2:])
