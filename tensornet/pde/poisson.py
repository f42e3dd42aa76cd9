"""Poisson's equation, ``-div(coefficient grad u) = source``, by finite volumes."""

from __future__ import annotations

import torch
from torch import Tensor

from tensornet.pde.boundary import Boundary
from tensornet.pde.domain import Domain
from tensornet.pde.grid import Field, Grid
from tensornet.pde.operator import StencilOperator
from tensornet.pde.problem import Problem, coefficient_of, domain_of, finished


def poisson(
    grid: Grid | Domain,
    *,
    mask: Tensor | None = None,  # (*shape) bool
    boundary: Boundary | None = None,
    coefficient: Field = 1.0,
    source: Field = 0.0,
    exact: Field | None = None,
    project: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Problem:
    """Discretise Poisson's equation, ``-div(coefficient grad u) = source``.

    Unknowns are at the centres of cells, walls at faces. Between two active cells the flux is
    ``mean (u_p - u_q) / spacing`` with the harmonic mean of the two coefficients; a value held at
    a face is reflected (weight ``2 coefficient / spacing²``). The operator is symmetric, positive
    definite where a value is held on every part; held values and fluxes go to the right side. The
    error is of second order in the spacing where the mask has no corners or staircases.

    Args:
        grid: The grid; or a `Domain`, which says the mask and the boundary, and more.
        mask: True where the equation holds. Other cells are walls that let nothing through.
        boundary: What holds at the sides of the box, by default ``"dirichlet"``: a word, or one
            per axis, or pairs of lower and upper sides. See `Domain`.
        coefficient: Positive, in the active cells.
        source: The source, any batch in front.
        exact: The solution where it is known, for tests; kept in the problem.
        project: Where the operator is singular, subtract the mean of the right side over every
            part that nothing holds. Otherwise a right side that cannot be reached is refused.
        dtype: Of the operator.
        device: Where it is; that of the mask by default.

    Returns:
        The problem.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If shapes differ, numbers are NaN or infinite, the coefficient is not positive,
            the mask is empty or has isolated cells, or the source cannot be reached.

    Derivatives:
        Any order: the operator in the coefficient, the right side in source and boundary.

    References:
        LeVeque, Finite Difference Methods for Ordinary and Partial Differential Equations (2007),
        chapters 2 and 3; Patankar, Numerical Heat Transfer and Fluid Flow (1980), section 4.2.

    Examples:
        >>> problem = poisson(Grid(4, spacing=0.25), source=8.0)
        >>> x = Grid(4, spacing=0.25).axes()[0]
        >>> problem.residual(4 * x * (1 - x) + 0.25 / 4)
        tensor([0., 0., 0., 0.], dtype=torch.float64)
    """
    domain = domain_of("poisson", grid, mask, boundary, device)
    operator, load = diffusion("poisson", domain, coefficient, dtype)
    return finished("poisson", operator, load, source, exact, project)


def diffusion(
    where: str, domain: Domain, coefficient: Field, dtype: torch.dtype
) -> tuple[StencilOperator, Tensor]:
    """Discretise ``-div(coefficient grad u)``.

    Args:
        where: Name of the public call, for messages.
        domain: Where it acts.
        coefficient: Positive, in the active cells.
        dtype: Of the operator.

    Returns:
        The operator, and what the boundary adds to the right side, ``(..., *shape)``.

    Raises:
        TypeError: As `poisson`.
        ValueError: As `poisson`, for the coefficient and the boundary.
    """
    k, grid = coefficient_of(where, "coefficient", domain, coefficient, dtype), domain.grid
    anchor, load = grounded(where, domain, k, dtype)
    if isinstance(coefficient, int | float):
        lines = []
        for axis, (n, h) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
            line = torch.full((n,), coefficient / h**2, dtype=dtype, device=domain.device)
            if not domain.periodic[axis]:
                line[-1] = 0
            lines.append(line)
        made = StencilOperator(domain, "lines", anchor, tuple(lines), coefficient=coefficient)
        return made, load
    faces = tuple(coupling(domain, k, axis) for axis in range(grid.dim))
    return StencilOperator(domain, "faces", anchor, faces, coefficient=k), load


def coupling(domain: Domain, k: Tensor, axis: int) -> Tensor:  # (*shape)
    """Weight of the face between each cell and the next, zero where one is not active.

    Args:
        domain: Where.
        k: The coefficient, ``(*shape)``.
        axis: Along which axis.

    Returns:
        The harmonic mean of both coefficients over the squared spacing, ``(*shape)``.
    """
    k = k.masked_fill(~domain.active, 1.0)
    above = k.roll(-1, axis)
    total = k + above
    mean = 2 * k * above / total.masked_fill(total == 0, 1.0)
    return domain.inner(axis, 1) * mean / domain.grid.spacing[axis] ** 2


def grounded(
    where: str, domain: Domain, k: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:  # (*shape), (..., *shape)
    """What ties cells to held values, and what sides give to the right side.

    Args:
        where: Name of the public call, for messages.
        domain: Where.
        k: The coefficient, ``(*shape)``.
        dtype: Of the numbers.
    """
    anchor = torch.zeros(domain.grid.shape, dtype=dtype, device=domain.device)
    load = anchor
    for axis, h in enumerate(domain.grid.spacing):
        for step in (-1, 1):
            for kind, cells, box in domain.outer(axis, step):
                silent = isinstance(kind.value, int | float) and kind.value == 0
                value = 0.0 if silent else domain.value(kind, axis, step, box, dtype, where)
                if kind.kind == "dirichlet":
                    tie = cells * k * (kind.weight / h**2)
                    anchor = anchor + tie
                    load = load if silent else load + tie * value
                elif not silent:
                    load = load + cells * value / h
    return anchor, load
