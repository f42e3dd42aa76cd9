"""Compute a CP format: the door, its checks, and the certificate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.cp import CP
from tensornet.formats.cp_constrained import constrained
from tensornet.formats.cp_data import Known
from tensornet.formats.cp_solve import Plan, fit_bounded, fit_known, fit_whole
from tensornet.formats.cp_terms import Fit, balance, cancellation, distance
from tensornet.formats.decomposition import Decomposition

METHODS = ("auto", "als", "lm", "gevd")
# Terms above this multiple of the norm that cancel each other are called degenerate.
_DEGENERATE = 10.0


def cp(
    x: Tensor,  # (d_1, ..., d_n)
    rank: int,
    *,
    method: str = "auto",
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
    seed: int = 0,
    mask: Tensor | None = None,
    max_term_norm: float | None = None,
    constraints: Mapping[str, Any] | None = None,
) -> Decomposition[CP]:
    """Approximate a tensor by a sum of `rank` outer products.

    Modes larger than the rank are first compressed to it. Where two modes then have as many
    indices as there are terms, the start is algebraic (``"gevd"``: a generalised eigenvalue
    problem, exact where the rank is exact); else it is random. ``"als"`` is alternating least
    squares, pulled towards its last value, which gets it through swamps, with an exact line
    search. ``"lm"`` is Levenberg-Marquardt on all factors at once, dearer per step and quadratic
    at the end. ``"auto"`` sweeps while that is quick and finishes with steps; where there is no
    algebraic start, small problems are begun a few times, until the tolerance is met or two ends
    agree. If compression may have cost accuracy, the fit goes on outside of the compressed space.

    Args:
        x: Real tensor of order two or more. Computed in float64.
        rank: Number of terms.
        method: ``"auto"``, ``"als"``, ``"lm"`` or ``"gevd"``.
        tolerance: Relative Frobenius error at which to stop.
        max_iterations: Sweeps of ALS, and steps of LM, at most, from each start. A fit that no
            longer changes stops before.
        seed: Seed of the random start. The same seed gives the same factors.
        mask: True where an entry is known. The others are ignored, may be NaN, and do not count
            in the error. By default all are known.
        max_term_norm: Largest norm of a term, relative to that of `x`, kept by a penalty on the
            factors. For tensors that have no best approximation of this rank, whose terms would
            grow and cancel without end. By default unbounded.
        constraints: Keywords of `tensorly.decomposition.constrained_parafac`, which then does the
            work, as in ``{"non_negative": True}`` (by HALS) or ``{"smoothness": 0.1}``.

    Returns:
        The factors with equal norms in each term, in the dtype of `x`; the relative error is
        that of the difference, over the known entries. ``converged`` means that the tolerance
        was reached or that no step lowered the error any more, the message says which; it is
        false if the terms diverge.

    Raises:
        TypeError: If `x` is no tensor of real floating numbers, or the mask is not boolean.
        ValueError: If `x` is of order below two, empty, or not finite; a number is out of range
            (the largest rank is one term per fibre, exact for any tensor); the method is unknown,
            or GEVD does not apply; the mask has another shape or leaves an index of a mode
            without any entry; or options exclude each other.
        NotImplementedError: If `x` requires grad. (The factors are found by an iteration from a
            random start; take the gradient of a loss by the factors themselves.)

    References:
        Kolda & Bader, SIAM Review 51, 455 (2009); Li, Kindermann & Navasca, Some convergence
        results on the regularized alternating least-squares method (2013); Tomasi & Bro, A
        comparison of algorithms for fitting the PARAFAC model (2006); Sorber, Van Barel & De
        Lathauwer, SIAM J. Optim. 23, 695 (2013); de Silva & Lim, SIAM J. Matrix Anal. Appl. 30,
        1084 (2008) on tensors without a best approximation.

    Examples:
        >>> x = torch.einsum("i,j,k->ijk", *(torch.arange(1.0, 4.0),) * 3)
        >>> cp(x, 1).converged
        True
    """
    plan = Plan(rank, method, tolerance, max_iterations, seed)
    _checked(x, plan, mask, max_term_norm, constraints)
    dense = x.detach().to(torch.float64).contiguous()
    if mask is not None:
        dense = torch.where(mask, dense, 0.0)
    norm = _norm(dense)
    if norm == 0:
        zeros = CP(tuple(torch.zeros(d, rank, dtype=x.dtype, device=x.device) for d in x.shape))
        return Decomposition(zeros, 0.0, True, "The tensor is zero.", 0, 0)
    scale = norm ** (1 / x.ndim)
    if not 1e-100 < norm < 1e100:  # squares would overflow
        dense, norm = dense / norm, 1.0

    def fit(plan: Plan) -> Fit:
        if constraints:
            return constrained(dense / norm, plan, constraints)
        return fit_whole(dense, norm, plan) if mask is None else fit_known(dense, mask, norm, plan)

    found = fit(plan) if max_term_norm is None else fit_bounded(fit, plan, max_term_norm)
    factors = found.factors if constraints else balance(found.factors)
    value = CP(tuple((scale * f).to(x.dtype) for f in factors))
    final = [f.to(torch.float64) * (norm ** (1 / x.ndim) / scale) for f in value.factors]
    error = distance(dense, final) if mask is None else Known(dense, mask).error(final)
    error /= norm
    reached = error <= max(tolerance, 10 * torch.finfo(x.dtype).eps)
    converged, message = _verdict(found, error, reached, plan)
    return Decomposition(value, error, converged, message, found.steps, 0)


def _norm(x: Tensor) -> float:
    flat = x.flatten()
    square = float(flat.dot(flat))
    if 1e-290 < square < 1e290:
        return math.sqrt(square)
    largest = float(flat.abs().max())
    return largest * float((flat / largest).norm()) if largest else 0.0


def _verdict(found: Fit, error: float, reached: bool, plan: Plan) -> tuple[bool, str]:
    largest, cosine = cancellation(found.factors)
    how = f"Relative error {error:.1e} at rank {plan.rank} after {found.steps} steps"
    terms = f"the largest term is {largest:.1e} times the tensor and cancels with another one"
    # a fit that still moves may be on its way there
    degenerate = cosine < -0.9 and largest > (_DEGENERATE if found.stationary else 2)
    if reached:
        return True, f"{how}; {terms}." if degenerate else f"{how}."
    above = f"{how}, above the tolerance {plan.tolerance:.1e}"
    if degenerate:
        return False, (
            f"{above}. Degenerate: {terms}, so there may be no best approximation of this rank. "
            "(Give a higher rank, or bound the terms by `max_term_norm`.)"
        )
    if found.stationary:
        return True, f"{above}, where it no longer falls: a higher rank or another seed may do."
    return False, f"{above}: try a higher rank, another seed or more iterations."


def _checked(
    x: Tensor,
    plan: Plan,
    mask: Tensor | None,
    max_term_norm: float | None,
    constraints: Mapping[str, Any] | None,
) -> None:
    _check.at_least("cp", 1, rank=plan.rank, max_iterations=plan.max_iterations)
    _check.tolerance("cp", tolerance=plan.tolerance, max_term_norm=max_term_norm)
    _check.one_of("cp", METHODS, method=plan.method)
    if mask is not None and isinstance(x, Tensor):
        _check_mask(x, mask)
        x = torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))
    _check.dense("cp", "x", x, least=2)
    if x.is_complex():
        raise TypeError(f"`cp(x=...)` must be real. Got {x.dtype}.")
    most = x.numel() // max(x.shape)
    if plan.rank > most:
        raise ValueError(
            f"`cp(rank=...)` must be at most {most}, at which every tensor of shape "
            f"{tuple(x.shape)} is exact. Got {plan.rank}."
        )
    if x.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError(
            "`cp(x=...)` must not require grad: the derivative of an iteration from a random "
            "start does not exist here. (Detach `x`; the factors are ordinary tensors, so a loss "
            "can be differentiated by them.)"
        )
    if max_term_norm == 0:
        raise ValueError("`cp(max_term_norm=...)` must be above zero. Got 0.")
    if constraints and (mask is not None or max_term_norm is not None or plan.method != "auto"):
        raise ValueError(
            "`cp(constraints=...)` must come without `mask`, `max_term_norm` and `method`, which "
            f"TensorLy's constrained fit does not take. Got constraints {dict(constraints)}."
        )


def _check_mask(x: Tensor, mask: Tensor) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"`cp(mask=...)` must be a boolean tensor. Got {kind}.")
    if mask.shape != x.shape or mask.device != x.device:
        raise ValueError(
            f"`cp(mask=...)` must be as `x`, {tuple(x.shape)} on {x.device}. Got "
            f"{tuple(mask.shape)} on {mask.device}."
        )
    for k in range(x.ndim):
        counts = mask.movedim(k, 0).flatten(1).any(1)
        if not bool(counts.all()):
            index = int((~counts).nonzero()[0])
            raise ValueError(
                f"`cp(mask=...)` must leave an entry at every index of every mode. Got none at "
                f"index {index} of mode {k}. (Leave that index out of `x`.)"
            )
