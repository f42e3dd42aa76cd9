"""What is given of a flow: where, how viscous, what is at the sides, in what steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tensornet.pde.flow_boundary import FlowBoundary, FlowSide, flow_sides
from tensornet.pde.grid import Grid, device_of
from tensornet.pde.problem import check_dtype


@dataclass(frozen=True, eq=False)
class FlowCase:
    """What is to be discretised, and in what steps. `navier_stokes_2d` makes it of what users say.

    Args:
        grid: The grid.
        dt: Time step.
        viscosity: Kinematic viscosity.
        sides: What the flow meets, per axis the lower and the upper side.
        theta: Where between the two states of a step the equation is taken.
        dtype: Of the states.
        device: Where they are.
    """

    grid: Grid
    dt: float
    viscosity: float
    sides: tuple[tuple[FlowSide, FlowSide], ...]
    theta: float
    dtype: torch.dtype
    device: torch.device


def read_case(
    where: str, dim: int, grid: Grid, dt: float, viscosity: float | None, reynolds: float | None,
    boundary: FlowBoundary, theta: float, dtype: torch.dtype, device: torch.device | str,
) -> FlowCase:  # fmt: skip
    """Read what a user said of a flow.

    Args:
        where: Name of the public call, for messages.
        dim: How many axes there must be.
        grid: The box.
        dt: Time step.
        viscosity: Kinematic viscosity, or None.
        reynolds: Its inverse, or None.
        boundary: What is at the sides.
        theta: Above 0, at most 1.
        dtype: Of the states.
        device: Where they are.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If numbers are not positive and finite, theta is above 1, the grid has another
            number of axes or is too small, or the boundary makes no sense.
    """
    if not isinstance(grid, Grid):
        raise TypeError(f"`{where}(grid=...)` must be a `Grid`. Got {type(grid).__name__}.")
    if grid.dim != dim:
        raise ValueError(f"`{where}(grid=...)` must have {dim} axes. Got {grid.dim}.")
    check_dtype(where, dtype)
    positive_number(where, "dt", dt)
    positive_number(where, "theta", theta)
    if theta > 1:
        raise ValueError(f"`{where}(theta=...)` must be above 0 and at most 1. Got {theta}.")
    nu = viscosity_of(where, viscosity, reynolds)
    sides = flow_sides(grid, boundary, where)
    return FlowCase(grid, float(dt), nu, sides, float(theta), dtype, device_of(device))


def viscosity_of(where: str, viscosity: float | None, reynolds: float | None) -> float:
    """Read the viscosity, of which exactly one of two names is given.

    Args:
        where: Name of the public call, for messages.
        viscosity: Kinematic viscosity.
        reynolds: Its inverse, for speed and length one.

    Raises:
        TypeError: If it is no number.
        ValueError: If both or none are given, or the value is not positive and finite.
    """
    if (viscosity is None) == (reynolds is None):
        raise ValueError(
            f"`{where}(...)` must be given either the viscosity or the Reynolds number. "
            f"Got {'none of them' if viscosity is None else 'both'}."
        )
    name, value = ("viscosity", viscosity) if reynolds is None else ("reynolds", reynolds)
    positive_number(where, name, value)
    assert value is not None
    return float(value) if reynolds is None else 1 / float(value)


def positive_number(where: str, name: str, value: object) -> None:
    """Check that an argument is a positive, finite number.

    Args:
        where: Name of the public call, for messages.
        name: Name of the argument, for messages.
        value: The argument.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not positive and finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{where}({name}=...)` must be a number. Got {value!r}.")
    if not 0 < value < math.inf:
        raise ValueError(f"`{where}({name}=...)` must be positive and finite. Got {value}.")
