"""The canonical polyadic (CP) format: a sum of rank-one tensors, and how to compute it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.decomposition import Decomposition


@dataclass(frozen=True, eq=False)
class CP:
    """A tensor as a sum of `r` outer products of vectors.

    ``x[i, j, ...] = sum over r of weights[r] factors[0][i, r] factors[1][j, r] ...``

    Args:
        factors: One matrix (d_k, r) per mode, as in TensorLy.
        weights: One number per term, (r,). By default ones.

    Examples:
        >>> CP((torch.ones(2, 1), torch.ones(3, 1))).to_dense().shape
        torch.Size([2, 3])
    """

    factors: tuple[Tensor, ...]
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.factors:
            raise ValueError("`CP(factors=...)` must have one factor per mode. Got none.")
        named = {
            f"factors[{k}]": (f, "d r".replace("d", f"d{k}")) for k, f in enumerate(self.factors)
        }
        _check.shapes("CP", **named)
        if self.weights is not None and self.weights.shape != (self.rank,):
            raise ValueError(
                f"`CP(weights=...)` must have shape ({self.rank},), the rank of the factors. "
                f"Got {tuple(self.weights.shape)}."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each mode."""
        return tuple(f.shape[0] for f in self.factors)

    @property
    def order(self) -> int:
        """Number of modes."""
        return len(self.factors)

    @property
    def rank(self) -> int:
        """Number of terms."""
        return self.factors[0].shape[1]

    @property
    def n_parameters(self) -> int:
        """Numbers stored."""
        weights = 0 if self.weights is None else self.weights.numel()
        return sum(f.numel() for f in self.factors) + weights

    def to_dense(self) -> Tensor:  # (d_1, ..., d_n)
        """Sum the terms up."""
        first = self.factors[0] if self.weights is None else self.factors[0] * self.weights
        product = first
        for factor in self.factors[1:-1]:
            product = (product[:, None, :] * factor).reshape(-1, self.rank)
        if self.order == 1:
            return first.sum(-1)
        return (product @ self.factors[-1].mT).reshape(self.shape)

    def norm(self) -> Tensor:  # ()
        """Frobenius norm, from the Gram matrices of the factors."""
        gram = math.prod(f.mT @ f for f in self.factors)
        assert isinstance(gram, Tensor)
        w = gram.new_ones(self.rank) if self.weights is None else self.weights
        return (w @ gram @ w).clamp(min=0).sqrt()


# Levenberg-Marquardt forms the Jacobian; beyond this many entries it is left out.
_LARGEST_JACOBIAN = 40_000_000
METHODS = ("auto", "als", "lm")


def cp(
    x: Tensor,  # (d_1, ..., d_n)
    rank: int,
    *,
    method: str = "auto",
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
    seed: int = 0,
) -> Decomposition[CP]:
    """Approximate a tensor by a sum of `rank` outer products.

    ``"als"`` is proximal alternating least squares: each factor in turn is the least-squares
    solution with a pull towards its last value. The pull is what gets ALS through its swamps, and
    shrinks with the square of the error. ``"lm"`` is Levenberg-Marquardt on all factors at once,
    slower per step and quadratic at the end: at an exact rank it reaches round-off. ``"auto"``
    begins with ALS and finishes with LM unless its Jacobian would be too large.

    Args:
        x: Real tensor of order two or more. Computed in float64.
        rank: Number of terms.
        method: ``"auto"``, ``"als"`` or ``"lm"``.
        tolerance: Relative Frobenius error at which to stop.
        max_iterations: Sweeps of ALS, and steps of LM, at most.
        seed: Seed of the random start. The same seed gives the same factors.

    Returns:
        The factors with equal norms in each term, in the dtype of `x`; the relative error is
        that of the dense difference, and ``converged`` says whether it reached `tolerance`.

    Raises:
        ValueError: If `x` is of order below two, empty, not finite, `rank` is below one, or the
            method is unknown.

    References:
        Li, Kindermann & Navasca, Some convergence results on the regularized alternating
        least-squares method (2013); Tomasi & Bro, A comparison of algorithms for fitting the
        PARAFAC model (2006).

    Examples:
        >>> x = torch.einsum("i,j,k->ijk", *(torch.arange(1.0, 4.0),) * 3)
        >>> cp(x, 1).converged
        True
    """
    _check.at_least("cp", 1, rank=rank, max_iterations=max_iterations)
    if method not in METHODS:
        raise ValueError(f"`cp(method=...)` must be one of {', '.join(METHODS)}. Got {method!r}.")
    if x.ndim < 2 or x.numel() == 0 or not bool(torch.isfinite(x).all()):
        raise ValueError(
            "`cp(x=...)` must be a finite, non-empty tensor of order two or more. Got shape "
            f"{tuple(x.shape)}{'' if x.numel() == 0 else ', perhaps with NaN or infinite values'}."
        )
    dense = x.detach().to(torch.float64)
    norm = float(dense.norm())
    if norm == 0:
        zeros = CP(tuple(torch.zeros(d, rank, dtype=x.dtype, device=x.device) for d in x.shape))
        return Decomposition(zeros, 0.0, True, "The tensor is zero.", 0, 0)
    dense = dense / norm
    generator = torch.Generator().manual_seed(seed)
    start = [torch.randn(d, rank, dtype=torch.float64, generator=generator) for d in x.shape]
    factors, error, steps = [f.to(x.device) for f in start], math.inf, 0
    if method != "lm":
        factors, error, steps = _als(dense, factors, tolerance, max_iterations)
    small = x.numel() * rank * sum(x.shape) <= _LARGEST_JACOBIAN
    if method == "lm" or (method == "auto" and error > tolerance and small):
        factors, more = _levenberg_marquardt(dense, factors, tolerance, max_iterations)
        steps += more
    scale = norm ** (1 / x.ndim)
    value = CP(tuple((scale * f).to(x.dtype) for f in _balance(factors)))
    error = float((value.to_dense().to(torch.float64) / norm - dense).norm())
    converged = error <= max(tolerance, 10 * torch.finfo(x.dtype).eps)
    message = f"Relative error {error:.1e} at rank {rank} after {steps} steps" + (
        "." if converged else f", above the tolerance {tolerance:.1e}: try a higher rank or seed."
    )
    return Decomposition(value, error, converged, message, steps, 0)


