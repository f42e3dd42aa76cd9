"""The inverse of a box as a sum of Kronecker products, and right sides of low rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet import _check
from tensornet.formats.cp import CP
from tensornet.formats.tensor_train import TensorTrain
from tensornet.formats.tucker import Tucker
from tensornet.pde.axis import box_axes, in_eigenvectors
from tensornet.pde.boundary import Boundary
from tensornet.pde.domain import Domain
from tensornet.pde.grid import Grid
from tensornet.pde.low_rank_solve import Value, residual_norms, solved
from tensornet.pde.operator import LinearOperator
from tensornet.pde.problem import domain_of

Array = NDArray[np.float64]
_TAIL = 3  # terms that stand for all the smooth ones


@dataclass(frozen=True)
class Reciprocal:
    """``1 / x`` as ``sum over k of weights[k] exp(-exponents[k] x)`` for x from 1 to a ratio.

    Args:
        weights: Weights, (k,).
        exponents: Exponents, (k,).
        error: Largest relative error.
    """

    weights: Array
    exponents: Array
    error: float


@lru_cache(maxsize=64)
def reciprocal(ratio: float, tolerance: float) -> Reciprocal:
    """Approximate ``1 / x`` on an interval from one on by a short sum of exponentials.

    The trapezoidal rule for ``1 / x = integral of exp(u - x exp(u))`` over all u, whose many smooth
    terms are replaced by a Gauss rule of three that has the same first moments.

    Args:
        ratio: End of the interval.
        tolerance: Largest relative error.

    Returns:
        The sum.

    Raises:
        ValueError: If no short sum reaches the tolerance.
    """
    x = np.exp(np.linspace(0, math.log(ratio), 400))
    top = math.log(math.log(10 / tolerance))
    for step in np.linspace(1.4, 0.2, 61):
        u = top - step * np.arange(math.ceil((top + math.log(ratio) + 60) / step))
        t, w = np.exp(u), step * np.exp(u)
        terms = x[:, None] * w * np.exp(-x[:, None] * t)
        if np.abs(terms.sum(1) - 1).max() > 0.5 * tolerance:
            continue
        whole = terms.cumsum(1)
        for kept in range(len(t) - 2 * _TAIL):
            if t[kept] * ratio > 3:
                continue
            nodes, shares = _gauss(t[kept:], w[kept:])
            tail = x[:, None] * shares * np.exp(-x[:, None] * nodes)
            head = whole[:, kept - 1] if kept else 0.0
            error = float(np.abs(head + tail.sum(1) - 1).max())
            if error <= tolerance:
                weights, exponents = np.append(w[:kept], shares), np.append(t[:kept], nodes)
                return Reciprocal(weights, exponents, error)
    raise ValueError(
        f"`exponential_sum_inverse(tolerance=...)` must be within reach. Got {tolerance}."
    )


def _gauss(t: Array, w: Array) -> tuple[Array, Array]:
    """Nodes and weights of a few terms with the first moments of many, by Lanczos' iteration."""
    q = np.sqrt(w / w.sum())
    basis, alpha, beta = [q], [], []
    for _ in range(_TAIL):
        v = t * basis[-1]
        alpha.append(v @ basis[-1])
        for _ in range(2):
            for b in basis:
                v = v - (v @ b) * b
        beta.append(np.linalg.norm(v))
        basis.append(v / beta[-1])
    values, vectors = np.linalg.eigh(
        np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1)
    )
    return values, w.sum() * vectors[0] ** 2


