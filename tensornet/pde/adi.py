"""Alternating directions: implicit along one axis at a time, with Wachspress' shifts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.cp import CP
from tensornet.kernels import _bridge
from tensornet.linalg.solution import Solution
from tensornet.pde.boundary import Boundary, Side, sides
from tensornet.pde.box import is_box, mean_coefficient
from tensornet.pde.domain import Domain
from tensornet.pde.grid import Grid
from tensornet.pde.low_rank import check_diffusion, check_low_rank
from tensornet.pde.multigrid_levels import check_operator, finest
from tensornet.pde.operator import FixedOperator, StencilOperator
from tensornet.pde.poisson import diffusion

_GRAIN = 100_000  # cells worth a thread


def shifts(low: float, high: float, count: int) -> list[float]:
    """Give the shifts for which ``prod |(x - s) / (x + s)|`` is least on an interval.

    Args:
        low: Lower end of the interval, positive.
        high: Upper end.
        count: How many shifts.

    References:
        Wachspress, The ADI Model Problem (2013), chapter 1.

    Examples:
        >>> [round(s, 6) for s in shifts(1.0, 4.0, 1)]  # the geometric mean
        [2.0]
    """
    from scipy.special import ellipj, ellipkm1

    ratio = (low / high) ** 2
    quarter = float(ellipkm1(ratio)) / (2 * count)
    return [high * float(ellipj((2 * j + 1) * quarter, 1 - ratio)[2]) for j in range(count)]


class ADI(FixedOperator):
    """Alternating directions from zero, there and back. See `adi`.

    Attributes:
        shifts: On the way there; on the way back they are in the opposite order.
    """

    def __init__(self, A: StencilOperator, steps: int) -> None:
        self.domain, self.shape = A.domain, A.shape
        self.dtype, self.device = A.dtype, A.device
        self.operator = A = _box(A)
        level, dim = finest(A), A.domain.grid.dim
        self._size = level.shape
        self._lines = []
        high = 0.0
        for axis in range(3 - dim, 3):
            face = level.faces[axis]
            both = face + face.roll(1, axis)
            diagonal = both + level.ties[axis] + level.reaction / dim
            high = max(high, float((diagonal + both).max()))
            arrays = _bridge.arrays(*(a.to(A.dtype).contiguous() for a in (diagonal, face)))
            self._lines.append((axis, [a.reshape(-1) for a in arrays]))
        low = _least(A) / dim
        self.shifts = shifts(min(low, high), high, steps)

    @property
    def n_bytes(self) -> int:
        """Memory of all lines."""
        return int(sum(a.nbytes for _, arrays in self._lines for a in arrays))

    def run(self, x: Tensor) -> Tensor:  # (b, n) -> (b, n)
        """Run all steps, without derivatives.

        Args:
            x: Right-hand sides.

        Returns:
            Approximate solutions, (b, n).
        """
        left = self.domain.embed(x).flatten(1)
        found = torch.zeros_like(left)
        there = [(s, self._lines) for s in self.shifts]
        back = [(s, self._lines[::-1]) for s in self.shifts[::-1]]
        for k, (s, lines) in enumerate([*there, *back]):
            if k:
                left = self.domain.embed(x).flatten(1) - self.operator(found)
            found = found + 2 * s ** (len(lines) - 1) * self._relaxed(left, s, lines)
        return self.domain.restrict(found.reshape(len(x), *self.domain.grid.shape))

    def _relaxed(self, r: Tensor, s: float, lines: list[Any]) -> Tensor:
        from tensornet.pde.adi_lines import solve_lines

        field = r.clone(memory_format=torch.contiguous_format)
        x, c = (a.reshape(-1) for a in _bridge.arrays(field, torch.empty_like(field)))
        for axis, arrays in lines:
            n, inner = self._size[axis], math.prod(self._size[axis + 1 :])
            count = math.prod(self._size[:axis])

            def run(begin: int, end: int, sizes: Any = (count, n, inner), a: Any = arrays) -> None:
                solve_lines(x, *a, s, c, *sizes, begin, end)

            _bridge.spread(run, len(r) * count, max(1, _GRAIN // (n * inner)))
        return field


def _box(A: StencilOperator) -> StencilOperator:
    """The empty box around an operator; the operator itself where it is one."""
    domain = A.domain
    if is_box(A):
        return A
    ends = [(Side(low.kind, at=low.at), Side(high.kind, at=high.at)) for low, high in domain.sides]
    whole = Domain(domain.grid, boundary=ends)
    box = diffusion("adi", whole, mean_coefficient(A), A.dtype)[0].shifted(A.shift)
    if len(box.nullspace):  # what holds values is inside
        return box.shifted(float(domain.restrict(A.anchor.detach()).mean()))
    return box


def _least(A: StencilOperator) -> float:
    """A lower bound of the box around an operator, of what is not zero in it."""
    domain, k = A.domain, A.coefficient
    k = float(domain.restrict(k.detach()).min()) if isinstance(k, Tensor) else k
    grid = domain.grid
    found = [
        k * _lowest(n, low, high, h)
        for n, (low, high), h in zip(grid.shape, domain.sides, grid.spacing, strict=True)
    ]
    if sum(found) + A.shift > 0:
        return sum(found) + A.shift
    return min(k * (math.pi / length) ** 2 / 2 for length in grid.lengths)


def _lowest(n: int, low: Side, high: Side, spacing: float) -> float:
    """A lower bound of the second difference along an axis, zero where no value is held."""
    held = (low.kind == "dirichlet") + (high.kind == "dirichlet")
    angle = (0.0, math.pi / (2 * n + 1), math.pi / (n + 1))[held]
    return (2 * math.sin(angle / 2) / spacing) ** 2


def adi(A: StencilOperator, *, steps: int = 2) -> ADI:
    """Precondition an operator by alternating directions.

    An operator on a grid is a sum of one part per axis, ``A = H_1 + ... + H_d``, each of which is
    tridiagonal along its lines. A step adds ``2 s^(d - 1) (s + H_1)^-1 ... (s + H_d)^-1 r`` to the
    solution: Peaceman and Rachford's in two dimensions, Douglas' in three. The shifts s are
    Wachspress' for the spectrum of a box. All steps are done once more in the opposite order, which
    makes the whole symmetric.

    The parts of a box with a constant coefficient commute, so that the whole is positive definite.
    Other operators are preconditioned by the box around them, as by `box_preconditioner`, without
    obstacles and with the mean of the coefficient. In two dimensions the number of steps for a
    tolerance grows with the logarithm of the size, in three faster.

    Args:
        A: A symmetric operator of `pde`, on the CPU, without periodic axes.
        steps: On the way there, and as many back.

    Returns:
        A symmetric operator, ``M`` of `pcg`; its `to_scipy` is the ``M`` of scipy's solvers.

    Raises:
        TypeError: If `A` is no operator of `pde`.
        ValueError: If it is not symmetric, periodic, not on the CPU, has weights or ties below
            zero, or `steps` is below one.

    Derivatives:
        Any order in the vectors, none in the operator.

    References:
        Peaceman & Rachford, J. SIAM 3, 28 (1955); Douglas, Numer. Math. 4, 41 (1962); Wachspress,
        The ADI Model Problem (2013).

    Examples:
        >>> from tensornet.linalg import pcg
        >>> from tensornet.pde import Grid, poisson
        >>> problem = poisson(Grid((32, 32), spacing=1 / 32), source=1.0)
        >>> pcg(problem.operator, problem.rhs, M=adi(problem.operator)).n_iterations < 10
        True
    """
    check_operator("adi", A)
    _check.at_least("adi", 1, steps=steps)
    if any(A.domain.periodic):
        raise ValueError(
            "`adi(A=...)` must not be periodic along an axis. Got one that is. (Take "
            "`box_preconditioner` or `multigrid`.)"
        )
    return ADI(A, steps)


def solve_adi(
    grid: Grid,
    rhs: CP,  # (*shape)
    *,
    boundary: Boundary | None = None,
    coefficient: float = 1.0,
    shift: float = 0.0,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
) -> Solution[CP]:  # value (*shape)
    """Solve ``shift u - coefficient div grad u = rhs`` in two dimensions at low rank, by ADI.

    This is Sylvester's equation ``H_1 X + X H_2 = F G^T``. Each step of Peaceman and Rachford adds
    ``2 s (s + H_1)^-1 F ((s + H_2)^-1 G)^T`` and leaves a residual of the same rank, so that the
    rank of the solution is that of the right side times the number of steps, and the residual is
    known at every step. Nothing is transformed: the work is that of tridiagonal systems.

    Args:
        grid: A grid of two axes.
        rhs: Right side, at the centres of the cells.
        boundary: What holds at the sides of the box, by default ``"dirichlet"``, with values of
            zero; not periodic, and not closed all around unless there is a shift.
        coefficient: Of the diffusion, positive.
        shift: What the identity is multiplied by, at least zero.
        tolerance: Largest relative residual.
        max_iterations: Largest number of steps.

    Returns:
        The solution with the relative residual after each step.

    Raises:
        TypeError: If `rhs` is not a CP value in float64.
        ValueError: If sizes do not fit, the box is periodic or singular, or numbers are not finite.

    Derivatives:
        None: the solution is detached.

    References:
        Benner, Li & Truhar, On the ADI method for Sylvester equations, J. Comput. Appl. Math. 233,
        1035 (2009).

    Examples:
        >>> grid = Grid((400, 500), spacing=1 / 400)
        >>> one = CP(tuple(torch.ones(n, 1, dtype=torch.float64) for n in grid.shape))
        >>> solution = solve_adi(grid, one)
        >>> solution.converged, solution.value.rank == solution.n_iterations
        (True, True)
    """
    where = "solve_adi"
    if not isinstance(grid, Grid):
        raise TypeError(f"`{where}(grid=...)` must be a `Grid`. Got {type(grid).__name__}.")
    check_low_rank(where, rhs, grid.shape, (CP,))
    _check.tolerance(where, tolerance=tolerance)
    _check.at_least(where, 1, max_iterations=max_iterations)
    check_diffusion(where, coefficient, shift)
    ends = sides(grid, "dirichlet" if boundary is None else boundary, where)
    kinds = {side.kind for pair in ends for side in pair}
    if grid.dim != 2 or "periodic" in kinds or not (shift > 0 or "dirichlet" in kinds):
        raise ValueError(
            f"`{where}(grid=...)` must have two axes, none of them periodic, and a value held "
            f"somewhere or a positive shift. Got {grid.dim} axes with {sorted(kinds)} sides and "
            f"shift {shift}. (Take `solve_low_rank`.)"
        )
    lines = [
        _Lines(n, *pair, coefficient / h**2, shift / 2)
        for n, pair, h in zip(grid.shape, ends, grid.spacing, strict=True)
    ]
    return _sylvester(lines, rhs, tolerance, max_iterations)


class _Lines:
    """The tridiagonal matrix of one axis."""

    def __init__(self, n: int, low: Side, high: Side, weight: float, shift: float) -> None:
        self.diagonal = torch.full((n, 1), 2 * weight + shift, dtype=torch.float64)
        self.diagonal[0] += (low.weight - 1) * weight
        self.diagonal[-1] += (high.weight - 1) * weight
        self.face = torch.full((n, 1), weight, dtype=torch.float64)
        self.face[-1] = 0
        self.ends = weight * _lowest(n, low, high, 1.0) + shift, 6 * weight + shift

    def solve(self, x: Tensor, shift: float) -> Tensor:  # (n, r) -> (n, r)
        """Solve with a shift."""
        from tensornet.pde.adi_lines import solve_lines

        found = x.clone(memory_format=torch.contiguous_format)
        fields = (a.expand(x.shape).contiguous() for a in (self.diagonal, self.face))
        y, d, w, c = (
            a.reshape(-1) for a in _bridge.arrays(found, *fields, torch.empty_like(found))
        )
        solve_lines(y, d, w, shift, c, 1, *x.shape, 0, 1)
        return found


@torch.no_grad()
def _sylvester(lines: list[_Lines], rhs: CP, tolerance: float, limit: int) -> Solution[CP]:
    F, G = (factor.contiguous() for factor in rhs.factors)
    F = F if rhs.weights is None else F * rhs.weights
    chosen = _chosen([one.ends for one in lines], tolerance)
    size, left = _norm(F, G), [1.0]
    parts: list[tuple[Tensor, Tensor]] = []
    while left[-1] > tolerance and len(parts) < limit and size > 0:
        s = chosen[len(parts) % len(chosen)]
        Z, Y = lines[0].solve(F, s), lines[1].solve(G, s)
        parts.append((2 * s * Z, Y))
        F, G = F - 2 * s * Z, G - 2 * s * Y
        left.append(_norm(F, G) / size)
    if not parts:
        left, parts = [0.0], [(torch.zeros_like(F), torch.zeros_like(G))]
    value = CP(tuple(torch.cat(part, 1) for part in zip(*parts, strict=True)))
    steps, good = len(left) - 1, left[-1] <= tolerance
    message = f"Relative residual {left[-1]:.1e} after {steps} steps."
    if not good:
        message += f" This is above the tolerance {tolerance:.1e}: allow more steps."
    return Solution(value, good, message, tuple(left), steps)


def _chosen(ends: list[tuple[float, float]], tolerance: float) -> list[float]:
    """The fewest shifts that serve: for both axes together, or for one as if it were alone."""
    lows, high = sorted(end[0] for end in ends), max(end[1] for end in ends)
    counts = {}
    for low, goal in zip(lows, (tolerance, tolerance**2), strict=True):
        if low > 0:
            least = min(low, high)
            count = math.log(4 * high / least) * math.log(4 / goal) / math.pi**2
            counts[max(1, math.ceil(count))] = least
    return shifts(counts[min(counts)], high, min(counts))


def _norm(F: Tensor, G: Tensor) -> float:
    """Norm of ``F G^T``."""
    R, S = (torch.linalg.qr(x, mode="r").R for x in (F, G))
    return float(torch.linalg.vector_norm(R @ S.mT))