def _als(
    dense: Tensor, factors: list[Tensor], tolerance: float, max_iterations: int
) -> tuple[list[Tensor], float, int]:
    unfoldings = [dense.movedim(k, 0).reshape(d, -1) for k, d in enumerate(dense.shape)]
    error, pull = math.inf, 1e-2
    for sweep in range(1, max_iterations + 1):
        for k, unfolding in enumerate(unfoldings):
            factors[k] = _proximal_step(unfolding, factors, k, pull)
        if sweep % 10 == 0 or sweep == max_iterations:
            factors = _balance(factors)
            error = float((CP(tuple(factors)).to_dense() - dense).norm())
            if error <= tolerance:
                break
            pull = min(1e-2, max(1e-14, 0.1 * error * error))
    return factors, error, sweep


def _khatri_rao(factors: list[Tensor]) -> Tensor:  # (d_1 ... d_n, r)
    product = factors[0]
    for f in factors[1:]:
        product = (product[:, None, :] * f).flatten(0, 1)
    return product


def _proximal_step(unfolding: Tensor, factors: list[Tensor], k: int, pull: float) -> Tensor:
    others = [f for i, f in enumerate(factors) if i != k]
    gram = math.prod((f.mT @ f for f in others), start=torch.ones_like(others[0].mT @ others[0]))
    right = unfolding @ _khatri_rao(others) + pull * factors[k]
    left = gram + pull * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    triangle, failed = torch.linalg.cholesky_ex(left)
    if int(failed):
        solution: Tensor = torch.linalg.lstsq(left, right.mT).solution
        return solution.mT
    return torch.cholesky_solve(right.mT, triangle).mT


def _levenberg_marquardt(
    dense: Tensor, factors: list[Tensor], tolerance: float, max_iterations: int
) -> tuple[list[Tensor], int]:
    """Damped Gauss-Newton on all factors; the damping follows the success of the steps."""
    sizes = [f.numel() for f in factors]
    residual = (dense - CP(tuple(factors)).to_dense()).flatten()
    damping = 1e-2
    for step in range(1, max_iterations + 1):
        J = _jacobian(factors)
        wide = J.shape[1] > J.shape[0]
        gram = J @ J.mT if wide else J.mT @ J
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        while damping < 1e6:
            triangle, failed = torch.linalg.cholesky_ex(gram + damping * eye)
            if not int(failed):
                right = residual if wide else J.mT @ residual
                move = torch.cholesky_solve(right[:, None], triangle)[:, 0]
                move = J.mT @ move if wide else move
                moved = [f + m.view_as(f) for f, m in zip(factors, move.split(sizes), strict=True)]
                new = (dense - CP(tuple(moved)).to_dense()).flatten()
                if new.norm() < residual.norm():
                    break
            damping *= 4
        else:
            return factors, step
        slow = bool(new.norm() > (1 - 1e-7) * residual.norm())
        factors, residual = _balance(moved), new
        damping = max(damping / 5, 1e-15)
        if float(residual.norm()) <= tolerance or slow:
            break
    return factors, step


def _jacobian(factors: list[Tensor]) -> Tensor:  # (entries of x, entries of all factors)
    columns = []
    rank = factors[0].shape[1]
    shape = [f.shape[0] for f in factors]
    for k, d in enumerate(shape):
        others = _khatri_rao([f for i, f in enumerate(factors) if i != k])  # (rest, r)
        eye = torch.eye(d, dtype=others.dtype, device=others.device)
        block = torch.einsum("ij,qr->iqjr", eye, others)
        block = block.reshape(d, *[s for i, s in enumerate(shape) if i != k], d * rank)
        columns.append(block.movedim(0, k).reshape(-1, d * rank))
    return torch.cat(columns, 1)


def _balance(factors: list[Tensor]) -> list[Tensor]:
    """Give the vectors of each term the same length."""
    norms = torch.stack([f.norm(dim=0) for f in factors]).clamp(min=1e-300)
    mean = norms.log().mean(0).exp()
    return [f * (mean / n) for f, n in zip(factors, norms, strict=True)]
