"""Geometric multigrid on masks, as a preconditioner."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tensornet import _check
from tensornet.kernels import _bridge
from tensornet.pde.operator import LinearOperator, StencilOperator

_COARSEST = 128  # cells of a grid that is solved by a dense inverse
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
    """

    faces: tuple[Tensor, ...]
    ties: tuple[Tensor, ...]
    reaction: Tensor
    spacing: tuple[float, ...]
    periodic: tuple[bool, ...]

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
        """Join cells: areas and volumes are summed, distances across joined cells double."""
        faces, ties = [], []
        for axis, (face, tie) in enumerate(zip(self.faces, self.ties, strict=True)):
            if by[axis] == 2:
                face, tie = _lengthened(face, tie, axis)
            across = tuple(1 if a == axis else n for a, n in enumerate(by))
            faces.append(_summed(face, across))
            ties.append(_summed(tie, across))
        return Level(
            tuple(faces),
            tuple(ties),
            _summed(self.reaction, by),
            tuple(h * n for h, n in zip(self.spacing, by, strict=True)),
            self.periodic,
        )

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


def _lengthened(face: Tensor, tie: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Join pairs along an axis: half of the way through a pair comes in series on either side."""
    n = face.shape[axis]
    inner, outer = (face[(slice(None),) * axis + (slice(k, None, 2),)] for k in (0, 1))
    if n % 2:
        last = inner.narrow(axis, -1 % inner.shape[axis], 1)
        outer = torch.cat([outer, last], axis)
        inner = torch.cat([inner.narrow(axis, 0, inner.shape[axis] - 1), 0 * last], axis)
    half = torch.where(inner > 0, 0.5 / inner, 0.0)
    total = half + half.roll(-1, axis)
    found = outer / (1 + outer * total)
    pairs = half.repeat_interleave(2, axis).narrow(axis, 0, n)
    return found, _summed(tie / (1 + tie * pairs), tuple(1 + (a == axis) for a in range(3)))


def _summed(x: Tensor, by: tuple[int, ...]) -> Tensor:
    """Sum over the cells that are joined."""
    for axis, factor in enumerate(by):
        if factor == 2:
            if x.shape[axis] % 2:
                x = pad(x, [0, 0] * (2 - axis) + [0, 1] + [0, 0] * axis)
            x = x.unflatten(axis, (-1, 2)).sum(axis + 1)
    return x


def finest(A: StencilOperator) -> Level:
    """Part an operator into faces, ties and reactions, on three axes."""
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
    )


class Multigrid(LinearOperator):
    """One cycle of multigrid from zero. See `multigrid`.

    Attributes:
        shapes: Of the grids, finest first.
    """

    symmetric = True

    def __init__(self, A: StencilOperator, smoothing: int, precision: torch.dtype) -> None:
        self.domain, self.shape = A.domain, A.shape
        self.dtype, self.device = A.dtype, A.device
        self._precision, self._smoothing = precision, smoothing
        level = finest(A)
        self.shapes: list[tuple[int, ...]] = []
        self._grids: list[_Grid] = []
        while True:
            by = level.factors()
            self.shapes.append(level.shape)
            if prod(level.shape) <= _COARSEST or max(by) == 1:
                break
            lines = A.weights if not self._grids and A.kind == "lines" else None
            self._grids.append(_Grid(level, by, precision, lines))
            level = level.coarser(by)
            self._grids[-1].toward(level)
        self._inverse = level.inverse().to(precision)

    @property
    def n_bytes(self) -> int:
        """Memory of all grids, vectors apart."""
        arrays = [a for grid in self._grids for a in (*grid.fields, *grid.shares)]
        return int(sum(a.nbytes for a in arrays)) + self._inverse.nbytes

    def _apply(self, x: Tensor) -> Tensor:
        found: Tensor = _Cycle.apply(self, x)  # type: ignore[no-untyped-call]
        return found

    def run(self, x: Tensor) -> Tensor:  # (b, n) -> (b, n)
        """Run the cycle, without derivatives.

        Args:
            x: Right-hand sides.
        """
        field = self.domain.embed(x).to(self._precision)
        found = self._cycle(0, field.reshape(len(x), self.domain.grid.n_cells).contiguous())
        return self.domain.restrict(found.reshape(field.shape)).to(self.dtype)

    def _cycle(self, depth: int, b: Tensor) -> Tensor:  # (b, cells) -> (b, cells)
        if depth == len(self._grids):
            return b @ self._inverse
        grid = self._grids[depth]
        x = grid.smooth(b, self._smoothing)
        grid.prolong(x, self._cycle(depth + 1, grid.restrict(x, b)))
        return grid.smooth_back(x, b, self._smoothing)


class _Cycle(torch.autograd.Function):
    """A symmetric map is its own derivative."""

    @staticmethod
    def forward(context: Any, M: Multigrid, x: Tensor) -> Tensor:
        context.M = M
        return M.run(x)

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> Any:
        return None, _Cycle.apply(context.M, grads[0])  # type: ignore[no-untyped-call]


class _Grid:
    """One level in memory: smoothing, and the way to the next."""

    def __init__(
        self,
        level: Level,
        by: tuple[int, ...],
        dtype: torch.dtype,
        lines: tuple[Tensor, ...] | None,
    ) -> None:
        self.shape, self.by, self.dtype = level.shape, by, dtype
        self.both = int(not level.two_coloured)
        d = level.diagonal
        inverse = torch.where(d > 0, 1 / d.clamp_min(torch.finfo(d.dtype).tiny), 0.0).to(dtype)
        self.lines = lines is not None
        weights = list(level.faces)
        if lines is not None:
            none = torch.zeros(1)
            weights = [none] * (3 - len(lines)) + [w.detach() for w in lines]
        held = [inverse, *(w.to(dtype).contiguous() for w in weights)]
        self.fields = [a.reshape(-1) for a in _bridge.arrays(*held)]

    def toward(self, coarse: Level) -> None:
        """Learn where the coarser grid has faces."""
        self.far = coarse.shape
        shares = [
            ((f > 0) * (0.25 if n == 2 else 0.0)).to(self.dtype)
            for f, n in zip(coarse.faces, self.by, strict=True)
        ]
        self.shares = [a.reshape(-1) for a in _bridge.arrays(*shares)]
        self.halved = tuple(n - 1 for n in self.by)

    def smooth(self, b: Tensor, steps: int) -> Tensor:
        """Relax the colours in turn, from zero."""
        from tensornet.pde import multigrid_sweeps as sweeps

        (ni, nj, nk), x = self.shape, torch.empty_like(b)
        rows = len(b) * ni * nj
        flat = [a.reshape(-1) for a in _bridge.arrays(x, b)]
        if self.both:
            x.zero_()
            self._relax(flat, rows, 0, False)
        else:
            sweeps.start(*flat, self.fields[0], rows, nj, ni, nk)
        self._relax(flat, rows, 1, False)
        for _ in range(steps - 1):
            self._relax(flat, rows, 0, False)
            self._relax(flat, rows, 1, False)
        return x

    def smooth_back(self, x: Tensor, b: Tensor, steps: int) -> Tensor:
        """Relax in the opposite order."""
        rows = len(b) * self.shape[0] * self.shape[1]
        flat = [a.reshape(-1) for a in _bridge.arrays(x, b)]
        for _ in range(steps):
            self._relax(flat, rows, 1, True)
            self._relax(flat, rows, 0, True)
        return x

    def _relax(self, flat: list[Any], rows: int, colour: int, backwards: bool) -> None:
        from tensornet.pde.multigrid_sweeps import relax

        relax(*flat, *self.fields, self.lines, colour, backwards, rows, *self.shape)

    def restrict(self, x: Tensor, b: Tensor) -> Tensor:
        """Residuals on the coarser grid."""
        from tensornet.pde.multigrid_sweeps import restrict

        out = x.new_empty(len(x), prod(self.far))
        rows = len(b) * self.shape[0] * self.shape[1]
        flat = [a.reshape(-1) for a in _bridge.arrays(x, b, out)]
        restrict(
            *flat[:2], *self.fields, self.lines, self.both, rows, *self.shape,
            flat[2], *self.shares, self.far, self.halved,
        )  # fmt: skip
        return out

    def prolong(self, x: Tensor, coarse: Tensor) -> None:
        """Add the correction of the coarser grid, in place."""
        from tensornet.pde.multigrid_sweeps import prolong

        rows = len(x) * self.shape[0] * self.shape[1]
        flat = [a.reshape(-1) for a in _bridge.arrays(x, coarse.contiguous())]
        prolong(
            flat[0], self.fields[0], self.both, rows, *self.shape,
            flat[1], *self.shares, self.far, self.halved,
        )  # fmt: skip


def multigrid(
    A: StencilOperator,
    *,
    smoothing: int = 2,
    precision: torch.dtype | None = None,
) -> Multigrid:
    """Precondition an operator on a mask by one V-cycle of geometric multigrid.

    Pairs of cells are joined along every axis (along those of small spacing first), a joined cell
    is active if one of its cells is. Between two of them the faces that are open are summed, each
    in series with half of the way through either pair; so are ties to held values, while reactions
    are summed: obstacles and free surfaces thinner than coarse cells are not lost. The smoother is
    Gauss and Seidel's, one colour of the checkerboard after the other, and in the opposite order on
    the way back, which makes the cycle symmetric and positive definite. Interpolation is linear
    where faces are open, restriction its transpose, the coarsest grid is solved exactly.

    Iterations of `tensornet.linalg.pcg` hardly depend on the size, with obstacles and with free
    surfaces. They do grow with the contrast of a coefficient that jumps.

    Args:
        A: A symmetric operator of this room, on the CPU.
        smoothing: Sweeps over both colours before and after the coarse grid.
        precision: What the cycle computes in, by default the dtype of `A`. Single precision under
            an operator of double precision halves the memory.

    Returns:
        A symmetric operator, ``M`` of `pcg`; its `to_scipy` is the ``M`` of scipy's solvers. It
        uses one core.

    Raises:
        TypeError: If `A` is no operator of this room, or the precision is another dtype.
        ValueError: If it is not symmetric, has a row whose diagonal is not positive or weights
            below zero, is not on the CPU, or `smoothing` is below one.

    Derivatives:
        Any order in the vectors, none in the operator.

    References:
        Briggs, Henson & McCormick, A Multigrid Tutorial (2000), chapters 3 and 4; Trottenberg,
        Oosterlee & Schueller, Multigrid (2001), section 2.8.

    Examples:
        >>> from tensornet.linalg import pcg
        >>> from tensornet.pde import Grid, poisson
        >>> problem = poisson(Grid((16, 16), spacing=1 / 16), source=1.0)
        >>> pcg(problem.operator, problem.rhs, M=multigrid(problem.operator)).n_iterations < 8
        True
    """
    if not isinstance(A, StencilOperator):
        raise TypeError(f"`multigrid(A=...)` must be an operator of `pde`. Got {type(A).__name__}.")
    _check.at_least("multigrid", 1, smoothing=smoothing)
    if precision not in (None, torch.float32, torch.float64):
        raise TypeError(f"`multigrid(precision=...)` must be float32 or float64. Got {precision}.")
    if not A.symmetric:
        raise ValueError("`multigrid(A=...)` must be symmetric. Got one that is not.")
    if A.device.type != "cpu":
        raise ValueError(
            f"`multigrid(A=...)` must be on the CPU. Got {A.device}. (Take `box_preconditioner`.)"
        )
    least = min(float(part.detach().min()) for part in (A.anchor, *A.weights))
    if not least >= 0 or not float(A.diagonal().detach().min()) > 0:
        raise ValueError(
            "`multigrid(A=...)` must have weights and ties of at least zero and a positive "
            f"diagonal. Got a smallest weight or tie of {least:.3g}."
        )
    return Multigrid(A, smoothing, precision or A.dtype)
