"""Grids of a geometric multigrid: weights of faces, and what they become when cells are joined."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from tensornet.pde.operator import StencilOperator, check_symmetric, check_weights

_ALIKE = 1.5  # largest ratio of spacings that are coarsened together


@dataclass(frozen=True)
class Level:
    """One grid: weights of faces, what ties cells to held values, reactions.

    Args:
        faces: Per axis, weights of a cell and the next, ``(i, j, k)``.
        ties: Per axis, what cells are tied to values held across it, ``(i, j, k)``.
        reaction: What each cell is tied to in itself, ``(i, j, k)``.
        spacing: Width of the cells.
        periodic: Per axis, whether its ends are neighbours.
        varies: Whether the coefficient does, so that a joined cell stands for its stiffest part.
    """

    faces: tuple[Tensor, ...]
    ties: tuple[Tensor, ...]
    reaction: Tensor
    spacing: tuple[float, ...]
    periodic: tuple[bool, ...]
    varies: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each of three axes."""
        return tuple(self.reaction.shape)

    @property
    def diagonal(self) -> Tensor:  # (i, j, k)
        """The diagonal of the matrix, zero where no cell is active."""
        total = self.reaction + sum(self.ties)
        for axis, face in enumerate(self.faces):
            total = total + face + face.roll(1, axis)
        return total

    @property
    def two_coloured(self) -> bool:
        """Whether cells of a colour are never neighbours: no ring has an odd size."""
        return not any(p and n % 2 for p, n in zip(self.periodic, self.shape, strict=True))

    def factors(self) -> tuple[int, ...]:
        """How many cells are joined along each axis for the next grid."""
        open_axes = [a for a, n in enumerate(self.shape) if n >= 4]
        least = min((self.spacing[a] for a in open_axes), default=0.0)
        return tuple(
            2 if a in open_axes and self.spacing[a] <= _ALIKE * least else 1 for a in range(3)
        )

    def coarser(self, by: tuple[int, ...]) -> Level:
        """Join cells: areas and volumes are summed, distances across joined cells double.

        Args:
            by: How many cells are joined along each axis, one or two.

        Returns:
            The next grid.
        """
        faces, ties = [], []
        for axis, (face, tie) in enumerate(zip(self.faces, self.ties, strict=True)):
            if by[axis] == 2:
                face, tie = _lengthened(face, tie, axis, self.varies)
            across = tuple(1 if a == axis else n for a, n in enumerate(by))
            faces.append(_summed(face, across))
            ties.append(_summed(tie, across))
        return Level(
            tuple(faces),
            tuple(ties),
            _summed(self.reaction, by),
            tuple(h * n for h, n in zip(self.spacing, by, strict=True)),
            self.periodic,
            self.varies,
        )

    def shares(self, by: tuple[int, ...]) -> tuple[Tensor, ...]:  # each (i, j, k)
        """What cells take of the joined neighbours nearest to them, in the interpolation.

        Each is weighted by the way there, the own joined cell by the faces inside it, so that a
        cell follows what it is tied to strongly; for a constant coefficient it is linear.

        Args:
            by: How many cells are joined along each axis.
        """
        axes = [a for a in range(3) if by[a] == 2]
        ways, own = [], torch.zeros_like(self.reaction)
        for axis, face in enumerate(self.faces):
            if axis not in axes:
                ways.append(torch.zeros_like(face))
                continue
            n = face.shape[axis]
            inner, outer = _paired(face, axis)
            if n % 2:  # the last cell is alone, as if beside its image
                last = (slice(None),) * axis + (slice(-1, None),)
                inner = inner.clone()
                inner[last] = outer.roll(1, axis)[last]
            below = outer.roll(1, axis)
            halves = _half(inner.roll(1, axis), below), _half(inner.roll(-1, axis), outer)
            to = [w / (1 + w * r) for w, r in zip((below, outer), halves, strict=True)]
            ways.append(torch.stack(to, axis + 1).flatten(axis, axis + 1).narrow(axis, 0, n))
            own = own + _doubled(inner, axis, n)
        total = own * (2 * (4 - len(axes)) / (3 * len(axes))) + sum(ways)
        return tuple(torch.where(total > 0, way / total, 0.0) for way in ways)

    def inverse(self) -> Tensor:  # (cells, cells)
        """Dense inverse, of what is not singular, symmetric."""
        n = prod(self.shape)
        matrix = torch.diag(self.diagonal.flatten())
        number = torch.arange(n).reshape(self.shape)
        for axis, face in enumerate(self.faces):
            pair = number.flatten(), number.roll(-1, axis).flatten()
            for rows, columns in (pair, pair[::-1]):
                matrix.index_put_((rows, columns), -face.flatten(), accumulate=True)
        values, vectors = torch.linalg.eigh(matrix)
        floor = 1e-12 * values[-1]
        found = torch.where(values > floor, 1 / values.clamp_min(floor), 0.0)
        result: Tensor = (vectors * found) @ vectors.mT
        return result


