"""Incompressible flow, ``du/dt + div(u u) = -grad p + viscosity Δu``, ``div u = 0``."""

from __future__ import annotations

import torch

from tensornet.pde.flow_boundary import FlowBoundary, flow_sides, positive_number, viscosity_of
from tensornet.pde.grid import Grid
from tensornet.pde.navier_stokes_vorticity import VorticityFlow


def navier_stokes_2d(
    grid: Grid,
    dt: float,
    *,
    viscosity: float | None = None,
    reynolds: float | None = None,
    boundary: FlowBoundary = "wall",
    theta: float = 1.0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> VorticityFlow:
    """Discretise flow in two dimensions by vorticity and stream function.

    The box is closed, with walls at rest or sliding along themselves, or doubly periodic. Advection
    is Arakawa's, which neither makes nor loses energy and enstrophy; diffusion is the five-point
    stencil, the vorticity on walls Thom's. All of second order in the spacing.

    Args:
        grid: The box; walls are at its sides.
        dt: Time step.
        viscosity: Kinematic viscosity. Give this or the next.
        reynolds: One over the viscosity, for speed and length one.
        boundary: ``"wall"``, `moving_wall` or ``"periodic"``; or per axis a pair, the lower side
            and the upper.
        theta: 1 for Euler's implicit step, 1/2 for the implicit midpoint rule.
        dtype: Of the states.
        device: Where they are.

    Returns:
        The flow.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If numbers are not positive and finite, theta is not above 0 and at most 1, the
            grid is too small, or the boundary makes no sense.

    References:
        Thom, Proc. R. Soc. A 141, 651 (1933); Arakawa, J. Comput. Phys. 1, 119 (1966).

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
    if not isinstance(grid, Grid):
        raise TypeError(f"`{where}(grid=...)` must be a `Grid`. Got {type(grid).__name__}.")
    if grid.dim != 2:
        raise ValueError(f"`{where}(grid=...)` must have 2 axes. Got {grid.dim}.")
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"`{where}(dtype=...)` must be float32 or float64. Got {dtype}.")
    positive_number(where, "dt", dt)
    positive_number(where, "theta", theta)
    if theta > 1:
        raise ValueError(f"`{where}(theta=...)` must be above 0 and at most 1. Got {theta}.")
    nu = viscosity_of(where, viscosity, reynolds)
    sides = flow_sides(grid, boundary, where)
    kinds = {side.kind for pair in sides for side in pair}
    if kinds not in ({"wall"}, {"periodic"}):
        raise ValueError(
            f"`{where}(boundary=...)` must be walls all around, or periodic all around, for the "
            f"stream function. Got {', '.join(sorted(kinds))}."
        )
    return VorticityFlow(grid, float(dt), nu, sides, float(theta), dtype, torch.device(device))
