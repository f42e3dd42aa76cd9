"""CP under constraints, by TensorLy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tensornet.formats.cp_solve import Plan
from tensornet.formats.cp_terms import Fit


def constrained(x: Tensor, plan: Plan, constraints: Mapping[str, Any]) -> Fit:
    """Fit with TensorLy: HALS where all factors are non-negative, else AO-ADMM.

    Args:
        x: Tensor of norm one.
        plan: What was asked for. The tolerance is that of the change of the error.
        constraints: Keywords of `tensorly.decomposition.constrained_parafac`.

    Returns:
        The factors; their number of iterations is not known.
    """
    from tensorly import backend_context
    from tensorly.decomposition import constrained_parafac, non_negative_parafac_hals

    generator = torch.Generator().manual_seed(plan.seed)
    draws = [torch.rand(d, plan.rank, dtype=x.dtype, generator=generator) for d in x.shape]
    start = (torch.ones(plan.rank, dtype=x.dtype, device=x.device), [f.to(x.device) for f in draws])
    with backend_context("pytorch", local_threadsafe=True):
        options = {"n_iter_max": plan.max_iterations, "init": start}
        if dict(constraints) == {"non_negative": True}:
            weights, factors = non_negative_parafac_hals(
                x, plan.rank, tol=plan.tolerance, **options
            )
        else:
            weights, factors = constrained_parafac(
                x, plan.rank, tol_outer=plan.tolerance, **options, **constraints
            )
    factors = [factors[0] * weights, *factors[1:]]
    return Fit(factors, 0.0, 0, False)
