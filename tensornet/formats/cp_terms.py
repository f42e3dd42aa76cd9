"""Sums of outer products by their factors: contractions, Gram matrices, sizes of terms.

Letters: x the tensor, of n modes of sizes d; A_k the factors, (d_k, r); Γ the entrywise product
of the Gram matrices A_kᵀ A_k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Entries worked on at a time.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Fit:
    """What an iteration ended with.

    Args:
        factors: Factors, (d_k, r).
        error: Norm of the difference, for a tensor of norm one.
        steps: Sweeps or steps done.
        stationary: Whether it stopped because nothing changed any more.
    """

    factors: list[Tensor]
    error: float
    steps: int
    stationary: bool


def khatri_rao(factors: Sequence[Tensor]) -> Tensor:  # (d_1 ... d_n, r)
    """Multiply the vectors of each term out.

    Args:
        factors: Any number of factors, at least one.
    """
    product = factors[0]
    for f in factors[1:]:
        product = (product[:, None, :] * f).flatten(0, 1)
    return product


def gram_product(grams: Sequence[Tensor], *skip: int) -> Tensor:  # (r, r)
    """Multiply Gram matrices entry by entry.

    Args:
        grams: One per mode.
        skip: Modes to leave out.
    """
    kept = [g for k, g in enumerate(grams) if k not in skip]
    return math.prod(kept[1:], start=kept[0]) if kept else torch.ones_like(grams[0])


def tail(x: Tensor, factors: Sequence[Tensor]) -> Tensor:  # (d_1, ..., d_n-1, r)
    """Contract the last mode, which the contractions of all other modes share.

    Args:
        x: Tensor.
        factors: One per mode.
    """
    return x @ factors[-1]


def contract(partial: Tensor, factors: Sequence[Tensor], mode: int) -> Tensor:  # (d_mode, r)
    """Contract all modes but one, term by term.

    Args:
        partial: The tensor with its last mode contracted, of `tail`.
        factors: One per mode, the last one unused.
        mode: Which to leave, not the last.
    """
    for k in range(len(factors) - 2, mode, -1):
        partial = (partial * factors[k]).sum(-2)
    for k in range(mode):
        shape = [-1] + [1] * (partial.ndim - 2) + [factors[k].shape[1]]
        partial = (partial * factors[k].view(shape)).sum(0)
    return partial


def contract_last(x: Tensor, factors: Sequence[Tensor]) -> Tensor:  # (d_n, r)
    """Contract all modes but the last, term by term.

    Args:
        x: Tensor.
        factors: One per mode, the last one unused.
    """
    first = factors[0].mT @ x.reshape(x.shape[0], -1)  # (r, rest)
    partial = first.reshape(len(first), *x.shape[1:])
    for f in factors[1:-1]:
        rest = partial.shape[2:]
        partial = torch.bmm(f.mT[:, None, :], partial.flatten(2)).reshape(-1, *rest)
    return partial.mT


def contract_all(x: Tensor, factors: Sequence[Tensor]) -> list[Tensor]:  # (d_k, r) each
    """Contract all modes but one, for each mode: the transposed Jacobian applied to `x`.

    Args:
        x: Tensor.
        factors: One per mode.
    """
    partial = tail(x, factors)
    head = [contract(partial, factors, k) for k in range(len(factors) - 1)]
    return [*head, contract_last(x, factors)]


def residual(x: Tensor, factors: Sequence[Tensor]) -> Tensor:  # as x
    """Subtract the sum of the terms from `x`.

    Args:
        x: Tensor of two modes or more.
        factors: One per mode.
    """
    flat = x.reshape(-1, x.shape[-1])
    return torch.addmm(flat, khatri_rao(factors[:-1]), factors[-1].mT, alpha=-1).view(x.shape)


def distance(x: Tensor, factors: Sequence[Tensor]) -> float:
    """Norm of the difference from the sum of the terms, in blocks that stay in the cache.

    Args:
        x: Tensor of two modes or more.
        factors: One per mode.
    """
    rest = khatri_rao(factors[1:-1]) if len(factors) > 2 else factors[0].new_ones(1, 1)
    length = max(1, _BLOCK // (len(rest) * x.shape[-1]))
    squared = 0.0
    for block, rows in zip(x.split(length), factors[0].split(length), strict=True):
        left = (rows[:, None, :] * rest).flatten(0, 1)
        flat = block.reshape(-1, x.shape[-1])
        difference = torch.addmm(flat, left, factors[-1].mT, alpha=-1).flatten()
        squared += float(difference.dot(difference))
    return math.sqrt(squared)


def balance(factors: Sequence[Tensor]) -> list[Tensor]:
    """Give the vectors of each term the same length.

    Args:
        factors: One per mode.
    """
    norms = torch.stack([f.norm(dim=0) for f in factors]).clamp(min=1e-300)
    mean = norms.log().mean(0).exp()
    return [f * (mean / n) for f, n in zip(factors, norms, strict=True)]


def cancellation(factors: Sequence[Tensor]) -> tuple[float, float]:
    """Give the largest norm of a term, and the smallest cosine between two terms.

    Args:
        factors: One per mode.
    """
    norms = math.prod((f.norm(dim=0) for f in factors[1:]), start=factors[0].norm(dim=0))
    units = [f / f.norm(dim=0).clamp(min=1e-300) for f in factors]
    cosines = gram_product([u.mT @ u for u in units])
    return float(norms.max()), float(cosines.min())