class ExponentialSumInverse(LinearOperator):
    """The inverse of an empty box in the CP format. See `exponential_sum_inverse`.

    Attributes:
        eigenvalues: The inverse's, a CP value of the shape of the grid.
        error: Largest relative error of an eigenvalue.
        ratio: Of the largest to the smallest eigenvalue of the operator.
        singular: Whether the constant was left out.
    """

    symmetric = True

    def __init__(self, domain: Domain, coefficient: float, shift: float, tolerance: float) -> None:
        self.domain, self.dtype, self.device = domain, torch.float64, domain.device
        self.shape = (domain.n, domain.n)
        self.coefficient, self.shift = coefficient, shift
        self.axes = box_axes("exponential_sum_inverse(grid=...)", domain)
        values = [coefficient * a.values for a in self.axes]
        least = sum(float(v[0]) for v in values) + shift
        most = sum(float(v.max()) for v in values) + shift
        self.singular = least == 0
        if self.singular:
            least = min(float(v[1]) for v in values)
        self.ratio = most / least * (1 + 1e-12)
        found = reciprocal(self.ratio, tolerance)
        self.error = found.error
        t, w = (torch.from_numpy(a) / least for a in (found.exponents, found.weights))
        weights = w * torch.exp(-t * shift)
        factors = [torch.exp(-v[:, None] * t) for v in values]
        if self.singular:
            weights = torch.cat([weights, -weights.sum()[None]])
            constant = [torch.eye(len(v), 1, dtype=torch.float64) for v in values]
            factors = [torch.cat(pair, 1) for pair in zip(factors, constant, strict=True)]
        self.eigenvalues = CP(tuple(factors), weights)

    @property
    def rank(self) -> int:
        """Number of Kronecker products."""
        return self.eigenvalues.rank

    def _apply(self, x: Tensor) -> Tensor:
        values = self.eigenvalues.to_dense()
        return self.domain.restrict(in_eigenvectors(self.axes, self.domain.embed(x), values))

    def solve(self, rhs: Value) -> Value:
        """Do what `solve_low_rank` does, without its checks.

        Args:
            rhs: The right side, ``(*shape)``.

        Returns:
            The solution in the same format, ``(*shape)``.
        """
        cut = max(0.1 * self.error / self.ratio, 1e-15)
        found: Value = solved(self.axes, self.eigenvalues, rhs, cut)
        return found

    def residual(self, u: Value, rhs: Value) -> float:
        """Relative residual, from neighbours on the grid, without a dense field.

        Args:
            u: A solution.
            rhs: Its right side. Where the operator is singular its mean is taken off.

        Returns:
            Norm of the residual over that of the right side; infinite where only the latter is
            zero.
        """
        left, size = residual_norms(self.axes, u, rhs, self.coefficient, self.shift, self.singular)
        if size == 0:
            return 0.0 if left == 0 else math.inf
        return left / size


def exponential_sum_inverse(
    grid: Grid | Domain,
    *,
    boundary: Boundary | None = None,
    mask: Tensor | None = None,  # (*shape) bool
    coefficient: float = 1.0,
    shift: float = 0.0,
    tolerance: float = 1e-8,
) -> ExponentialSumInverse:
    """Invert ``shift u - coefficient div grad u`` on a box as a sum of Kronecker products.

    ``1 / x`` is a short sum of exponentials of x, and the exponential of the operator is a
    Kronecker product of exponentials of one axis each. So the inverse is a CP value in the basis of
    eigenvectors, of a rank that grows with the logarithm of the size and of the tolerance; no
    numbers are kept but a few per place along each axis. For right sides of low rank see
    `solve_low_rank`; on vectors it is `box_preconditioner` with a small error.

    Args:
        grid: The grid; or a `Domain`. Values held at sides are taken as zero.
        boundary: What holds at the sides of the box, by default ``"dirichlet"``.
        mask: Cells to which vectors belong, for use as a preconditioner; the box stays empty.
        coefficient: Of the diffusion, positive.
        shift: What the identity is multiplied by, at least zero.
        tolerance: Largest relative error of an eigenvalue of the inverse, which is the largest
            relative residual of a solution.

    Returns:
        A symmetric operator in float64. Where nothing holds a value the constant is left out.

    Raises:
        TypeError: If the grid is something else, or the coefficient no number.
        ValueError: If numbers are out of range, or the domain is not on the CPU.

    Derivatives:
        None.

    References:
        Hackbusch & Khoromskij, Low-rank Kronecker-product approximation to multi-dimensional
        nonlocal operators, Computing 76, 177 (2006).

    Examples:
        >>> inverse = exponential_sum_inverse(Grid((64, 64, 64), spacing=1 / 64), tolerance=1e-6)
        >>> inverse.rank < 30, inverse.error <= 1e-6
        (True, True)
    """
    where = "exponential_sum_inverse"
    if not isinstance(grid, Grid | Domain):
        raise TypeError(f"`{where}(grid=...)` must be a grid or domain. Got {type(grid).__name__}.")
    check_diffusion(where, coefficient, shift)
    _check.tolerance(where, tolerance=tolerance)
    if not 1e-12 <= tolerance < 0.5:
        raise ValueError(f"`{where}(tolerance=...)` must be from 1e-12 to 0.5. Got {tolerance}.")
    domain = domain_of(where, grid, mask, boundary, None)
    if domain.device.type != "cpu":
        raise ValueError(f"`{where}(grid=...)` must be on the CPU. Got {domain.device}.")
    return ExponentialSumInverse(domain, float(coefficient), float(shift), tolerance)


