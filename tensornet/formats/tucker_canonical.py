r"""From a sum of outer products to the Tucker format, without computing entries.

With columns scaled to length one and c_r the length of term r (its sign and phase included), an
unfolding of x = Σ_r c_r a_r ∘ b_r ∘ ... is W K^T: the side matrix W = [|c_r| a_r], and a matrix K
of unit columns. Dropping E from W drops at most √R ‖E‖ from x, since the norm of K is at most √R
for R terms. So a basis P_k of all but a negligible E_k is taken for each mode, then the core
Σ_r c_r P_1^H a_r ∘ P_2^H b_r ∘ ... is truncated as a dense tensor: its error is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet.formats.tucker_truncation import (
    Truncation,
    bases_with_derivative,
    improved,
    leading,
    relative_error,
    sequential,
)

# Part of the tolerance that the reduction of the side matrices may use.
_SHARE = 0.1
# Up to so many terms, what the reduction dropped is computed; beyond, it is bounded.
_MANY_TERMS = 2000
# Entries of the products of columns that are held at once.
_BLOCK = 4_000_000


def truncated_canonical(
    factors: Sequence[Tensor],  # (d_k, r)
    weights: Tensor | None,  # (r,)
    most: Sequence[int],
    allowed: float,
    *,
    method: str = "auto",
    sweeps: int = 0,
    ranked: bool = True,
) -> tuple[Tensor, tuple[Tensor, ...], float, bool]:
    """Bring a sum of outer products into the Tucker format.

    Args:
        factors: A matrix for each mode.
        weights: One number per term, or none.
        most: Largest rank of each mode.
        allowed: Largest relative error; zero if the ranks alone decide.
        method: How the core is truncated, as for `tensornet.formats.tucker`.
        sweeps: Sweeps of orthogonal iteration on the core.
        ranked: Whether the ranks were asked for.

    Returns:
        The core, the orthonormal factors, the relative error, and whether that is only a bound.

    References:
        Khoromskij & Khoromskaia, SIAM J. Sci. Comput. 31, 3002 (2009), the reduced HOSVD, here
        with weighted side matrices.
    """
    tracked = any(part.requires_grad for part in (*factors, weights) if part is not None)
    with torch.no_grad():
        units, terms, scale = _unit_terms(factors, weights)
        if not len(terms):
            eyes = [torch.eye(len(f), 1, dtype=f.dtype, device=f.device) for f in factors]
            return factors[0].new_zeros((1,) * len(factors)), tuple(eyes), 0.0, False
        bases, core, bound = _reduced(units, terms, 0.0 if tracked else allowed)
        norm = float(torch.linalg.vector_norm(core))
        room = math.sqrt(max(0.0, (allowed * norm) ** 2 - bound * bound))
        limits = [min(r, size) for r, size in zip(most, core.shape, strict=True)]
        cut = sequential(core, limits, room, method=method, ranked=ranked)
        for _ in range(sweeps):
            cut = improved(core, cut)
        inside = relative_error(core, cut, norm) * norm
        bounded = bound > inside
        if bounded and len(terms) <= _MANY_TERMS:
            bound, bounded = _outside(units, terms, bases), False
        norm = math.hypot(norm, 0.0 if bounded else bound)
        rounding = 16 * torch.finfo(terms.dtype).eps * float(torch.linalg.vector_norm(terms))
        error = math.hypot(inside, bound, rounding) / norm
    if tracked:
        core, found = _with_derivative(factors, weights, bases, cut, sweeps)
        return core, found, error, bounded
    left = tuple(basis @ inner for basis, inner in zip(bases, cut.bases, strict=True))
    return cut.core * scale, left, error, bounded


def _unit_terms(
    factors: Sequence[Tensor], weights: Tensor | None
) -> tuple[list[Tensor], Tensor, float]:
    """Give unit columns, lengths of terms (largest one), and the scale taken out of these."""
    length = factors[0].new_zeros(factors[0].shape[1])
    sign = torch.ones_like(factors[0][0])
    if weights is not None:
        length, sign = weights.abs().log(), weights.sgn()
    units = []
    for f in factors:
        top = f.abs().amax(0).clamp(min=torch.finfo(f.dtype).tiny)  # squares would underflow
        norm = torch.linalg.vector_norm(f / top, dim=0)
        units.append(f / top / torch.where(norm > 0, norm, torch.ones_like(norm)))
        length = length + top.log() + norm.log()
    there = length > -math.inf
    if not bool(there.any()):
        return units, sign[:0], 1.0
    most = float(length.max())
    return [u[:, there] for u in units], (sign * (length - most).exp())[there], math.exp(most)


def _reduced(
    units: Sequence[Tensor], terms: Tensor, allowed: float
) -> tuple[list[Tensor], Tensor, float]:
    """Reduce the side matrices; give bases, the core in them, and a bound of what was dropped."""
    n, rank = len(units), len(terms)
    total = float(torch.linalg.vector_norm(terms))
    tiny = 4 * torch.finfo(terms.dtype).eps * total
    guess = total
    while True:
        share = max(_SHARE * allowed * guess / math.sqrt(n * rank), tiny)
        bases, squares = [], 0.0
        for unit in units:
            side = unit * terms.abs()
            basis, dropped, _ = leading(side, 0, min(side.shape), share, "auto")
            bases.append(basis)
            squares += dropped
        core = canonical_core(terms, [b.mH @ u for b, u in zip(bases, units, strict=True)])
        bound = math.sqrt(rank * squares)
        norm = float(torch.linalg.vector_norm(core))
        if share == tiny or bound <= 3 * _SHARE * allowed * norm:
            return bases, core, bound
        guess = min(norm, guess / 10)


def canonical_core(weights: Tensor | None, sides: Sequence[Tensor]) -> Tensor:  # (r_1, ..., r_d)
    """Sum up outer products of columns, block by block of terms.

    Args:
        weights: One number per term, or none.
        sides: A matrix (r_k, r) for each mode.
    """
    shape = [len(side) for side in sides]
    rank = sides[0].shape[1]
    step = max(1, _BLOCK // math.prod(shape[:-1]))
    core = sides[0].new_zeros(math.prod(shape[:-1]), shape[-1])
    for begin in range(0, rank, step):
        block = [side[:, begin : begin + step] for side in sides]
        if weights is not None:
            block[-1] = block[-1] * weights[begin : begin + step]
        core = core + _khatri_rao(block[:-1], block[-1]) @ block[-1].mT
    return core.reshape(shape)


def _khatri_rao(matrices: Sequence[Tensor], like: Tensor) -> Tensor:  # (d_1 ... d_n, r)
    """Multiply columns with each other; of no matrix, ones."""
    product = matrices[0] if matrices else torch.ones_like(like[:1])
    for matrix in matrices[1:]:
        product = (product[:, None] * matrix).flatten(0, 1)
    return product


def _outside(units: Sequence[Tensor], terms: Tensor, bases: Sequence[Tensor]) -> float:
    """Norm of what is outside of the bases, as a sum of orthogonal parts, one per mode."""
    inside = [b @ (b.mH @ u) for b, u in zip(bases, units, strict=True)]
    kept = [u.mH @ u for u in inside]
    whole = [u.mH @ u for u in units]
    square = 0.0
    for k, (u, v) in enumerate(zip(units, inside, strict=True)):
        gram = (u - v).mH @ (u - v)
        for matrix in (*kept[:k], *whole[k + 1 :]):
            gram = gram * matrix
        square += max(0.0, float(torch.vdot(terms, gram @ terms).real))
    return math.sqrt(square)


def _with_derivative(
    factors: Sequence[Tensor],
    weights: Tensor | None,
    bases: Sequence[Tensor],
    cut: Truncation,
    sweeps: int,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    def unfolding(k: int, sides: list[Tensor]) -> Tensor:
        side = sides[k] if weights is None else sides[k] * weights
        others = [other for j, other in enumerate(sides) if j != k]
        return side @ _khatri_rao(others, side).mT

    projected = [basis.mH @ f for basis, f in zip(bases, factors, strict=True)]
    modes = cut.modes * (1 + sweeps)
    found = bases_with_derivative(unfolding, projected, factors, cut.core.shape, modes)
    return (
        canonical_core(weights, [b.mH @ f for b, f in zip(found, factors, strict=True)]),
        tuple(found),
    )
