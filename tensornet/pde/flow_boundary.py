"""What a flow meets at the sides of a box: walls, inflow, outflow, the other end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensornet import _check
from tensornet.pde.boundary import read_pairs
from tensornet.pde.grid import Field, Grid

KINDS = ("wall", "slip", "outflow", "periodic")


@dataclass(frozen=True, eq=False)
class FlowSide:
    """What a flow meets at one side. Made by `moving_wall` and `inflow`, or said by a word.

    Args:
        kind: ``"wall"``, ``"slip"``, ``"inflow"``, ``"outflow"`` or ``"periodic"``.
        velocity: The velocity that is held, one component per axis; empty for zero, and where
            the kind holds none.

    Raises:
        ValueError: If the kind is unknown, or holds no velocity and one is given.
    """

    kind: str
    velocity: tuple[Field, ...] = ()

    def __post_init__(self) -> None:
        _check.one_of("FlowSide", (*KINDS, "inflow"), kind=self.kind)
        if self.velocity and self.kind not in ("wall", "inflow"):
            raise ValueError(
                f"`FlowSide(velocity=...)` must be empty for the kind {self.kind!r}. Got "
                f"{len(self.velocity)} components."
            )


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
    found = read_pairs(
        grid, boundary, where, FlowSide, lambda word, axis: _side(word, grid.dim, axis, where)
    )
    for axis, (low, _) in enumerate(found):
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
    return found


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
