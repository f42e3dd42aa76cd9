"""How the methods follow each other: compress, start, iterate, and leave the compressed space."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tensornet.formats.cp_als import als
from tensornet.formats.cp_compress import compress, expand, project_all
from tensornet.formats.cp_data import Known, Whole
from tensornet.formats.cp_gevd import gevd
from tensornet.formats.cp_lm import LARGEST_SYSTEM, levenberg_marquardt
from tensornet.formats.cp_terms import Fit, cancellation

# Ratio of dropped to kept squared singular values below which compression costs nothing.
_HARMLESS = 1e-6
# Relative decrease of the squared error that is not worth another round outside of it.
_WORTH = 1e-6
# Times that the ridge which bounds the terms is halved.
_LOWERED = 20
# Random starts at most, unknowns above which there is one only, and the ratio of errors at which
# two starts count as having found the same.
_STARTS = 4
_LARGEST_RESTARTED = 1500
_SAME = 1.001
# Sweeps on a tensor filled up with zeros, before the known entries alone are fitted.
_FILLED = 20


@dataclass(frozen=True)
class Plan:
    """What was asked for.

    Args:
        rank: Number of terms.
        method: Word of `cp`.
        tolerance: Error at which to stop.
        max_iterations: Sweeps, and steps, at most.
        seed: Of the start.
        ridge: Weight of the squared entries of the factors.
    """

    rank: int
    method: str
    tolerance: float
    max_iterations: int
    seed: int
    ridge: float = 0.0


def fit_whole(x: Tensor, norm: float, plan: Plan) -> Fit:
    """Fit all entries.

    Args:
        x: Tensor.
        norm: Its norm.
        plan: What was asked for.

    Returns:
        Factors of the tensor divided by its norm.

    Raises:
        ValueError: If the method is ``"gevd"`` and no two modes allow it.
    """
    core, bases, ratio = compress(x, plan.rank)
    core = core / norm
    start = gevd(core, plan.rank, plan.seed)
    if plan.method == "gevd":
        if start is None:
            raise ValueError(
                f"`cp(method='gevd')` must have two modes of at least rank = {plan.rank} indices. "
                f"Got shape {tuple(x.shape)}. (Take another method.)"
            )
        return Fit(expand(start, bases), math.inf, 1, False)
    found = _restarted(core, plan) if start is None else optimise(Whole(core), start, plan)
    if all(basis is None for basis in bases):
        return found
    found = replace(found, factors=expand(found.factors, bases))
    if ratio < _HARMLESS or plan.ridge > 0:
        return found
    return _polished(x / norm, found, plan)


def fit_known(x: Tensor, mask: Tensor, norm: float, plan: Plan) -> Fit:
    """Fit the known entries.

    Args:
        x: Tensor.
        mask: Whether an entry is known, as `x`.
        norm: Norm of the known entries.
        plan: What was asked for.

    Returns:
        Factors of the tensor divided by that norm.
    """
    share = float(mask.sum()) / mask.numel()
    filled = torch.where(mask, x, 0.0) / share
    known = Known(x / norm, mask)
    rough = replace(plan, method="als", max_iterations=_FILLED, tolerance=0.0)
    start = fit_whole(filled, norm, rough).factors
    return optimise(known, start, plan)


def fit_bounded(fit: Callable[[Plan], Fit], plan: Plan, bound: float) -> Fit:
    """Fit with terms whose norms stay below a bound, by about the smallest ridge that does it.

    Args:
        fit: Fits with a plan.
        plan: What was asked for.
        bound: Largest norm of a term.
    """
    free = fit(plan)
    if cancellation(free.factors)[0] <= bound:
        return free
    ridge, best = 1e-3, None
    while best is None:  # the terms shrink as the ridge grows
        found = fit(replace(plan, ridge=ridge))
        best = found if cancellation(found.factors)[0] <= bound else None
        ridge *= 1 if best else 4
    for _ in range(_LOWERED):
        found = fit(replace(plan, ridge=ridge / 2))
        if cancellation(found.factors)[0] > bound:
            break
        best, ridge = found, ridge / 2
    return best


def _restarted(x: Tensor, plan: Plan) -> Fit:
    """Fit from random starts, until the tolerance is met or two of them agree."""
    generator = torch.Generator().manual_seed(plan.seed)
    data, steps = Whole(x), 0
    once = plan.method != "auto" or plan.ridge > 0 or data.size(plan.rank) > _LARGEST_RESTARTED
    fits: list[Fit] = []
    for _ in range(1 if once else _STARTS):
        draws = [torch.randn(d, plan.rank, dtype=x.dtype, generator=generator) for d in x.shape]
        fits.append(optimise(data, [f.to(x.device) for f in draws], plan))
        steps += fits[-1].steps
        fits.sort(key=lambda fit: fit.error)
        if fits[0].error <= plan.tolerance:
            break
        if len(fits) > 1 and fits[1].error < _SAME * fits[0].error:
            break
    return replace(fits[0], steps=steps)


def optimise(data: Whole | Known, start: list[Tensor], plan: Plan) -> Fit:
    """Iterate: sweeps while they are fast or steps dear, then steps.

    Args:
        data: What to fit, of norm one or a little less.
        start: Factors.
        plan: What was asked for.
    """
    tolerance, most, ridge = plan.tolerance, plan.max_iterations, plan.ridge
    size = data.size(plan.rank)
    if plan.method == "als" or (plan.method == "auto" and size > LARGEST_SYSTEM):
        return als(data, start, tolerance=tolerance, max_iterations=most, ridge=ridge)
    steps = 0
    if plan.method == "auto":
        per_step = size**3 / 3 + 1e7  # operations; the second part stands for overhead
        per_sweep = 6.0 * math.prod(len(f) for f in start) * plan.rank + 3e6
        patience = 12 * per_step / per_sweep
        first = als(
            data, start, tolerance=tolerance, max_iterations=most, ridge=ridge, patience=patience
        )
        if first.error <= tolerance or first.stationary:
            return first
        start, steps = first.factors, first.steps
    second = levenberg_marquardt(data, start, tolerance=tolerance, max_iterations=most, ridge=ridge)
    return replace(second, steps=steps + second.steps)


def _polished(x: Tensor, found: Fit, plan: Plan) -> Fit:
    """Leave the compressed space: fit in the span of the factors before and after a sweep."""
    last, steps, data = math.inf, found.steps, Whole(x)
    while True:
        swept = als(data, found.factors, tolerance=plan.tolerance, max_iterations=1)
        steps += 1
        settled = last * last - swept.error**2 < _WORTH * swept.error**2
        if swept.error <= plan.tolerance or settled or steps >= plan.max_iterations:
            return Fit(swept.factors, swept.error, steps, settled)
        last = swept.error
        bases = [
            torch.linalg.qr(torch.cat([g, f], 1)).Q if len(f) > 2 * plan.rank else None
            for f, g in zip(found.factors, swept.factors, strict=True)
        ]
        core = project_all(x, bases)
        start = [
            f if basis is None else basis.mT @ f
            for f, basis in zip(swept.factors, bases, strict=True)
        ]
        inner = optimise(Whole(core), start, plan)
        steps += inner.steps
        found = replace(inner, factors=expand(inner.factors, bases))
        if all(basis is None for basis in bases):
            return replace(found, steps=steps)
