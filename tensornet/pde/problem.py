"""A discretised linear problem: an operator and a right side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet.pde.boundary import Boundary
from tensornet.pde.domain import Domain
from tensornet.pde.grid import Field, Grid
from tensornet.pde.operator import StencilOperator


@dataclass(frozen=True, eq=False)
class Problem:
    """A linear problem ``operator(u) = rhs`` on the active cells of a domain.

    Args:
        operator: The operator.
        rhs: The right side with all that boundaries give, ``(..., n)``.
        exact: The solution of the equation at the centres, where it is known, ``(..., n)``.
    """

    operator: StencilOperator
    rhs: Tensor
    exact: Tensor | None = None

    @property
    def domain(self) -> Domain:
        """Where the problem is posed."""
        return self.operator.domain

    def residual(self, u: Tensor) -> Tensor:  # (..., n) -> (..., n)
        """Discretised residual ``rhs - operator(u)``.

        Args:
            u: Vectors of the active cells.

        Returns:
            The residual, (..., n).

        Derivatives:
            Any order.
        """
        return self.rhs - self.operator(u)

    def embed(self, x: Tensor, fill: float = 0.0) -> Tensor:  # (..., n) -> (..., *shape)
        """Put a vector of the active cells on the grid.

        Args:
            x: One number per active cell, any batch in front.
            fill: What the other cells get.

        Returns:
            The field, ``(..., *shape)``.
        """
        return self.domain.embed(x, fill)

    def restrict(self, field: Tensor) -> Tensor:  # (..., *shape) -> (..., n)
        """Take the active cells out of a field on the grid.

        Args:
            field: A field, any batch in front.

        Returns:
            Vectors of the active cells, (..., n).
        """
        return self.domain.restrict(field)


def domain_of(
    where: str,
    grid: Grid | Domain,
    mask: Tensor | None,
    boundary: Boundary | None,
    device: torch.device | str | None,
) -> Domain:
    """Make a domain of what a problem was given.

    Args:
        where: Name of the public call, for messages.
        grid: A grid, or a whole domain.
        mask: True where the equation holds.
        boundary: What holds at the sides of the box; by default ``"dirichlet"``.
        device: Where it is.

    Raises:
        ValueError: If a domain is given together with a mask, a boundary or a device.
    """
    if not isinstance(grid, Domain):
        return Domain(
            grid, mask=mask, device=device, boundary="dirichlet" if boundary is None else boundary
        )
    for name, value in (("mask", mask), ("boundary", boundary), ("device", device)):
        if value is not None:
            raise ValueError(
                f"`{where}({name}=...)` must not be given with a domain, which has its own. "
                "(Give it to `Domain`.)"
            )
    return grid


def check_dtype(where: str, dtype: torch.dtype) -> None:
    """Check that numbers are to be of single or double precision.

    Args:
        where: Name of the public call, for messages.
        dtype: What was asked for.

    Raises:
        TypeError: If it is another dtype.
    """
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"`{where}(dtype=...)` must be float32 or float64. Got {dtype}.")


def coefficient_of(
    where: str, name: str, domain: Domain, value: Field, dtype: torch.dtype, *, zero: bool = False
) -> Tensor:  # (*shape)
    """Make the coefficient of the diffusion, without a batch.

    Args:
        where: Name of the public call, for messages.
        name: Name of the argument, for messages.
        domain: Where the equation holds.
        value: The coefficient, positive in the active cells.
        dtype: Of the numbers.
        zero: Whether zero is allowed.

    Raises:
        TypeError: If the dtype is not float32 or float64, or the value of another kind.
        ValueError: If the shape is not that of the grid, numbers are NaN or infinite, or one in an
            active cell is not positive.
    """
    check_dtype(where, dtype)
    k = domain.grid.field(value, dtype=dtype, device=domain.device, where=where, name=name)
    if k.shape != domain.grid.shape:
        raise ValueError(
            f"`{where}({name}=...)` must have the shape {domain.grid.shape} of the grid, without a "
            f"batch. Got {tuple(k.shape)}."
        )
    positive(where, name, k.detach(), domain.active, zero=zero)
    return k


def positive(where: str, name: str, field: Tensor, active: Tensor, *, zero: bool = False) -> None:
    """Check that a coefficient is positive in the active cells.

    Args:
        where: Name of the public call, for messages.
        name: Name of the argument, for messages.
        field: The coefficient, ``(*shape)``.
        active: Where it must be so.
        zero: Whether zero is allowed.

    Raises:
        ValueError: If it is not, with the number of cells and the first.
    """
    bad = active & ((field < 0) if zero else (field <= 0))
    if bool(bad.any()):
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"`{where}({name}=...)` must be {'at least zero' if zero else 'positive'} in active "
            f"cells. Got {int(bad.sum())} that are not, the first at {first}."
        )


def finished(
    where: str,
    operator: StencilOperator,
    load: Tensor,
    source: Field,
    exact: Field | None,
    project: bool,
) -> Problem:
    """Make the right side, and see that a singular operator can reach it.

    Args:
        where: Name of the public call, for messages.
        operator: The operator.
        load: What boundaries give, ``(..., *shape)``.
        source: The source.
        exact: The solution, where it is known.
        project: Whether to take what cannot be reached out of the right side.

    Returns:
        The problem.

    Raises:
        ValueError: If the operator is singular and cannot reach the right side.
    """
    domain = operator.domain
    kind = {"dtype": operator.dtype, "device": operator.device, "where": where}
    rhs = domain.restrict(load + domain.grid.field(source, name="source", **kind))  # type: ignore[arg-type]
    known = None
    if exact is not None:
        field = domain.grid.field(exact, name="exact", **kind)  # type: ignore[arg-type]
        known = operator.project(domain.restrict(field))
    turned = operator.transpose()
    basis = turned.nullspace
    if project or not len(basis):
        return Problem(operator, turned.project(rhs), known)
    out_of_reach = (rhs.detach() @ basis.mT).abs()
    limit = 1e3 * torch.finfo(operator.dtype).eps * torch.linalg.vector_norm(rhs.detach(), dim=-1)
    if bool((out_of_reach > limit[..., None]).any()):
        worst = int((out_of_reach / limit[..., None]).reshape(-1, len(basis)).amax(0).argmax())
        cells = basis[worst] != 0
        total = float((rhs.detach()[..., cells].sum(-1)).abs().max())
        raise ValueError(
            f"`{where}(source=...)` must sum to zero, together with what the boundary lets in, "
            "over every part of the mask where no value is held: the operator is singular there "
            f"(Neumann or periodic all around). Got a sum of {total:.3g} over {int(cells.sum())} "
            "cells. (Pass project=True to subtract the mean, or hold a value somewhere.)"
        )
    return Problem(operator, rhs, known)
