"""Terms from a generalised eigenvalue problem of two mixed slices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet.formats.cp_data import solve
from tensornet.formats.cp_terms import balance, distance, gram_product, khatri_rao

# Error of an attempt that needs no other one.
_GOOD = 0.05
_ATTEMPTS = 4


def gevd(x: Tensor, rank: int, seed: int) -> list[Tensor] | None:
    """Compute the terms algebraically, where two modes have exactly `rank` indices.

    With x = sum of a b c, two mixtures of slices are M = A D B^T and N = A E B^T with diagonal
    D and E, so that the vectors a are the eigenvectors of M N^-1. Exact for an exact rank, and
    a start for anything else. The first attempt mixes nothing and takes the first two slices,
    which are the largest ones after compression; the others, if that is not good, are random.

    Args:
        x: Tensor of norm one.
        rank: Number of terms.
        seed: Of the mixtures.

    Returns:
        Factors (d_k, r) with equal norms in each term, or nothing where no two modes allow it.

    References:
        Leurgans, Ross & Abel, SIAM J. Matrix Anal. Appl. 14, 1064 (1993); Beltrán, Breiding &
        Vannieuwenhoven, SIAM J. Matrix Anal. Appl. 40, 739 (2019) on why to refine it.
    """
    fitting = [k for k, d in enumerate(x.shape) if d == rank]
    if len(fitting) < 2:
        return None
    p, q = fitting[:2]
    rest = [k for k in range(x.ndim) if k not in (p, q)]
    slices = x.permute(*rest, p, q).reshape(-1, rank, rank)
    if len(slices) == 1:
        U, s, Vh = torch.linalg.svd(slices[0])
        ones = [x.new_ones(1, rank) for _ in rest]
        return _ordered(x, [U * s, Vh.mT, *ones], [p, q, *rest])
    generator = torch.Generator().manual_seed(seed)
    best, least = None, math.inf
    for attempt in range(_ATTEMPTS):
        mix = torch.zeros(2, len(slices), dtype=x.dtype)
        if attempt == 0:
            mix[0, 0] = mix[1, 1] = 1
        else:
            mix = torch.randn(2, len(slices), dtype=x.dtype, generator=generator)
        found = _from_pair(x, slices, mix.to(x.device), (p, q), rest)
        error = math.inf if found is None else distance(x, found)
        if error < least:
            best, least = found, error
        if least < _GOOD:
            break
    return best


def _from_pair(
    x: Tensor, slices: Tensor, mix: Tensor, pair: tuple[int, int], rest: list[int]
) -> list[Tensor] | None:
    M, N = (mix @ slices.flatten(1)).view(2, *slices.shape[1:])
    ratio, failed = torch.linalg.solve_ex(N, M, left=False)  # M N^-1
    if int(failed) or not bool(ratio.isfinite().all()):
        return None
    A = _real_vectors(ratio)
    B, failed = torch.linalg.solve_ex(A, N)
    if int(failed) or not bool(B.isfinite().all()):
        return None
    B = B.mT / B.norm(dim=1).clamp(min=1e-300)
    gram = gram_product([A.mT @ A, B.mT @ B])
    right = torch.einsum("kpq,pr,qr->kr", slices, A, B)
    C = solve(gram, right, torch.zeros_like(right), 1e-15, 0.0)
    sizes = [x.shape[k] for k in rest]
    return _ordered(x, [A, B, *_split(C, sizes)], [*pair, *rest])


def _real_vectors(matrix: Tensor) -> Tensor:
    """Eigenvectors; of a complex pair, the real and the imaginary part."""
    values, vectors = torch.linalg.eig(matrix)
    real = torch.where(values.imag >= 0, vectors.real, vectors.imag)
    unit: Tensor = real / real.norm(dim=0).clamp(min=1e-300)
    return unit


def _split(C: Tensor, sizes: list[int]) -> list[Tensor]:
    """Write each column, a tensor of these sizes, as an outer product."""
    factors = []
    for d in sizes[:-1]:
        columns = C.mT.reshape(C.shape[1], d, -1)
        U, s, Vh = torch.linalg.svd(columns, full_matrices=False)
        factors.append(U[:, :, 0].mT)
        C = (s[:, :1] * Vh[:, 0]).mT
    return [*factors, C]


def _ordered(x: Tensor, factors: list[Tensor], modes: list[int]) -> list[Tensor]:
    placed = dict(zip(modes, factors, strict=True))
    found = [placed[k] for k in range(x.ndim)]
    scale = (khatri_rao(found[:-1]).mT @ x.reshape(-1, x.shape[-1]) @ found[-1]).diagonal().sum()
    square = gram_product([f.mT @ f for f in found]).sum().clamp(min=1e-300)
    return balance([found[0] * (scale / square), *found[1:]])
