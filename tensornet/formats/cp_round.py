"""Lower the rank of a CP value."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.cp import CP
from tensornet.formats.cp_fit import cp

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
    """
    _check.tolerance("CP.round", tolerance=tolerance)
    if max_rank is not None:
        _check.at_least("CP.round", 1, max_rank=max_rank)
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
        norms = torch.stack([f.norm(dim=0) for f in value.factors])
        sizes = (norms.prod(0) * value._weights().abs()).tolist()
        units = [f / n.clamp(min=1e-30) for f, n in zip(value.factors, norms, strict=True)]
    groups: list[list[int]] = []
    for r, size in enumerate(sizes):
        if size > 0:
            near = next((g for g in groups if _parallel(units, g[0], r)), None)
            if near is None:
                groups.append([r])
            else:
                near.append(r)
    if len(groups) == value.rank:
        return value
    groups = groups or [[0]]
    weights = [_joined_weight(value, g) for g in groups]
    return CP(tuple(f[:, [g[0] for g in groups]] for f in value.factors), torch.stack(weights))


def _parallel(units: list[Tensor], r: int, s: int) -> bool:
    """Compare the vectors themselves: a cosine hides differences of the root of round-off."""
    for u in units:
        cosine = u[:, r].conj().dot(u[:, s])
        if float((u[:, s] - cosine * u[:, r]).norm()) > 100 * torch.finfo(u.dtype).eps:
            return False
    return True


def _joined_weight(value: CP, group: list[int]) -> Tensor:
    """Project the terms of a group on its first one."""
    columns = [f[:, group] for f in value.factors]
    grams = [c[:, 0].conj() @ c for c in columns]  # (terms,) each
    share = math.prod(g / g[0].real.clamp(min=1e-30) for g in grams)
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