def _paired(face: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Faces inside pairs along an axis, and those between each pair and the next."""
    inner, outer = (face[(slice(None),) * axis + (slice(k, None, 2),)] for k in (0, 1))
    if face.shape[axis] % 2:
        last = inner.narrow(axis, -1 % inner.shape[axis], 1)
        outer = torch.cat([outer, last], axis)
        inner = torch.cat([inner.narrow(axis, 0, inner.shape[axis] - 1), 0 * last], axis)
    return inner, outer


def _half(inner: Tensor, outer: Tensor, stiffest: bool = True) -> Tensor:
    """Resistance of half of the way through a pair: to its middle, or to its stiffest cell."""
    way = torch.maximum(inner, outer) if stiffest else inner
    return torch.where(inner > 0, 0.5 / way, 0.0)


def _lengthened(face: Tensor, tie: Tensor, axis: int, varies: bool) -> tuple[Tensor, Tensor]:
    """Join pairs along an axis: half of the way through a pair comes in series on either side."""
    inner, outer = _paired(face, axis)
    total = _half(inner, outer, varies) + _half(inner.roll(-1, axis), outer, varies)
    pairs = _doubled(inner, axis, face.shape[axis])
    tied = tie / (1 + tie * _half(pairs, tie, varies))
    by = tuple(1 + (a == axis) for a in range(3))
    return outer / (1 + outer * total), _summed(tied, by)


def _doubled(x: Tensor, axis: int, n: int) -> Tensor:
    """What pairs have, for each of the n cells they are made of."""
    return x.repeat_interleave(2, axis).narrow(axis, 0, n)


def _summed(x: Tensor, by: tuple[int, ...]) -> Tensor:
    """Sum over the cells that are joined."""
    for axis, factor in enumerate(by):
        if factor == 2:
            if x.shape[axis] % 2:
                x = pad(x, [0, 0] * (2 - axis) + [0, 1] + [0, 0] * axis)
            x = x.unflatten(axis, (-1, 2)).sum(axis + 1)
    return x


def finest(A: StencilOperator) -> Level:
    """Part an operator into faces, ties and reactions, on three axes.

    Args:
        A: A symmetric operator.

    Returns:
        The finest grid, in float64 and without derivatives; missing axes come first, with one cell.
    """
    domain, k = A.domain, A.coefficient
    grid, missing = domain.grid, 3 - domain.grid.dim
    shape = (1,) * missing + grid.shape
    k = k.detach().double() if isinstance(k, Tensor) else k
    none = torch.zeros(shape, dtype=torch.float64)
    ties = []
    for axis, h in enumerate(grid.spacing):
        held = sum(domain.held(axis, step) for step in (-1, 1))
        tie = torch.where(domain.active, held * k / h**2, 0.0)
        ties.append(tie.reshape(shape))
    anchor = A.anchor.detach().double().reshape(shape)
    rest = anchor - sum(ties)
    rest = torch.where(rest > 32 * torch.finfo(A.dtype).eps * anchor, rest, 0.0)
    faces = [f.detach().double().reshape(shape) for f in A.faces()]
    longest = max(grid.spacing)
    return Level(
        (none,) * missing + tuple(faces),
        (none,) * missing + tuple(ties),
        rest,
        (longest,) * missing + grid.spacing,
        (False,) * missing + domain.periodic,
        A.kind != "lines",
    )


def check_operator(where: str, A: StencilOperator) -> None:
    """Check that an operator can be preconditioned by sweeps on the CPU.

    Args:
        where: Name of the public call, for messages.
        A: The operator.

    Raises:
        TypeError: If it is no operator of `pde`.
        ValueError: If it is not symmetric, not on the CPU, or has weights below zero or a diagonal
            that is not positive.
    """
    check_symmetric(where, A)
    if A.device.type != "cpu":
        raise ValueError(
            f"`{where}(A=...)` must be on the CPU. Got {A.device}. (Take `box_preconditioner`.)"
        )
    check_weights(where, A)
