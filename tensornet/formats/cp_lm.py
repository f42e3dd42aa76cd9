"""Levenberg-Marquardt for sums of outer products, without a Jacobian.

With p the entries of all factors, J the derivative of the tensor by them and ρ the residual, a
step solves (Jᵀ J + λ) Δp = Jᵀ ρ, or Δp = Jᵀ (J Jᵀ + λ)⁻¹ ρ where that system is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet.formats.cp_als import STATIONARY
from tensornet.formats.cp_data import Known, Whole
from tensornet.formats.cp_terms import Fit, balance, cancellation

# Unknowns of the largest system that is solved.
LARGEST_SYSTEM = 6000
# Steps for which the damping stays after it had to be raised.
_REST = 3
# Terms so much larger than the tensor mean that they diverge.
DIVERGED = 1e3


def levenberg_marquardt(
    data: Whole | Known,
    factors: Sequence[Tensor],
    *,
    tolerance: float,
    max_iterations: int,
    ridge: float = 0.0,
) -> Fit:
    """Fit by damped Gauss-Newton steps in all factors at once.

    Args:
        data: What to fit, of norm one or a little less.
        factors: Where to start.
        tolerance: Error at which to stop.
        max_iterations: Steps at most.
        ridge: Weight of the squared entries of the factors.

    Returns:
        The last factors.

    References:
        Tomasi & Bro, A comparison of algorithms for fitting the PARAFAC model (2006); Sorber,
        Van Barel & De Lathauwer, SIAM J. Optim. 23, 695 (2013).
    """
    factors = balance(factors)
    rho = data.residual(factors)
    error = float(rho.norm())
    wide = ridge == 0 and data.wide(factors[0].shape[1])
    damping, step, slow, past, rest = 1e-2, 0, 0, math.inf, 0
    for step in range(1, max_iterations + 1):
        system = data.outer(factors) if wide else data.normal(factors)
        objective = error * error + ridge * _squares(factors)
        while damping < 1e6:
            moved = _moved(data, system, rho, factors, damping, ridge, wide)
            if moved is not None:
                new = data.residual(moved)
                new_error = float(new.norm())
                new_objective = new_error * new_error + ridge * _squares(moved)
                if new_objective < objective:
                    break
            damping, rest = 4 * damping, _REST
        else:
            return Fit(factors, error, step, True)
        gain = 1 - new_objective / objective
        factors, rho, error = balance(moved), new, new_error
        damping = damping if rest else max(damping / 5, 1e-15)
        rest = max(rest - 1, 0)
        slow = slow + 1 if gain < STATIONARY else 0
        if error <= tolerance or slow == 2:
            return Fit(factors, error, step, slow == 2)
        if step % 10 == 0:
            if cancellation(factors)[0] > DIVERGED and error > 0.9 * past:
                return Fit(factors, error, step, False)
            past = error
    return Fit(factors, error, step, False)


def _squares(factors: list[Tensor]) -> float:
    return sum(float(f.square().sum()) for f in factors)


def _moved(
    data: Whole | Known,
    system: Tensor,
    rho: Tensor,
    factors: list[Tensor],
    damping: float,
    ridge: float,
    wide: bool,
) -> list[Tensor] | None:
    shifted = system.clone()
    shifted.diagonal().add_(damping + ridge)
    triangle, failed = torch.linalg.cholesky_ex(shifted)
    if int(failed):
        return None
    if wide:
        solution = torch.cholesky_solve(rho.reshape(-1, 1), triangle).view(rho.shape)
        return [f + m for f, m in zip(factors, data.pulled(solution, factors), strict=True)]
    pulled = zip(data.pulled(rho, factors), factors, strict=True)
    right = torch.cat([(m - ridge * f).flatten() for m, f in pulled])
    move = torch.cholesky_solve(right[:, None], triangle)[:, 0]
    parts = move.split([f.numel() for f in factors])
    return [f + m.view_as(f) for f, m in zip(factors, parts, strict=True)]
