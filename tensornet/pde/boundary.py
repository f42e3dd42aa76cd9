"""Boundaries: what is held at the walls of a box, of obstacles, and at free surfaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from tensornet import _check
from tensornet.pde.grid import Field, Grid

KINDS = ("dirichlet", "neumann", "periodic")
PLACES = ("face", "center")


@dataclass(frozen=True, eq=False)
class Side:
    """What holds at one side. Made by `dirichlet`, `neumann` and `PERIODIC`.

    Args:
        kind: ``"dirichlet"``, ``"neumann"`` or ``"periodic"``.
        value: The value that is held, or the flux.
        at: Where a value is held: at the ``"face"``, or at the ``"center"`` of the cell behind it.

    Raises:
        ValueError: If a word is unknown.
    """

    kind: str
    value: Field = 0.0
    at: str = "face"

    def __post_init__(self) -> None:
        _check.one_of("Side", KINDS, kind=self.kind)
        _check.one_of("Side", PLACES, at=self.at)

    @property
    def weight(self) -> float:
        """What a held value is coupled with, in coefficients over spacing squared."""
        if self.kind != "dirichlet":
            return 0.0
        return 2.0 if self.at == "face" else 1.0

    @property
    def distance(self) -> float:
        """From the centre of a cell to where this holds, in spacings."""
        return 1.0 if self.at == "center" else 0.5


PERIODIC = Side("periodic")
Word = str | Side
Boundary = Word | Sequence[Word | tuple[Word, Word]]
"""One word for all sides; or one per axis; or for an axis a pair, the lower side and the upper."""


def dirichlet(value: Field = 0.0, *, at: str = "face") -> Side:
    """Hold a value at a side.

    Held at the face, half a spacing from the last unknown, the ghost value behind it follows by
    reflection and the side couples with ``2 coefficient / spacing²``. Held at the centre of the
    cell behind the face, a whole spacing away, it couples with ``coefficient / spacing²``: this is
    the grid of nodes of textbooks (n nodes inside, ``spacing = 1 / (n + 1)``, ``origin =
    spacing / 2``), and what pressure solvers hold in the air above water.

    Args:
        value: A number, a tensor, or a function of the coordinates of where it is held. At a side
            of the box the tensor has the shape of the grid less the axis across; at cells outside
            the mask that of the grid.
        at: ``"face"`` or ``"center"``.

    Returns:
        The side.

    Raises:
        ValueError: If `at` is another word.

    Examples:
        >>> dirichlet(1.0).kind
        'dirichlet'
    """
    _check.one_of("dirichlet", PLACES, at=at)
    return Side("dirichlet", value, at)


def neumann(flux: Field = 0.0) -> Side:
    """Let a flux in at a side: coefficient times the derivative along the outward normal.

    Args:
        flux: A number, a tensor, or a function of the coordinates at the faces. At a side of the
            box the tensor has the shape of the grid less the axis across; at cells outside the
            mask that of the grid. Positive flux lets the unknown in.

    Returns:
        The side.

    Examples:
        >>> neumann(0.5).value
        0.5
    """
    return Side("neumann", flux)


def sides(grid: Grid, boundary: Boundary, where: str) -> tuple[tuple[Side, Side], ...]:
    """Read what a user said about the sides of a box.

    Args:
        grid: The grid.
        boundary: A word or a side; or a sequence with, per axis, one of these or a pair of them.
        where: Name of the public call, for messages.

    Returns:
        Per axis the lower and the upper side.

    Raises:
        TypeError: If it is something else.
        ValueError: If a word is unknown, axes are missing, one side only is periodic, or a
            periodic axis has fewer than three cells.
    """
    found = read_pairs(grid, boundary, where, Side, lambda word, _: side(word, where, "boundary"))
    for axis, (low, _) in enumerate(found):
        if low.kind == "periodic" and grid.shape[axis] < 3:
            raise ValueError(
                f"`{where}(grid=...)` must have at least 3 cells along a periodic axis, or the "
                f"stencil meets itself. Got {grid.shape[axis]} along axis {axis}."
            )
    return found


class _Kind(Protocol):
    @property
    def kind(self) -> str: ...


S = TypeVar("S", bound=_Kind)


def read_pairs(
    grid: Grid, boundary: object, where: str, sort: type[S], read: Callable[[object, int], S]
) -> tuple[tuple[S, S], ...]:
    """Read a pair of sides per axis, of whatever sort.

    Args:
        grid: The grid.
        boundary: A word or a side; or a sequence with, per axis, one of these or a pair of them.
        where: Name of the public call, for messages.
        sort: Class of a side.
        read: Makes a side of a word or a side, and the number of the axis.

    Returns:
        Per axis the lower and the upper side.

    Raises:
        TypeError: If it is something else.
        ValueError: If axes are missing, or one side only is periodic.
    """
    one, said = (str, sort), boundary
    if not isinstance(said, (*one, Sequence)):
        raise TypeError(
            f"`{where}(boundary=...)` must be a word, a side, or a sequence with one entry per "
            f"axis. Got {type(boundary).__name__}."
        )
    per_axis = [said] * grid.dim if isinstance(said, one) else list(cast(Sequence[Any], said))
    if len(per_axis) != grid.dim:
        raise ValueError(
            f"`{where}(boundary=...)` must be one word, or one entry per axis ({grid.dim}). "
            f"Got {len(per_axis)}."
        )
    found = []
    for axis, entry in enumerate(per_axis):
        pair = (entry, entry) if isinstance(entry, one) else entry
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(
                f"`{where}(boundary=...)` must hold one word or a pair per axis. Got {entry!r} "
                f"along axis {axis}."
            )
        low, high = (read(word, axis) for word in pair)
        if (low.kind == "periodic") != (high.kind == "periodic"):
            raise ValueError(
                f"`{where}(boundary=...)` must be periodic at both ends of an axis. Got "
                f"{low.kind!r} and {high.kind!r} along axis {axis}."
            )
        found.append((low, high))
    return tuple(found)


def side(word: object, where: str, name: str) -> Side:
    """Read one side.

    Args:
        word: ``"dirichlet"``, ``"neumann"``, ``"periodic"`` or a side.
        where: Name of the public call, for messages.
        name: Name of its argument, for messages.

    Returns:
        The side.

    Raises:
        TypeError: If it is neither a word nor a side.
        ValueError: If the word is unknown.
    """
    if isinstance(word, Side):
        return word
    if not isinstance(word, str):
        raise TypeError(
            f"`{where}({name}=...)` must be made of words, `dirichlet(...)` and `neumann(...)`. "
            f"Got {type(word).__name__}."
        )
    _check.one_of(where, KINDS, **{name: word})
    return Side(word)
