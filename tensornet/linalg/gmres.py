"""Generalised minimal residuals, for systems that are not symmetric."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet import _check
from tensornet.linalg.arnoldi import cycle
from tensornet.linalg.krylov_record import Numbers, Record, diagnose, norms, numbers, without
from tensornet.linalg.linear_map import Operator
from tensornet.linalg.linear_system import Arguments, Call, Vector
from tensornet.linalg.solution import LinearSolution


def gmres(
    A: Operator,  # (n, n)
    b: Vector,  # (..., n)
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    restart: int = 20,
    maxiter: int | None = None,
    M: Operator | None = None,  # (n, n)
    callback: Callable[[Vector], object] | None = None,
    x0: Vector | None = None,  # (..., n)
) -> LinearSolution[Vector]:  # value (..., n)
    """Solve linear systems by restarted, flexible GMRES.

    The arguments are those of `scipy.sparse.linalg.gmres`, for any batch of right-hand sides. The
    preconditioner stands at the right, so that residuals are those of the system as given, and may
    change from call to call.

    Args:
        A: The operator, see `cg`, symmetric or not. A `nullspace` is taken for that of the adjoint
            too, unless the operator has ``symmetric = False``; then `transpose()` is asked.
        b: Right-hand sides, of torch or NumPy.
        rtol: Largest ``‖b - A x‖ / ‖b‖``.
        atol: Largest ``‖b - A x‖``; the larger of the two goals counts.
        restart: Dimension of the Krylov space; that many vectors are kept, twice with `M`.
        maxiter: Largest number of restarts; by default ``10 n``.
        M: Approximate inverse, see `cg`; any function.
        callback: Called with the solutions after each restart.
        x0: First guess.

    Returns:
        The solutions in the kind of `b`, with residuals and a message. Iterations are counted one
        by one, not by restarts.

    Raises:
        TypeError: If dtypes differ, or something is no operator.
        ValueError: If shapes do not fit, or `b` is not finite.

    Derivatives:
        As `cg`. The adjoint of a torch function is taken by automatic differentiation; `M` is
        transposed for it if it is a matrix.

    References:
        Saad & Schultz, SIAM J. Sci. Stat. Comput. 7, 856 (1986); Saad, Iterative Methods for Sparse
        Linear Systems (2003), algorithm 9.6.

    Examples:
        >>> A = torch.tensor([[2.0, 1.0], [-1.0, 2.0]])
        >>> [round(x, 4) for x in gmres(A, torch.tensor([3.0, 1.0])).value.tolist()]
        [1.0, 1.0]
    """
    _check.at_least("gmres", 1, restart=restart)
    if maxiter is not None:
        _check.at_least("gmres", 0, maxiter=maxiter)

    def run(call: Call, right: Tensor, record: Record) -> Tensor:
        limit = 10 * right.shape[-1] if maxiter is None else maxiter
        return _Restarts(call, right, record, min(restart, right.shape[-1])).run(limit)

    arguments = Arguments("gmres", A, b, M, x0, rtol, atol, callback)
    return arguments.solve(run, symmetric=False)


class _Restarts:
    """Systems from restart to restart."""

    def __init__(self, call: Call, b: Tensor, record: Record, depth: int) -> None:
        self.call, self.b, self.record, self.depth = call, b, record, depth
        self.x = torch.zeros_like(b) if call.x0 is None else call.x0.clone()
        self.rows = np.arange(len(b))

    def run(self, maxiter: int) -> Tensor:
        size = self.measure()
        self.record.close()
        promised = np.full(len(size), np.inf)
        for _ in range(maxiter):
            before, rows = size, self.rows
            if len(rows) == 0:
                break
            promised = self.advance()
            size = self.measure()
            if self.call.callback is not None:
                self.call.callback(self.x.clone())
            position = np.searchsorted(rows, self.rows)
            size = self.drop_stuck(size, before[position], promised[position])
        for row in self.rows:
            self.record.why[row] = self.record.too_few(row)
        failed = np.flatnonzero(~self.record.done)
        if len(failed):
            with suppress(TypeError, RuntimeError):  # an adjoint may be unknown
                adjoint = self.call.A.adjoint()
                diagnose(self.record, adjoint, self.b[failed], self.residual(failed), failed)
        return self.x

    def residual(self, rows: NDArray[np.int64]) -> Tensor:
        return self.b[rows] - self.call.A(self.x[rows])

    def measure(self) -> Numbers:
        """Recompute residuals, and take leave of the systems that are at their goal."""
        if len(self.rows) == 0:
            return np.zeros(0)
        self.r = self.residual(self.rows)
        size = numbers(norms(self.r))
        self.record.residuals(self.rows, size)
        if self.record.history:
            self.record.history[-1] = float(self.record.residual.max())
        done, lost = size <= self.record.goal[self.rows], ~np.isfinite(size)
        for row in self.rows[lost]:
            self.record.why[row] = (
                "`gmres(A=...)` or its preconditioner gave NaN or infinite numbers."
            )
        self.record.done[self.rows[done]] = True
        self.leave(done | lost)
        return size[~(done | lost)]

    def leave(self, choice: NDArray[np.bool_]) -> None:
        if choice.any():
            self.rows = self.rows[~choice]
            self.r = self.r[torch.from_numpy(~choice).to(self.r.device)]

    def advance(self) -> Numbers:
        """One cycle; the residual norms that it promises."""
        rows, record, A = self.rows, self.record, self.call.A
        M, promised = self.call.M, np.zeros(len(self.rows))

        def observe(active: NDArray[np.int64], left: Numbers) -> None:
            promised[active] = left
            record.residuals(rows[active], left)
            record.iterations[rows[active]] += 1
            record.close()

        x = self.x[rows] + cycle(A, M, self.r, record.goal[rows], self.depth, observe)
        self.x[rows] = without(x, A.nullspace)
        return promised

    def drop_stuck(self, size: Numbers, before: Numbers, promised: Numbers) -> Numbers:
        """Take leave of the systems that another cycle would not move."""
        goal = self.record.goal[self.rows]
        exact = (promised <= goal) & (size > 0.5 * before)
        still = ~exact & (size >= (1 - 1e-10) * before)
        kind = str(self.x.dtype).removeprefix("torch.")
        for at in np.flatnonzero(exact | still):
            self.record.why[self.rows[at]] = (
                f"The residual stays above its goal: this is as accurate as {kind} gets here, or "
                "the system is singular, or nearly."
                if exact[at]
                else f"A Krylov space of dimension {self.depth} brought no progress: raise "
                "`restart`, or precondition."
            )
        self.leave(exact | still)
        return size[~(exact | still)]
