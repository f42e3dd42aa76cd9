"""What a flow meets at the sides of a box: walls, inflow, outflow, the other end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tensornet import _check
from tensornet.pde.grid import Field, Grid

KINDS = ("wall", "slip", "outflow", "periodic")


@dataclass(frozen=True, eq=False)
class FlowSide:
    """What a flow meets at one side. Made by `moving_wall` and `inflow`, or said by a word.

    Args:
        kind: ``"wall"``, ``"slip"``, ``"inflow"``, ``"outflow"`` or ``"periodic"``.
        velocity: The velocity that is held, one component per axis; empty for zero.
    """

    kind: str
    velocity: tuple[Field, ...] = ()


FlowWord = str | FlowSide
FlowBoundary = FlowWord | Sequence[FlowWord | tuple[FlowWord, FlowWord]]
"""One word for all sides; or one per axis; or for an axis a pair, the lower side and the upper."""


def moving_wall(*velocity: Field) -> FlowSide:
    """Hold the velocity of a wall that slides along itself, as the lid of a cavity does.

    Args:
        velocity: One component per axis, that across the wall zero: numbers, or functions of the
            coordinates of the wall.

    Returns:
        The side.

    Examples:
        >>> moving_wall(1.0, 0.0).kind
        'wall'
    """
    return FlowSide("wall", velocity)


def inflow(*velocity: Field) -> FlowSide:
    """Hold the velocity at an open side; it may also point outwards.

    Args:
        velocity: One component per axis: numbers, or functions of the coordinates of the side.

    Returns:
        The side.

    Examples:
        >>> inflow(lambda x, y: 4 * y * (1 - y), 0.0).kind
        'inflow'
    """
    return FlowSide("inflow", velocity)


def flow_sides(
    grid: Grid, boundary: FlowBoundary, where: str
) -> tuple[tuple[FlowSide, FlowSide], ...]:
    """Read what a user said about the sides of a box.

    Args:
        grid: The grid.
        boundary: A word or a side; or per axis one of these, or a pair of them.
        where: Name of the public call, for messages.

    Returns:
        Per axis the lower and the upper side.

    Raises:
        TypeError: If it is something else.
        ValueError: If a word is unknown, entries are missing, a velocity has another number of
            components or crosses a wall, or one end of an axis only is periodic.
    """
    if not isinstance(boundary, str | FlowSide | Sequence):
        raise TypeError(
            f"`{where}(boundary=...)` must be a word, a side, or a sequence with one entry per "
            f"axis. Got {type(boundary).__name__}."
        )
    whole = isinstance(boundary, str | FlowSide)
    entries = [boundary] * grid.dim if whole else list(boundary)  # type: ignore[arg-type]
    if len(entries) != grid.dim:
        raise ValueError(
            f"`{where}(boundary=...)` must be one word, or one entry per axis ({grid.dim}). "
            f"Got {len(entries)}."
        )
    found = []
    for axis, entry in enumerate(entries):
        pair = (entry, entry) if isinstance(entry, str | FlowSide) else entry
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(
                f"`{where}(boundary=...)` must hold one word or a pair per axis. Got {entry!r} "
                f"along axis {axis}."
            )
        low, high = (_side(word, grid.dim, axis, where) for word in pair)
        if (low.kind == "periodic") != (high.kind == "periodic"):
            raise ValueError(
                f"`{where}(boundary=...)` must be periodic at both ends of an axis. Got "
                f"{low.kind!r} and {high.kind!r} along axis {axis}."
            )
        if low.kind == "outflow":
            raise ValueError(
                f"`{where}(boundary=...)` must have outflow at upper sides only. Got it at the "
                f"lower side of axis {axis}. (Mirror the axis.)"
            )
        if grid.shape[axis] < 4:
            raise ValueError(
                f"`{where}(grid=...)` must have at least 4 cells along every axis, or the stencil "
                f"meets itself. Got {grid.shape[axis]} along axis {axis}."
            )
        found.append((low, high))
    return tuple(found)


def _side(word: object, dim: int, axis: int, where: str) -> FlowSide:
    if isinstance(word, str):
        _check.one_of(where, KINDS, boundary=word)
        return FlowSide(word)
    if not isinstance(word, FlowSide):
        raise TypeError(
            f"`{where}(boundary=...)` must be made of words, `moving_wall(...)` and "
            f"`inflow(...)`. Got {type(word).__name__}."
        )
    if word.velocity and len(word.velocity) != dim:
        raise ValueError(
            f"`{where}(boundary=...)` must hold velocities of {dim} components. Got "
            f"{len(word.velocity)} along axis {axis}."
        )
    if word.kind == "wall" and word.velocity:
        across = word.velocity[axis]
        if not isinstance(across, int | float) or across != 0:
            raise ValueError(
                f"`{where}(boundary=...)` must hold walls that slide along themselves: component "
                f"{axis} across axis {axis} must be the number 0. Got {across!r}. (Use "
                "`inflow(...)` for a side that lets the flow through.)"
            )
    return word


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
