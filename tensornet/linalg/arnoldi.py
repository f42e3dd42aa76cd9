"""One cycle of flexible GMRES for many right-hand sides at once, and its restarts.

References:
    Saad, Iterative Methods for Sparse Linear Systems (2003), algorithms 6.9 and 9.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet.linalg.krylov_record import Numbers, norms, numbers
from tensornet.linalg.linear_map import Rows

Observe = Callable[[NDArray[np.int64], Numbers], None]


class _Rotated:
    """Small least-squares problems, kept triangular by Givens rotations, one for each row."""

    def __init__(self, beta: Numbers, depth: int, complex_: bool) -> None:
        kind = np.complex128 if complex_ else np.float64
        self.R = np.zeros((len(beta), depth + 1, depth), dtype=kind)
        self.g = np.zeros((len(beta), depth + 1), dtype=kind)
        self.g[:, 0] = beta
        self.cs = np.zeros((len(beta), depth))
        self.sn = np.zeros((len(beta), depth), dtype=kind)

    def add(self, j: int, h: NDArray[Any], below: Numbers, least: Numbers) -> Numbers:
        """Take a column ``h (k, j + 1)`` and the entry below it; give the residual norms.

        A pivot that is not above `least` is zero: the matrix has no such direction.
        """
        column = self.R[:, :, j]
        column[:, : j + 1] = h
        for i in range(j):
            upper, lower = column[:, i].copy(), column[:, i + 1].copy()
            column[:, i] = self.cs[:, i] * upper + self.sn[:, i] * lower
            column[:, i + 1] = -self.sn[:, i].conj() * upper + self.cs[:, i] * lower
        top = column[:, j].copy()
        size = np.hypot(np.abs(top), below)
        some = ~(size <= least)
        full, along = np.where(some, size, 1.0), np.abs(top)
        phase = np.where(along > 0, top / np.where(along > 0, along, 1.0), 1.0)
        self.cs[:, j] = np.where(some, along / full, 0.0)
        self.sn[:, j] = np.where(some, phase * below / full, 1.0)
        column[:, j] = np.where(some, phase * size, 0.0)
        self.g[:, j + 1] = -self.sn[:, j].conj() * self.g[:, j]
        self.g[:, j] = self.cs[:, j] * self.g[:, j]
        left: Numbers = np.abs(self.g[:, j + 1])
        return left

    def solve(self, row: int, j: int) -> NDArray[Any]:
        """Coefficients of the first j + 1 vectors."""
        R, g = self.R[row, : j + 1, : j + 1], self.g[row, : j + 1]
        found: NDArray[Any] = np.linalg.lstsq(R, g, rcond=None)[0]
        return found

    def keep(self, at: NDArray[np.bool_]) -> None:
        self.R, self.g, self.cs, self.sn = self.R[at], self.g[at], self.cs[at], self.sn[at]


def cycle(
    apply: Rows,
    inverse: Rows | None,
    r: Tensor,  # (k, n)
    goal: Numbers,  # (k,)
    depth: int,
    observe: Observe | None = None,
) -> Tensor:  # (k, n)
    """Minimise residuals over a Krylov space, orthogonalised twice.

    Args:
        apply: The matrix.
        inverse: Approximate inverse, from the right; it may change from call to call.
        r: Residuals.
        goal: Residual norms at which to stop.
        depth: Dimension of the space.
        observe: Told after each step which systems went on, and their residual norms.

    Returns:
        What to add to the solutions.
    """
    k, n = r.shape
    beta = norms(r)
    V = r.new_empty(k, depth + 1, n)
    V[:, 0] = r / beta.clamp_min(torch.finfo(r.dtype).tiny)[:, None]
    Z = None if inverse is None else r.new_empty(k, depth, n)
    small, rows = _Rotated(numbers(beta), depth, r.is_complex()), np.arange(k)
    floor, out = max(1e-14, 10 * torch.finfo(r.dtype).eps), torch.zeros_like(r)
    for j in range(depth):
        z = V[:, j].contiguous()
        if Z is not None and inverse is not None:
            Z[:, j] = z = inverse(z)
        w = apply(z)
        size, h = norms(w), torch.zeros_like(V[:, : j + 1, 0])
        for _ in range(2):  # Gram-Schmidt, twice is enough
            share = torch.bmm(V[:, : j + 1].conj(), w[:, :, None])
            w = w - torch.bmm(share.mT, V[:, : j + 1])[:, 0]
            h += share[:, :, 0]
        below = norms(w)
        V[:, j + 1] = w / below.clamp_min(torch.finfo(r.dtype).tiny)[:, None]
        least = floor * numbers(size)
        left = small.add(j, h.cpu().numpy(), numbers(below), least)
        if observe is not None:
            observe(rows, left)
        end = (left <= goal) | ~(numbers(below) > least) | (j == depth - 1)
        if not end.any():
            continue
        for row in np.flatnonzero(end):
            basis = (V if Z is None else Z)[row, : j + 1]
            y = small.solve(int(row), j) if np.isfinite(left[row]) else np.full(j + 1, np.nan)
            out[rows[row]] = torch.as_tensor(y).to(basis) @ basis
        if end.all():
            break
        at = torch.from_numpy(~end).to(r.device)
        V, Z = V[at], None if Z is None else Z[at]
        rows, goal = rows[~end], goal[~end]
        small.keep(~end)
    return out


def restarted(
    apply: Rows,
    right: Tensor,  # (n,)
    start: Tensor,  # (n,)
    *,
    tolerance: float,
    precondition: Rows | None = None,
    restart: int = 40,
    max_restarts: int = 5,
) -> Tensor:  # (n,)
    """Solve one small system inside another method, by functions of vectors ``(n,)``.

    Args:
        apply: The matrix, as a function.
        right: Right-hand side.
        start: First guess.
        tolerance: Residual norm at which to stop, absolute.
        precondition: Approximate inverse.
        restart: Dimension of the Krylov space.
        max_restarts: How many such spaces.
    """

    def on_rows(function: Rows) -> Rows:
        return lambda x: function(x[0])[None]

    inverse = None if precondition is None else on_rows(precondition)
    x, goal = start, np.array([tolerance])
    for _ in range(max_restarts):
        residual = right - apply(x)
        if float(torch.linalg.vector_norm(residual)) <= tolerance:
            break
        x = x + cycle(on_rows(apply), inverse, residual[None], goal, restart)[0]
    return x
