"""Lower the rank of a CP value."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet.formats.cp import CP
from tensornet.formats.cp_fit import cp
from tensornet.formats.format import check_limits

# Largest dense tensor, after compression, that is decomposed again.
_LARGEST_CORE = 10_000_000
# Starts tried at each rank.
_SEEDS = 3


def rounded(value: CP, tolerance: float, max_rank: int | None) -> CP:
    """Lower the rank, as the method `CP.round` says.

    Args:
        value: What to round.
        tolerance: Largest error, relative to the norm.
        max_rank: Largest rank.

    Returns:
        A `CP` of the same shape.

    Raises:
        NotImplementedError: If the rank must be fitted, and a factor requires grad or is complex.
        ValueError: If the value is not finite, a limit is out of range, or the value compresses
            to too many entries to be fitted.
    """
    check_limits("CP.round", tolerance, max_rank)
    value._check_finite("CP.round")
    if value.order == 1:  # a vector is one term
        return CP((value.to_dense()[:, None],))
    joined = _joined(value)
    most = joined.rank if max_rank is None else min(max_rank, joined.rank)
    if joined.rank == 1 or (most == joined.rank and tolerance == 0):
        return joined
    if torch.is_grad_enabled() and any(p.requires_grad for p in value.parts().values()):
        raise NotImplementedError(
            "`CP.round(...)` must not need gradients: the derivative of the iteration that lowers "
            "the rank does not exist here. (Detach the value.)"
        )
    if value.dtype.is_complex:
        raise NotImplementedError(
            f"`CP.round(...)` must be of a real value, where terms cannot be joined. Got "
            f"{value.dtype}."
        )
    return _refitted(joined, tolerance, most)


def _joined(value: CP) -> CP:
    """Add up terms that are multiples of each other, and drop those that are zero."""
    with torch.no_grad():
        tiny = torch.finfo(value.dtype).tiny
        units, there = list[Tensor](), value._weights() != 0
        for f in value.factors:
            unit = f / f.abs().amax(0).clamp(min=tiny)  # squares of the entries would underflow
            length = torch.linalg.vector_norm(unit, dim=0)
            units.append(unit / length.clamp(min=tiny))
            there = there & (length > 0)
    groups: list[list[int]] = []
    for r, counts in enumerate(there.tolist()):
        if counts:
            near = next((g for g in groups if _parallel(units, g[0], r)), None)
            if near is None:
                groups.append([r])
            else:
                near.append(r)
    if len(groups) == value.rank:
        return value
    if not groups:
        return CP(tuple(torch.zeros_like(f[:, :1]) for f in value.factors))
    weights = [_joined_weight(value, units, g) for g in groups]
    return CP(tuple(f[:, [g[0] for g in groups]] for f in value.factors), torch.stack(weights))


def _parallel(units: list[Tensor], r: int, s: int) -> bool:
    """Compare the vectors themselves: a cosine hides differences of the root of round-off."""
    for u in units:
        cosine = u[:, r].conj().dot(u[:, s])
        if float((u[:, s] - cosine * u[:, r]).norm()) > 100 * torch.finfo(u.dtype).eps:
            return False
    return True


def _joined_weight(value: CP, units: list[Tensor], group: list[int]) -> Tensor:
    """Add up the terms of a group in units of its first one, with its weight of one."""
    along = [u[:, group[0]].conj() @ f[:, group] for u, f in zip(units, value.factors, strict=True)]
    share = math.prod(a / a[0] for a in along)  # (terms,)
    weight: Tensor = (share * value._weights()[group]).sum()
    return weight


def _refitted(value: CP, tolerance: float, most: int) -> CP:
    """Try ranks, by halving the interval between one and what is there."""
    splits = [torch.linalg.qr(f) if f.shape[0] > f.shape[1] else None for f in value.factors]
    small = [f if s is None else s.R for f, s in zip(value.factors, splits, strict=True)]
    if math.prod(len(f) for f in small) > _LARGEST_CORE:
        raise ValueError(
            "`CP.round(...)` must be of a value that compresses to at most "
            f"{_LARGEST_CORE:,} entries. Got {' x '.join(str(len(f)) for f in small)}. (Convert it "
            "to a tensor train.)"
        )
    core = CP(tuple(small), value.weights).to_dense()
    best = _best(core, most, tolerance)
    low, high = 1, most
    while tolerance > 0 and best[1] <= tolerance and low < high:
        middle = (low + high) // 2
        found = _best(core, middle, tolerance)
        if found[1] <= tolerance:
            best, high = found, middle
        else:
            low = middle + 1
    if most == value.rank and (best[1] > tolerance or best[0].rank == value.rank):
        return value
    pairs = zip(best[0].factors, splits, strict=True)
    return CP(tuple(f if s is None else s.Q @ f for f, s in pairs))


def _best(core: Tensor, rank: int, tolerance: float) -> tuple[CP, float]:
    """Fit from a few starts until the tolerance is met."""
    best: tuple[CP, float] | None = None
    for seed in range(_SEEDS):
        found = cp(core, rank, tolerance=max(tolerance, 1e-15), seed=seed)
        if best is None or found.relative_error < best[1]:
            best = (found.value, found.relative_error)
        if best[1] <= tolerance or tolerance == 0:
            break
    assert best is not None
    return best