def solve_low_rank(
    inverse: ExponentialSumInverse,
    rhs: Value,  # (*shape)
) -> Value:  # (*shape)
    """Solve on a box for a right side of low rank, without a dense field.

    The work is that of fast sine or cosine transforms of the factors. The rank of a CP solution is
    the product of those of the inverse and of the right side; `round` may lower it. In the other
    formats ranks are cut where that changes the residual by less than the inverse is exact.

    Args:
        inverse: Of the box.
        rhs: Right side, at the centres of the cells: a `CP`, `Tucker` or `TensorTrain` value. Where
            the operator is singular, its mean is taken off, and the solution has none.

    Returns:
        The solution in the same format; `inverse.residual(solution, rhs)` checks it.

    Raises:
        TypeError: If it is in another format, or not in float64.
        ValueError: If the shape differs from that of the grid, or numbers are not finite.

    Derivatives:
        None.

    References:
        Hackbusch & Khoromskij, Computing 76, 177 (2006).

    Examples:
        >>> inverse = exponential_sum_inverse(Grid((512, 512, 512), spacing=1 / 512))
        >>> one = CP(tuple(torch.ones(512, 1, dtype=torch.float64) for _ in range(3)))
        >>> u = solve_low_rank(inverse, one)
        >>> round(float(u[256, 256, 256]), 4)
        0.0562
    """
    if not isinstance(inverse, ExponentialSumInverse):
        raise TypeError(
            "`solve_low_rank(inverse=...)` must be made by `exponential_sum_inverse`. "
            f"Got {type(inverse).__name__}."
        )
    if inverse.domain.mask is not None:
        raise ValueError("`solve_low_rank(inverse=...)` must be of a box without a mask.")
    check_low_rank("solve_low_rank", rhs, inverse.domain.grid.shape, (CP, Tucker, TensorTrain))
    return inverse.solve(rhs)


def check_diffusion(where: str, coefficient: float, shift: float) -> None:
    """Check the two numbers of an operator on a box.

    Args:
        where: Name of the public call, for messages.
        coefficient: Of the diffusion.
        shift: What the identity is multiplied by.

    Raises:
        TypeError: If one is no number.
        ValueError: If the coefficient is not positive, the shift negative, or one not finite.
    """
    for name, value in (("coefficient", coefficient), ("shift", shift)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"`{where}({name}=...)` must be a number. Got {type(value).__name__}.")
    if not (0 < coefficient < math.inf and 0 <= shift < math.inf):
        raise ValueError(
            f"`{where}(coefficient=...)` must be positive and `shift` at least zero, both finite. "
            f"Got {coefficient}, {shift}."
        )


def check_low_rank(
    where: str, rhs: CP | Tucker | TensorTrain, shape: tuple[int, ...], kinds: tuple[type, ...]
) -> None:
    """Check a right side of low rank.

    Args:
        where: Name of the public call, for messages.
        rhs: The right side.
        shape: Of the grid.
        kinds: Formats that are taken.

    Raises:
        TypeError: If it is in another format, or not in float64.
        ValueError: If the shape is another, or numbers are not finite.
    """
    if not isinstance(rhs, kinds):
        *others, last = (kind.__name__ for kind in kinds)
        words = f"{', '.join(others)} or {last}" if others else last
        raise TypeError(f"`{where}(rhs=...)` must be a {words} value. Got {type(rhs).__name__}.")
    if rhs.dtype != torch.float64:
        raise TypeError(f"`{where}(rhs=...)` must be in float64. Got {rhs.dtype}.")
    if rhs.shape != shape:
        raise ValueError(
            f"`{where}(rhs=...)` must have the shape {shape} of the grid. Got {rhs.shape}."
        )
    if not all(bool(part.isfinite().all()) for part in rhs.parts().values()):
        raise ValueError(f"`{where}(rhs=...)` must be finite. Got NaN or infinite numbers.")
