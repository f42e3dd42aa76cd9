r"""Derivatives of the solution of a linear system, by the implicit function theorem.

From :math:`A x = b` follows :math:`A\,dx = db - dA\,x`. For a gradient g of x, one system more,
:math:`A^H λ = g`, gives the gradient λ of b and that of what A is made of, the gradient of
:math:`-λ^H A x` at fixed λ and x. Both are written in terms of themselves, so that derivatives of
every order follow.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tensornet.linalg.linear_map import LinearMap
from tensornet.linalg.solution import LinearSolution


@dataclass(frozen=True)
class System:
    """A matrix and how to solve with it.

    Args:
        A: The matrix.
        solve: Solution for right-hand sides ``(k, n)``.
        adjoint: The same for the conjugate transpose, which may be the system itself.
    """

    A: LinearMap
    solve: Callable[[Tensor], LinearSolution[Tensor]]
    adjoint: Callable[[], System]


def solve(system: System, b: Tensor) -> LinearSolution[Tensor]:  # (k, n)
    """Solve a system, with derivatives if something has them.

    Args:
        system: Matrix and method.
        b: Right-hand sides.
    """
    wanted = torch.is_grad_enabled()
    if wanted:
        system.A.watch()
    with torch.no_grad():
        solution = system.solve(b.detach())
    leaves = system.A.leaves(b.detach()) if wanted else []
    if not leaves and not (wanted and b.requires_grad):
        return solution
    x: Tensor = _Solve.apply(system, [solution.value], b, *leaves)  # type: ignore[no-untyped-call]
    return replace(solution, value=x)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, system: System, found: list[Tensor], b: Tensor, *leaves: Tensor
    ) -> Tensor:
        ctx.system = system
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(found[0], *leaves)
        return found[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        g, none = gradients[0], (None,) * (len(ctx.needs_input_grad) - 3)
        if g is None:
            return (None, None, None, *none)
        x, *leaves = ctx.saved_tensors
        adjoint = solve(ctx.system.adjoint(), g)
        if not adjoint.converged:
            warnings.warn(
                f"The gradient is inexact, its linear system has not converged. {adjoint.message}",
                RuntimeWarning,
                stacklevel=2,
            )
        λ = adjoint.value
        if not any(ctx.needs_input_grad[3:]):
            return (None, None, λ, *none)
        keep, gate = torch.is_grad_enabled(), _Gate()
        with torch.enable_grad():
            fixed = _Guarded.apply(gate, x) if keep else x.detach()  # type: ignore[no-untyped-call]
            y = ctx.system.A(fixed)
            found = torch.autograd.grad(
                y, leaves, -λ, retain_graph=True, create_graph=keep, allow_unused=True
            )
        gate.open = True
        return (None, None, λ, *found)


class _Gate:
    """Whether derivatives pass."""

    open = False


class _Guarded(torch.autograd.Function):
    """The identity, which holds x fixed until its gate opens: for the derivatives that follow."""

    @staticmethod
    def forward(ctx: Any, gate: _Gate, x: Tensor) -> Tensor:
        ctx.gate = gate
        ctx.set_materialize_grads(False)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, Tensor | None]:
        return None, gradients[0] if ctx.gate.open else None
