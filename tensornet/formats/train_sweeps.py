r"""Sweeps over the cores of a train, which no length of the train makes overflow.

Partial contractions are divided by powers of two, which is exact, and the exponents are summed
apart: a value is `m 2^e exp(log_scale)`. Letters: `m` a partial contraction, `e` an exponent, `r`
ranks, `d` size of a mode, `T_k` the matrix (r_k, d_k d_k+1 ...) of all cores from k on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_LN2 = math.log(2.0)
# Largest exponents of two whose power is in range, with some room.
_EXPONENTS = {torch.float64: 1000, torch.float16: 14}


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """Give the type of absolute values."""
    return torch.empty(0, dtype=dtype).abs().dtype


def split_scale(x: Tensor) -> tuple[Tensor, Tensor]:
    """Divide by a power of two so that the largest entry is about one; give the exponent too."""
    largest = x.detach().abs().amax()
    limit = _EXPONENTS.get(largest.dtype, 120)
    e = torch.frexp(largest).exponent.clamp(-limit, limit)
    return x * torch.exp2(-e.to(largest.dtype)), e


def scale_back(
    m: Tensor,  # (...)
    e: Tensor | int,
    log_scale: Tensor,  # ()
) -> Tensor:  # (...)
    """Give m 2^e exp(log_scale), exactly where it is a power of two times `m`."""
    shift = torch.round(log_scale.detach() / _LN2)
    rest = torch.exp(log_scale - shift * _LN2)
    power = shift + e
    half = torch.floor(power / 2)  # in two steps: one may be out of range where the result is not
    return m * rest * torch.exp2(half) * torch.exp2(power - half)


def log_of(e: Tensor | int, log_scale: Tensor) -> Tensor:
    """Add e ln 2 to a logarithm."""
    return log_scale + (e.to(log_scale.dtype) if isinstance(e, Tensor) else e) * _LN2


def inner(
    left: Sequence[Tensor],  # (r, d, r') each
    right: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:  # (), ()
    """Sum of products of entries, the first conjugated, as a number and an exponent."""
    m, e = left[0].new_ones(1, 1), torch.zeros((), dtype=torch.int64, device=left[0].device)
    for f, g in zip(left, right, strict=True):
        moved = (m @ g.reshape(g.shape[0], -1)).reshape(-1, g.shape[2])
        m, more = split_scale(f.reshape(-1, f.shape[2]).mH @ moved)
        e = e + more
    return m.reshape(()), e


def norm(cores: Sequence[Tensor]) -> tuple[Tensor, Tensor]:  # (), ()
    """Norm as a number and an exponent, by QR: accurate where large terms cancel. No gradient."""
    m = cores[0].new_ones(1, 1).detach()
    e = torch.zeros((), dtype=torch.int64, device=m.device)
    for core in cores:
        m = (m @ core.detach().reshape(core.shape[0], -1)).reshape(-1, core.shape[2])
        if m.shape[0] > m.shape[1]:
            m = torch.linalg.qr(m, mode="r").R
        m, more = split_scale(m)
        e = e + more
    return torch.linalg.vector_norm(m), e


def dense(cores: Sequence[Tensor], log_scale: Tensor) -> Tensor:  # (d_1, ..., d_n)
    """Multiply all cores out."""
    scaled = [split_scale(core) for core in cores]
    e = sum((e for _, e in scaled[1:]), scaled[0][1])
    m = scaled[0][0].reshape(-1, cores[0].shape[2])
    for core, _ in scaled[1:]:
        m = (m @ core.reshape(core.shape[0], -1)).reshape(-1, core.shape[2])
    return scale_back(m, e, log_scale).reshape([core.shape[1] for core in cores])


def entries(
    cores: Sequence[Tensor],
    indices: Sequence[Tensor],  # (n,) each
    log_scale: Tensor,
) -> Tensor:  # (n,)
    """Give entries, many at a time."""
    chunk = max(1, 2**24 // max(core.shape[0] * core.shape[2] for core in cores))
    n = len(indices[0])
    if n > chunk:
        parts = [[i[a : a + chunk] for i in indices] for a in range(0, n, chunk)]
        return torch.cat([entries(cores, part, log_scale) for part in parts])
    m = cores[0].new_ones(n, 1)
    e = torch.zeros(n, dtype=log_scale.dtype, device=m.device)
    limit = min(_EXPONENTS.get(e.dtype, 120), 120)
    for core, index in zip(cores, indices, strict=True):
        m = _next(m, core, index.to(core.device))
        largest = m.detach().abs().amax(1)
        more = torch.frexp(largest).exponent.clamp(-limit, limit).to(e.dtype)
        m, e = m * torch.exp2(-more)[:, None], e + more
    return scale_back(m[:, 0], e, log_scale)


def _next(
    m: Tensor,  # (n, r)
    core: Tensor,  # (r, d, r')
    index: Tensor,  # (n,)
) -> Tensor:  # (n, r')
    """Multiply each row by its matrix. Many rows per matrix are sorted and multiplied together."""
    d = core.shape[1]
    if len(index) < 8 * d:
        return torch.bmm(m[:, None], core.movedim(1, 0)[index])[:, 0]
    order = torch.argsort(index)
    counts = torch.bincount(index, minlength=d).tolist()
    rows = torch.split(m[order], counts)
    together = torch.cat([part @ core[:, i] for i, part in enumerate(rows)])
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return together[back]


def merge(pieces: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:  # (), e
    """Multiply matrices (r, r') that stand between cores (r, d, r') into a core beside them.

    Without any core, the one number that is left comes as a tensor without axes.
    """
    cores: list[Tensor] = []
    pending: Tensor | None = None
    e = torch.zeros((), dtype=torch.int64, device=pieces[0].device)
    for piece in pieces:
        m = piece
        if pending is not None:
            m = (pending @ piece.reshape(piece.shape[0], -1)).reshape(-1, *piece.shape[1:])
        if m.ndim == 2:
            pending, more = split_scale(m)
            e = e + more
        else:
            cores.append(m)
            pending = None
    if pending is not None and cores:
        cores[-1] = cores[-1] @ pending
    elif pending is not None:
        cores = [pending.reshape(())]
    return cores, e


def tails(cores: Sequence[Tensor], *, gram: bool = False) -> tuple[list[Tensor], list[int]]:
    """Give for every k a small matrix L_k with L_k L_k^H = T_k T_k^H, and its exponent.

    L_k is known up to a unitary matrix on its right. The derivative is that of functions which do
    not feel this matrix: with T = L Q it is dL Q, finite where L is singular.
    """
    m, e = cores[-1].new_ones(1, 1), 0
    found, exponents = [m], [0]
    for core in reversed(cores):
        m = (core.reshape(-1, core.shape[2]) @ m).reshape(core.shape[0], -1)
        if m.shape[1] > m.shape[0]:
            m = _gram_factor(m) if gram and not m.requires_grad else left_factor(m)
        m, more = split_scale(m)
        e += int(more)
        found.append(m)
        exponents.append(e)
    return found[::-1], exponents[::-1]


def left_factor(x: Tensor) -> Tensor:
    """Give a square L of x = L Q, for use in functions of L L^H only."""
    if x.requires_grad:
        left: Tensor = _LeftFactor.apply(x)  # type: ignore[no-untyped-call]
    else:
        left = torch.linalg.qr(x.mH, mode="r").R.mH
    return left


def _gram_factor(x: Tensor) -> Tensor:
    """Give L of x x^H = L L^H, accurate to the root of round-off."""
    values, vectors = torch.linalg.eigh(x @ x.mH)
    left: Tensor = vectors * values.clamp(min=0).sqrt()
    return left


class _LeftFactor(torch.autograd.Function):
    """L of x = L Q, for use in functions of L L^H only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        q, r = torch.linalg.qr(x.mH)
        ctx.save_for_backward(q)
        left: Tensor = r.mH.contiguous()
        return left

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        q: Tensor = ctx.saved_tensors[0]
        return grad @ q.mH


def orthogonalize(cores: Sequence[Tensor], center: int) -> tuple[list[Tensor], Tensor]:  # cores, e
    """Make cores before `center` orthonormal from the left, those after it from the right."""
    new = list(cores)
    e = torch.zeros((), dtype=torch.int64, device=cores[0].device)
    for k in range(center):
        core = new[k]
        q, r = torch.linalg.qr(core.reshape(-1, core.shape[2]))
        r, more = split_scale(r)
        e = e + more
        new[k] = q.reshape(core.shape[0], core.shape[1], -1)
        following = new[k + 1]
        moved = r @ following.reshape(following.shape[0], -1)
        new[k + 1] = moved.reshape(-1, *following.shape[1:])
    for k in range(len(new) - 1, center, -1):
        core = new[k]
        q, r = torch.linalg.qr(core.reshape(core.shape[0], -1).mH)
        r, more = split_scale(r)
        e = e + more
        new[k] = q.mH.reshape(-1, core.shape[1], core.shape[2])
        new[k - 1] = new[k - 1] @ r.mH
    return new, e
