"""Geometric multigrid on masks, as a preconditioner."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.kernels import _bridge
from tensornet.pde.multigrid_levels import Level as Level
from tensornet.pde.multigrid_levels import check_operator
from tensornet.pde.multigrid_levels import finest as finest
from tensornet.pde.operator import FixedOperator, StencilOperator
from tensornet.pde.stiff_parts import stiff_parts

_COARSEST = 128  # cells of a grid that is solved by a dense inverse
_GRAIN = 100_000  # cells worth a thread


class Multigrid(FixedOperator):
    """One cycle of multigrid from zero. See `multigrid`.

    Attributes:
        shapes: Of the grids, finest first.
    """

    def __init__(self, A: StencilOperator, smoothing: int, precision: torch.dtype) -> None:
        self.operator, self.domain, self.shape = A, A.domain, A.shape
        self.dtype, self.device = A.dtype, A.device
        self._precision, self._smoothing = precision, smoothing
        level = finest(A)
        self.shapes: list[tuple[int, ...]] = []
        self._grids: list[_Grid] = []
        while True:
            by = level.factors()
            self.shapes.append(level.shape)
            if math.prod(level.shape) <= _COARSEST or max(by) == 1:
                break
            lines = A.weights if not self._grids and A.kind == "lines" else None
            coarse = level.coarser(by)
            self._grids.append(_Grid(level, coarse, by, precision, lines))
            level = coarse
        self._inverse = level.inverse().to(precision)
        with torch.no_grad():
            self._parts = stiff_parts(A)

    @property
    def n_bytes(self) -> int:
        """Memory of all grids, vectors apart."""
        arrays = [a for grid in self._grids for a in (*grid.fields, *grid.shares)]
        return int(sum(a.nbytes for a in arrays)) + self._inverse.nbytes

    def run(self, x: Tensor) -> Tensor:  # (b, n) -> (b, n)
        """Run the cycle, without derivatives.

        Args:
            x: Right-hand sides.

        Returns:
            Approximate solutions, (b, n).
        """
        parts, A = self._parts, self.operator
        if parts is None:
            return self._cycled(x)
        constant = parts(x)
        found = self._cycled(x - A(constant))
        return found + constant - parts(A(found))

    def _cycled(self, x: Tensor) -> Tensor:
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


class _Grid:
    """One level in memory: smoothing, and the way to the next."""

    def __init__(
        self,
        level: Level,
        coarse: Level,
        by: tuple[int, ...],
        dtype: torch.dtype,
        lines: tuple[Tensor, ...] | None,
    ) -> None:
        self.shape = level.shape
        self.both = int(not level.two_coloured)
        d = level.diagonal
        inverse = torch.where(d > 0, 1 / d.clamp_min(torch.finfo(d.dtype).tiny), 0.0)
        self.lines = lines is not None
        weights = list(level.faces)
        if lines is not None:
            weights = [torch.zeros(1)] * (3 - len(lines)) + [w.detach() for w in lines]
        self.fields = _flat(*(w.to(dtype).contiguous() for w in (inverse, *weights)))
        self.single = level.varies
        shares = level.shares(by) if level.varies else tuple(
            (face > 0) * (0.25 * (n - 1)) for face, n in zip(coarse.faces, by, strict=True)
        )  # fmt: skip
        self.shares = _flat(*(share.to(dtype).contiguous() for share in shares))
        self.far, self.halved = coarse.shape, tuple(n - 1 for n in by)

    def smooth(self, b: Tensor, steps: int) -> Tensor:
        """Relax the colours in turn, from zero."""
        from tensornet.pde.multigrid_sweeps import start

        x = torch.empty_like(b)
        flat = _flat(x, b)
        if self.both:
            x.zero_()
            self._relax(flat, 0, False)
        else:
            self._spread(b, lambda *ends: start(*flat, self.fields[0], *self.shape, *ends))
        self._relax(flat, 1, False)
        for _ in range(steps - 1):
            self._relax(flat, 0, False)
            self._relax(flat, 1, False)
        return x

    def smooth_back(self, x: Tensor, b: Tensor, steps: int) -> Tensor:
        """Relax in the opposite order."""
        flat = _flat(x, b)
        for _ in range(steps):
            self._relax(flat, 1, True)
            self._relax(flat, 0, True)
        return x

    def _relax(self, flat: list[Any], colour: int, backwards: bool) -> None:
        from tensornet.pde.multigrid_sweeps import relax

        def run(*ends: int) -> None:
            relax(*flat, *self.fields, self.lines, colour, backwards, *self.shape, *ends)

        self._spread(flat[0], run)

    def _spread(self, x: Any, run: Callable[[int, int], None]) -> None:
        """Rows in parallel; one after the other where cells of a colour are neighbours."""
        rows = math.prod(x.shape) // self.shape[2]
        if self.both:
            run(0, rows)
        else:
            _bridge.spread(run, rows, max(1, _GRAIN // self.shape[2]))

    def restrict(self, x: Tensor, b: Tensor) -> Tensor:
        """Residuals on the coarser grid."""
        from tensornet.pde.multigrid_sweeps import restrict

        out = x.new_empty(len(x), math.prod(self.far))
        rows = len(b) * self.shape[0] * self.shape[1]
        *flat, coarse = _flat(x, b, out)
        restrict(
            *flat, *self.fields, self.lines, self.both, rows, *self.shape,
            coarse, *self.shares, self.single, self.far, self.halved,
        )  # fmt: skip
        return out

    def prolong(self, x: Tensor, coarse: Tensor) -> None:
        """Add the correction of the coarser grid, in place."""
        from tensornet.pde.multigrid_sweeps import prolong

        fine, far = _flat(x, coarse.contiguous())

        def run(*ends: int) -> None:
            prolong(
                fine, self.fields[0], self.both, *self.shape,
                far, *self.shares, self.single, self.far, self.halved, *ends,
            )  # fmt: skip

        self._spread(x, run)


def _flat(*tensors: Tensor) -> list[Any]:
    return [a.reshape(-1) for a in _bridge.arrays(*tensors)]


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

    Where the coefficient varies, interpolation follows it, and a joined cell stands for its
    stiffest part. Stiff inclusions that coarse grids run together are parted again: the constants
    on the connected parts where the coefficient is above its geometric middle are solved for
    exactly, before and after the cycle.

    Iterations of `tensornet.linalg.pcg` hardly depend on the size, with obstacles and with free
    surfaces, and little on the contrast of a coefficient that jumps.

    Args:
        A: A symmetric operator of `pde`, on the CPU.
        smoothing: Sweeps over both colours before and after the coarse grid.
        precision: What the cycle computes in, by default the dtype of `A`. Single precision under
            an operator of double precision halves the memory.

    Returns:
        A symmetric operator, ``M`` of `pcg`; its `to_scipy` is the ``M`` of scipy's solvers. Large
        grids are swept in as many threads as torch uses.

    Raises:
        TypeError: If `A` is no operator of `pde`, or the precision is another dtype.
        ValueError: If it is not symmetric, has a row whose diagonal is not positive or weights
            below zero, is not on the CPU, or `smoothing` is below one.

    Derivatives:
        Any order in the vectors, none in the operator.

    References:
        Briggs, Henson & McCormick, A Multigrid Tutorial (2000), chapters 3 and 4; Trottenberg,
        Oosterlee & Schueller, Multigrid (2001), sections 2.8 and 7.7; Nicolaides, Deflation of
        conjugate gradients, SIAM J. Numer. Anal. 24, 355 (1987), for the constants on parts.

    Examples:
        >>> from tensornet.linalg import pcg
        >>> from tensornet.pde import Grid, poisson
        >>> problem = poisson(Grid((16, 16), spacing=1 / 16), source=1.0)
        >>> pcg(problem.operator, problem.rhs, M=multigrid(problem.operator)).n_iterations < 8
        True
    """
    check_operator("multigrid", A)
    _check.at_least("multigrid", 1, smoothing=smoothing)
    if precision not in (None, torch.float32, torch.float64):
        raise TypeError(f"`multigrid(precision=...)` must be float32 or float64. Got {precision}.")
    return Multigrid(A, smoothing, precision or A.dtype)
