"""Incompressible flow, ``du/dt + div(u u) = -grad p + viscosity Δu``, ``div u = 0``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor

from tensornet import _check
from tensornet.pde.flow_boundary import FlowBoundary
from tensornet.pde.flow_case import read_case
from tensornet.pde.grid import Field, Grid
from tensornet.pde.navier_stokes_velocity import VelocityFlow
from tensornet.pde.navier_stokes_vorticity import VorticityFlow


@overload
def navier_stokes_2d(
    grid: Grid,
    dt: float,
    *,
    viscosity: float | None = ...,
    reynolds: float | None = ...,
    boundary: FlowBoundary = ...,
    formulation: Literal["vorticity"] = ...,
    theta: float = ...,
    dtype: torch.dtype = ...,
    device: torch.device | str = ...,
) -> VorticityFlow: ...


@overload
def navier_stokes_2d(
    grid: Grid,
    dt: float,
    *,
    formulation: Literal["velocity"],
    viscosity: float | None = ...,
    reynolds: float | None = ...,
    boundary: FlowBoundary = ...,
    mask: Tensor | None = ...,
    force: Sequence[Field] | None = ...,
    theta: float = ...,
    dtype: torch.dtype = ...,
    device: torch.device | str = ...,
) -> VelocityFlow: ...


def navier_stokes_2d(
    grid: Grid,
    dt: float,
    *,
    viscosity: float | None = None,
    reynolds: float | None = None,
    boundary: FlowBoundary = "wall",
    formulation: str = "vorticity",
    mask: Tensor | None = None,  # (nx, ny) bool
    force: Sequence[Field] | None = None,
    theta: float = 1.0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> VorticityFlow | VelocityFlow:
    """Discretise incompressible flow in two dimensions.

    ``formulation="vorticity"``: the state is the stream function at the corners of cells. The box
    is closed, with walls at rest or sliding along themselves, or doubly periodic. Advection neither
    makes nor loses energy, in a periodic box (Arakawa's) nor enstrophy; the vorticity on walls is
    Thom's.

    ``formulation="velocity"``: the state is the velocity at faces and the pressure at centres, the
    staggered grid of Harlow and Welch, whose advection neither makes nor loses energy. There may be
    obstacles, and every side may be another. At ``"outflow"``, an upper side, the pressure is zero
    and the velocity does not change across it.

    Both are of second order in the spacing where the mask has no staircases.

    Args:
        grid: The box; walls are at its sides.
        dt: Time step.
        viscosity: Kinematic viscosity. Give this or the next.
        reynolds: One over the viscosity, for speed and length one.
        boundary: ``"wall"``, `moving_wall`, ``"periodic"``, and with velocities `inflow`,
            ``"outflow"``, ``"slip"``: one for all sides, or one per axis, or for an axis a pair,
            the lower side and the upper.
        formulation: ``"vorticity"`` or ``"velocity"``.
        mask: True where there is fluid, with velocities only; elsewhere are obstacles at rest.
        force: Force per mass, one component per axis, with velocities only.
        theta: 1 for Euler's implicit step, 1/2 for the implicit midpoint rule.
        dtype: Of the states.
        device: Where they are.

    Returns:
        The flow.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If numbers are not positive and finite, theta is not above 0 and at most 1, the
            grid is too small, the mask is empty or has isolated cells, or the boundary makes no
            sense: more flows in than out, or the formulation does not have it.

    References:
        Thom, Proc. R. Soc. A 141, 651 (1933); Arakawa, J. Comput. Phys. 1, 119 (1966); Harlow &
        Welch, Phys. Fluids 8, 2182 (1965).

    Examples:
        >>> from tensornet.pde import moving_wall
        >>> lid = ("wall", ("wall", moving_wall(1.0, 0.0)))
        >>> grid = Grid((16, 16), spacing=1 / 16)
        >>> cavity = navier_stokes_2d(grid, 0.1, reynolds=100, boundary=lid)
        >>> rest = torch.zeros(cavity.state_shape, dtype=torch.float64)
        >>> cavity.residual(rest, rest).shape
        torch.Size([15, 15])
    """
    where = "navier_stokes_2d"
    _check.one_of(where, ("vorticity", "velocity"), formulation=formulation)
    case = read_case(where, 2, grid, dt, viscosity, reynolds, boundary, theta, dtype, device)
    if formulation == "velocity":
        return VelocityFlow(case, mask=_mask(where, mask), force=force, where=where)
    for name, value in (("mask", mask), ("force", force)):
        if value is not None:
            raise ValueError(
                f"`{where}({name}=...)` must not be given for the stream function. (Pass "
                "formulation='velocity'.)"
            )
    kinds = {side.kind for pair in case.sides for side in pair}
    if kinds not in ({"wall"}, {"periodic"}):
        raise ValueError(
            f"`{where}(boundary=...)` must be walls all around, or periodic all around, for the "
            f"stream function. Got {', '.join(sorted(kinds))}. (Pass formulation='velocity'.)"
        )
    return VorticityFlow(case)


def navier_stokes_3d(
    grid: Grid,
    dt: float,
    *,
    viscosity: float | None = None,
    reynolds: float | None = None,
    boundary: FlowBoundary = "wall",
    mask: Tensor | None = None,  # (nx, ny, nz) bool
    force: Sequence[Field] | None = None,
    theta: float = 1.0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> VelocityFlow:
    """Discretise incompressible flow in three dimensions, by velocity and pressure.

    Args:
        grid: The box; walls are at its sides.
        dt: Time step.
        viscosity: Kinematic viscosity. Give this or the next.
        reynolds: One over the viscosity, for speed and length one.
        boundary: As in `navier_stokes_2d` with velocities.
        mask: True where there is fluid; elsewhere are obstacles at rest.
        force: Force per mass, one component per axis.
        theta: 1 for Euler's implicit step, 1/2 for the implicit midpoint rule.
        dtype: Of the states.
        device: Where they are.

    Returns:
        The flow.

    Raises:
        TypeError: As `navier_stokes_2d`.
        ValueError: As `navier_stokes_2d`.

    References:
        Harlow & Welch, Phys. Fluids 8, 2182 (1965).

    Examples:
        >>> grid = Grid((8, 8, 8), spacing=1 / 8)
        >>> flow = navier_stokes_3d(grid, 0.1, viscosity=0.01, boundary="periodic")
        >>> flow.state_shape
        (4, 8, 8, 8)
    """
    where = "navier_stokes_3d"
    case = read_case(where, 3, grid, dt, viscosity, reynolds, boundary, theta, dtype, device)
    return VelocityFlow(case, mask=_mask(where, mask), force=force, where=where)


def _mask(where: str, mask: Tensor | None) -> Tensor | None:
    if mask is not None and not isinstance(mask, Tensor):
        raise TypeError(
            f"`{where}(mask=...)` must be a tensor of torch.bool. Got {type(mask).__name__}."
        )
    return mask
