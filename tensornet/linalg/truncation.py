r"""Cut a matrix to a lower rank, with a derivative that stays finite where it exists.

Only the *subspace* of the leading singular vectors is used, never single vectors, so equal
singular values on the same side of the cut do no harm. With x = U S V^H, kept part 1 and
dropped part 2, the basis U1 moves out of its span by

    dU1 = U2 [(U2^H dx V1 S1 + S2 V2^H dx^H U1) / (s1² - s2²)] + (1 - U U^H) dx V1 / S1,

which divides by differences across the cut only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tensornet import _check

METHODS = ("auto", "svd", "gram", "randomized")


@dataclass(frozen=True)
class Truncated:
    """A matrix as a product of two thin ones, left @ right.

    Args:
        left: Orthonormal columns, (d1, r).
        right: What they multiply, left^H x, (r, d2).
        weight: Norm of what was dropped, squared.
    """

    left: Tensor
    right: Tensor
    weight: float


def truncate(
    x: Tensor,  # (d1, d2)
    *,
    rank: int | None = None,
    tolerance: float = 0.0,
    scale: float | None = None,
    method: str = "auto",
    seed: int = 0,
) -> Truncated:  # left (d1, r), right (r, d2)
    """Split a matrix into two factors and drop the smallest directions.

    The product of the factors is the best approximation of its rank in the Frobenius norm, up to
    the accuracy of the method.

    Args:
        x: Real or complex matrix.
        rank: Largest rank to keep. ``None`` keeps all that `tolerance` leaves.
        tolerance: Largest norm to drop, relative to `scale`.
        scale: What the tolerance is relative to. By default the norm of `x`.
        method: ``"svd"`` (after a QR decomposition of long matrices); ``"gram"``, the
            eigenvectors of the smaller Gram matrix, faster and blind below the square root of
            round-off; ``"randomized"``, a range finder with one power iteration, for ranks far
            below the sizes; ``"auto"``, Gram where it sees enough, else SVD.
        seed: Seed of the randomized method.

    Returns:
        The factors, at least of rank one, and the weight that was dropped.

    Raises:
        TypeError: If `x` holds whole numbers.
        ValueError: If `x` is no finite matrix, `rank` is below one, the tolerance or the scale is
            negative, or the method is unknown. In the backward pass, if singular values on both
            sides of the cut are equal: the best approximation is then not unique.

    Derivatives:
        First order.

    References:
        Eckart & Young, Psychometrika 1, 211 (1936); Halko, Martinsson & Tropp, SIAM Review 53,
        217 (2011), algorithm 4.4.

    Examples:
        >>> x = torch.diag(torch.tensor([3.0, 1.0]))
        >>> truncate(x, rank=1).weight
        1.0
    """
    _check.dense("truncate", "x", x, order=2)
    _check.tolerance("truncate", tolerance=tolerance, scale=scale)
    if rank is not None:
        _check.at_least("truncate", 1, rank=rank)
    _check.one_of("truncate", METHODS, method=method)
    matrix = x.detach()
    norm = float(torch.linalg.vector_norm(matrix))
    allowed = tolerance * (norm if scale is None else scale)
    if method == "randomized":
        left = _randomized(matrix, rank, allowed, norm, seed)
    elif method == "svd":
        left = _svd(matrix, rank, allowed)
    else:
        left = _gram(matrix, rank, allowed, norm, exact=method == "auto")
    if x.requires_grad:
        left = _LeadingSubspace.apply(x, left)  # type: ignore[no-untyped-call]
    right = left.mH @ x
    return Truncated(left, right, _dropped(matrix, left.detach(), right.detach(), norm))


def n_kept(
    squares: Tensor,  # (d,)
    rank: int | None,
    allowed: float,
) -> int:
    """Count the leading directions to keep so that the norm of the others is allowed.

    Args:
        squares: Squared singular values, largest first.
        rank: Largest number to keep, or none.
        allowed: Largest norm to drop.
    """
    tails = squares.flip(0).cumsum(0)  # the last 1, 2, ... together
    kept = len(squares) - int((tails <= allowed * allowed).sum())
    return max(1, kept if rank is None else min(kept, rank))


def _svd(x: Tensor, rank: int | None, allowed: float) -> Tensor:
    d1, d2 = x.shape
    q = None
    if d2 > 1.2 * d1:
        x = torch.linalg.qr(x.mH, mode="r").R.mH
    elif d1 > 1.2 * d2:
        q, x = torch.linalg.qr(x)
    U, s, _ = torch.linalg.svd(x, full_matrices=False)
    left: Tensor = U[:, : n_kept(s.square(), rank, allowed)]
    return left if q is None else q @ left


def _gram(x: Tensor, rank: int | None, allowed: float, norm: float, *, exact: bool) -> Tensor:
    """Eigenvectors of the Gram matrix. With `exact`, an SVD where it cannot tell what to keep."""
    wide = x.shape[0] <= x.shape[1]
    values, vectors = torch.linalg.eigh(x @ x.mH if wide else x.mH @ x)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    r = n_kept(values, rank, allowed)
    floor = 1e4 * torch.finfo(x.dtype).eps * norm * norm  # of eigenvalues one can trust
    dropped = float(values[r:].sum())
    if exact and (dropped < floor if r < len(values) else not wide):
        return _svd(x, rank, allowed)
    left: Tensor = vectors[:, :r] if wide else torch.linalg.qr(x @ vectors[:, :r]).Q
    return left


def _randomized(x: Tensor, rank: int | None, allowed: float, norm: float, seed: int) -> Tensor:
    """Grow an orthonormal basis of the range by blocks until what is left is allowed."""
    generator = torch.Generator(device=x.device).manual_seed(seed)
    most = min(x.shape)
    block = min(most, 16 if rank is None else rank + 8)
    basis: Tensor = x[:, :0]
    while True:
        sketch = torch.randn(x.shape[1], block, dtype=x.dtype, device=x.device, generator=generator)
        new = x @ sketch
        new = torch.linalg.qr(new - basis @ (basis.mH @ new)).Q
        new = x @ (x.mH @ new)  # one power iteration
        new = new - basis @ (basis.mH @ new)
        basis = torch.linalg.qr(torch.cat([basis, torch.linalg.qr(new).Q], 1)).Q
        right = basis.mH @ x
        enough = rank is not None and basis.shape[1] >= rank
        left_over = math.sqrt(_dropped(x, basis, right, norm))
        if enough or left_over <= 0.5 * allowed or basis.shape[1] >= most:
            break
        block = min(2 * block, most - basis.shape[1])
    allowed = math.sqrt(max(allowed * allowed - left_over * left_over, 0.0))
    return basis @ _svd(right, rank, allowed)


def _dropped(x: Tensor, left: Tensor, right: Tensor, norm: float) -> float:
    """Squared norm of x - left right; by the difference of norms where that is accurate."""
    kept = float(torch.linalg.vector_norm(right))
    weight = (norm - kept) * (norm + kept)
    if weight > 1e6 * torch.finfo(x.dtype).eps * norm * norm:
        return weight
    return float(torch.linalg.vector_norm(x - left @ right)) ** 2


class _LeadingSubspace(torch.autograd.Function):
    """An orthonormal basis that was found without autograd, with its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, basis: Tensor) -> Tensor:
        ctx.save_for_backward(x, basis)
        return basis.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, basis = ctx.saved_tensors
        r = basis.shape[1]
        U1, s1, V1 = torch.linalg.svd(basis.mH @ x, full_matrices=False)
        # A basis wider than x has rank for directions that x does not have; they do not move it.
        turn = U1
        U1 = basis @ turn
        rest = x - basis @ (basis.mH @ x)
        U2, s2, V2 = torch.linalg.svd(rest, full_matrices=False)
        top = float(torch.cat([s1, s2]).max())
        tiny = torch.finfo(x.dtype).eps * max(x.shape) * top
        U2, s2, V2 = (part[..., : int((s2 > tiny).sum())] for part in (U2, s2, V2.mH))
        V1 = V1.mH
        grad = grad @ turn
        grad = grad - basis @ (basis.mH @ grad)
        inside = U2.mH @ grad
        outside = grad - U2 @ inside
        kept = s1 > tiny  # directions of zero length carry no derivative of left @ right
        if len(s2) and bool(kept.any()):
            gap = s1[None, kept] - s2[:, None]
            if float(gap.abs().min()) <= 1e3 * tiny:
                raise ValueError(
                    f"`truncate` has no derivative here: the singular value {float(s1[kept].min())}"
                    f" is on both sides of the cut at rank {r}, so that the best approximation is "
                    "not unique. Keep or drop all directions that share it: change the rank or the "
                    "tolerance."
                )
        zero = torch.zeros_like(s1)
        inverse = torch.where(kept, 1 / torch.where(kept, s1, torch.ones_like(s1)), zero)
        K = torch.where(kept, inside / _gaps(s1, s2, kept), torch.zeros_like(inside))
        out = (U2 @ (K * s1)) @ V1.mH + (U1 @ (K.mH * s2)) @ V2.mH + (outside * inverse) @ V1.mH
        return out, None


def _gaps(s1: Tensor, s2: Tensor, kept: Tensor) -> Tensor:  # (dropped, kept)
    """Differences of squares, as products that do not cancel."""
    gap = (s1 - s2[:, None]) * (s1 + s2[:, None])
    return torch.where(kept, gap, torch.ones_like(gap))
