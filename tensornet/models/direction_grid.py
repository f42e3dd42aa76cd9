"""The grids of a direction network: cell types as numbers, stencils and transfers in torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from tensornet.pde import StencilOperator
from tensornet.pde.multigrid import Level, finest

_COARSEST = 128  # cells of a grid that is solved by a dense inverse
Pair = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor] | None]
"""What weight 0 along an axis multiplies, and what weight 1 does."""


@dataclass(frozen=True)
class Cells:
    """What a network sees of one grid; fields are ``(1, i, j, k)``, zero in inactive cells.

    A fluid cell inside the fluid has ``missing`` zero; solid neighbours make it the share of the
    neighbours that are missing, neighbours with a held value (air, Dirichlet) make ``held`` the
    share of the diagonal they tie to.

    Args:
        active: One in active cells.
        scale: One over the root of the diagonal of the matrix.
        missing: Share of the neighbours that are missing.
        held: What held values tie to, in shares of the diagonal inside the fluid.
        active_next: `active` of the next grid.
        by: How many cells are joined along each axis for the next grid.
        periodic: Per axis, whether its ends are neighbours.
    """

    active: Tensor
    scale: Tensor
    missing: Tensor
    held: Tensor
    active_next: Tensor
    by: tuple[int, ...]
    periodic: tuple[bool, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each of three axes."""
        return tuple(self.active.shape[1:])

    @property
    def held_share(self) -> Tensor:  # (1, i, j, k)
        """How many held values there are per missing neighbour."""
        return torch.where(self.missing > 1e-6, self.held / self.missing.clamp_min(1e-6), 0.0)


@dataclass(frozen=True)
class Hierarchy:
    """All grids of an operator.

    Args:
        grids: From the finest on.
        inverse: Of the coarsest matrix, ``(cells, cells)``.
        shape: Of the coarsest grid.
        unit: What the operator is divided by, so that single precision can hold it.
    """

    grids: tuple[Cells, ...]
    inverse: Tensor
    shape: tuple[int, ...]
    unit: float


def hierarchy(A: StencilOperator, dtype: torch.dtype) -> Hierarchy:
    """Join cells until few are left, and note the cell types of every grid.

    Args:
        A: A symmetric operator.
        dtype: Of the fields.
    """
    unit, grids = float(A.diagonal().detach().max()), list[Cells]()
    level = _cast(finest(A), dtype, unit)
    faces, held, diagonal = _sums(level)
    while prod(level.shape) > _COARSEST and max(level.factors()) > 1:
        by, around = level.factors(), level.periodic
        level = level.coarser(by)
        after = _sums(level)
        inside = float(faces.max()) or 1.0
        active = (diagonal > 0).to(dtype)[None]
        tiny = torch.finfo(dtype).tiny
        grids.append(
            Cells(
                active=active,
                scale=active * diagonal.clamp_min(tiny).rsqrt(),
                missing=active * (1 - faces / inside),
                held=active * (held / inside),
                active_next=(after[2] > 0).to(dtype)[None],
                by=by,
                periodic=around,
            )
        )
        faces, held, diagonal = after
    inverse = _cast(level, torch.float64).inverse().to(dtype)
    return Hierarchy(tuple(grids), inverse, level.shape, unit)


def _cast(level: Level, dtype: torch.dtype, unit: float = 1.0) -> Level:
    return replace(
        level,
        faces=tuple((face / unit).to(dtype) for face in level.faces),
        ties=tuple((tie / unit).to(dtype) for tie in level.ties),
        reaction=(level.reaction / unit).to(dtype),
    )


def _sums(level: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Of the faces of each cell, of what held values tie it to, and the diagonal."""
    faces, held = torch.zeros_like(level.reaction), torch.zeros_like(level.reaction)
    for axis, (face, tie) in enumerate(zip(level.faces, level.ties, strict=True)):
        if level.shape[axis] > 1:
            faces += face
            faces += face.roll(1, axis)
        held += tie
    return faces, held, faces + held + level.reaction


def combined(x: Tensor, weights: Tensor, pairs: tuple[Pair, ...]) -> Tensor:
    """Sum over all words of own and neighbour along three axes, each with a weight.

    Args:
        x: Fields ``(b, i, j, k)``.
        weights: ``(2, 2, 2)``, size 1 along axes without neighbours.
        pairs: Per axis the two maps.
    """

    def along(axis: int, parts: list[Tensor]) -> Tensor:
        own, other = pairs[axis]
        found = own(parts[0])
        return found if other is None or len(parts) == 1 else found + other(parts[1])

    own, other = pairs[2]
    first = own(x)
    second = None if other is None or weights.shape[2] == 1 else other(x)
    slabs = []
    for slab in weights:
        rows = [row[0] * first for row in slab]
        if second is not None:
            rows = [found + row[1] * second for found, row in zip(rows, slab, strict=True)]
        slabs.append(along(1, rows))
    return along(0, slabs)


def neighbours(cells: Cells) -> tuple[Pair, ...]:
    """For `combined`: a cell, and the two beside it along an axis."""

    def beside(axis: int) -> Callable[[Tensor], Tensor]:
        around = cells.periodic[axis - 1]
        return lambda x: _moved(x, axis, 1, around) + _moved(x, axis, -1, around)

    return tuple((_same, beside(axis)) for axis in (1, 2, 3))


def prolongation(cells: Cells) -> tuple[Pair, ...]:
    """For `combined`: the parent of a cell, and the neighbour of the parent that is nearer."""

    def pair(axis: int) -> Pair:
        n, around = cells.shape[axis - 1], cells.periodic[axis - 1]
        if cells.by[axis - 1] == 1:
            return _same, None

        def nearer(x: Tensor) -> Tensor:
            ends = [_moved(x, axis, step, around) for step in (1, -1)]
            return torch.stack(ends, axis + 1).flatten(axis, axis + 1).narrow(axis, 0, n)

        return lambda x: x.repeat_interleave(2, axis).narrow(axis, 0, n), nearer

    return tuple(pair(axis) for axis in (1, 2, 3))


def restriction(cells: Cells) -> tuple[Pair, ...]:
    """For `combined`: the transpose of `prolongation`."""

    def pair(axis: int) -> Pair:
        around = cells.periodic[axis - 1]
        if cells.by[axis - 1] == 1:
            return _same, None

        def halves(x: Tensor) -> tuple[Tensor, Tensor]:
            if x.shape[axis] % 2:
                x = pad(x, [0, 0] * (3 - axis) + [0, 1])
            low, high = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
            return low, high

        def nearer(x: Tensor) -> Tensor:
            low, high = halves(x)
            return _moved(low, axis, -1, around) + _moved(high, axis, 1, around)

        def own(x: Tensor) -> Tensor:
            low, high = halves(x)
            return low + high

        return own, nearer

    return tuple(pair(axis) for axis in (1, 2, 3))


def _same(x: Tensor) -> Tensor:
    return x


def _moved(x: Tensor, axis: int, step: int, around: bool) -> Tensor:
    """Fields moved by one place, zeros coming in, or what leaves at the other end."""
    if around:
        return x.roll(step, axis)
    n, before = x.shape[axis] - 1, [0, 0] * (3 - axis)
    if step > 0:
        return pad(x.narrow(axis, 0, n), [*before, 1, 0])
    return pad(x.narrow(axis, 1, n), [*before, 0, 1])
