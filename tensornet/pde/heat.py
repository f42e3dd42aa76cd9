"""Steps in time: the theta scheme on any linear problem."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet.pde.boundary import Boundary
from tensornet.pde.domain import Domain
from tensornet.pde.grid import Field, Grid
from tensornet.pde.operator import StencilOperator
from tensornet.pde.poisson import diffusion
from tensornet.pde.problem import Problem, domain_of


@dataclass(frozen=True, eq=False)
class ThetaStep:
    """One step of ``du/dt = load - A(u)``, implicit by theta.

    ``(I + theta dt A) u_next = (I - (1 - theta) dt A) u + dt load``. Made by `heat` and
    `theta_step`.

    Args:
        implicit: The operator on the left.
        explicit: The operator on the right.
        load: Source and boundary times the time step, ``(..., n)``.
    """

    implicit: StencilOperator
    explicit: StencilOperator
    load: Tensor

    @property
    def domain(self) -> Domain:
        """Where the equation holds."""
        return self.implicit.domain

    def problem(self, u: Tensor) -> Problem:  # (..., n)
        """Give the linear problem whose solution is the next state.

        Args:
            u: The state.

        Returns:
            The problem ``implicit(u_next) = explicit(u) + load``.
        """
        return Problem(self.implicit, self.explicit(u) + self.load)

    def residual(self, u_next: Tensor, u: Tensor) -> Tensor:  # (..., n), (..., n) -> (..., n)
        """Discretised residual of a step.

        Args:
            u_next: The state after the step.
            u: The state before.

        Returns:
            The residual, ``explicit(u) + load - implicit(u_next)``.

        Derivatives:
            Any order.
        """
        return self.explicit(u) + self.load - self.implicit(u_next)


def theta_step(problem: Problem, dt: float, *, theta: float = 0.5) -> ThetaStep:
    """Make the step of ``du/dt = rhs - operator(u)`` of any problem.

    Args:
        problem: What does not change in time: operator, source and boundary.
        dt: Time step.
        theta: 0 is Euler's explicit step, stable for small time steps only; 1/2 that of Crank and
            Nicolson, of second order; 1 Euler's implicit one.

    Returns:
        The step.

    Raises:
        TypeError: If the problem is something else.
        ValueError: If the time step is not positive and finite, or theta not from 0 to 1.

    References:
        LeVeque (2007), section 9.1.

    Examples:
        >>> from tensornet.pde import poisson
        >>> step = theta_step(poisson(Grid(4, spacing=0.25)), 0.01, theta=1.0)
        >>> step.explicit(torch.ones(4, dtype=torch.float64))
        tensor([1., 1., 1., 1.], dtype=torch.float64)
    """
    if not isinstance(problem, Problem):
        raise TypeError(
            f"`theta_step(problem=...)` must be a `Problem`. Got {type(problem).__name__}."
        )
    if not (isinstance(dt, int | float) and 0 < dt < math.inf):
        raise ValueError(f"`theta_step(dt=...)` must be positive and finite. Got {dt}.")
    if not (isinstance(theta, int | float) and 0 <= theta <= 1):
        raise ValueError(f"`theta_step(theta=...)` must be from 0 to 1. Got {theta}.")
    A = problem.operator
    implicit, explicit = A.shifted(1.0, theta * dt), A.shifted(1.0, (theta - 1) * dt)
    return ThetaStep(implicit, explicit, dt * problem.rhs)


def heat(
    grid: Grid | Domain,
    dt: float,
    *,
    theta: float = 0.5,
    mask: Tensor | None = None,  # (*shape) bool
    boundary: Boundary | None = None,
    coefficient: Field = 1.0,
    source: Field = 0.0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> ThetaStep:
    """Make the time step of the heat equation, ``du/dt = div(coefficient grad u) + source``.

    Args:
        grid: The grid; or a `Domain`, which says the mask and the boundary, and more.
        dt: Time step.
        theta: 1/2 for Crank and Nicolson's, 1 for Euler's implicit step. See `theta_step`.
        mask: True where the equation holds.
        boundary: What holds at the sides of the box, by default ``"dirichlet"``.
        coefficient: Positive, in the active cells.
        source: The source, any batch in front.
        dtype: Of the operators.
        device: Where they are; that of the mask by default.

    Returns:
        The step.

    Raises:
        TypeError: As `poisson`.
        ValueError: As `poisson` and `theta_step`.

    Derivatives:
        Any order, as in `poisson`.

    References:
        Crank & Nicolson, Proc. Cambridge Phil. Soc. 43, 50 (1947).

    Examples:
        >>> step = heat(Grid(4, spacing=0.25), 0.1, boundary="neumann")
        >>> warm = torch.ones(4, dtype=torch.float64)
        >>> step.residual(warm, warm)  # nothing happens
        tensor([0., 0., 0., 0.], dtype=torch.float64)
    """
    domain = domain_of("heat", grid, mask, boundary, device)
    A, load = diffusion("heat", domain, coefficient, dtype)
    kind = {"dtype": dtype, "device": A.device, "where": "heat", "name": "source"}
    field = domain.grid.field(source, **kind)  # type: ignore[arg-type]
    return theta_step(Problem(A, domain.restrict(load + field)), dt, theta=theta)
