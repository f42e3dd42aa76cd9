r"""The sequentially truncated higher-order SVD, for dense tensors and for cores.

The modes are compressed one after the other, each by the leading left singular vectors of what
the modes before have left. The squares of what the modes drop add up to the squared error, so
that what one mode leaves of its share of a tolerance is passed on to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet.linalg import truncate
from tensornet.linalg.mode_product import gram, mode_multiplied, unfolded
from tensornet.linalg.truncation import n_kept

# Eigenvalues of a Gram matrix are trusted above this many units of round-off of its trace.
_TRUSTED = 1e3


@dataclass(frozen=True)
class Truncation:
    """A tensor in orthonormal bases.

    Args:
        core: The coefficients, (r_1, ..., r_d).
        bases: Orthonormal columns for each mode, (d_k, r_k).
        modes: The modes in the order in which they were compressed.
        dropped: Squared error as the sum of squared singular values, if all of these are known.
    """

    core: Tensor
    bases: tuple[Tensor, ...]
    modes: tuple[int, ...]
    dropped: float | None = None


def sequential(
    x: Tensor,  # (d_1, ..., d_n)
    most: Sequence[int],
    allowed: float,
    *,
    method: str = "auto",
    ranked: bool = True,
) -> Truncation:
    """Truncate the modes of a tensor one after the other, without autograd.

    Args:
        x: The tensor, with a norm whose fourth power is a number.
        most: Largest rank of each mode.
        allowed: Largest norm of the error.
        method: As for `tensornet.formats.tucker`.
        ranked: Whether `most` was asked for, so that the sizes to come are known beforehand.
    """
    modes = best_order(x.shape, most if ranked else None)
    bases: list[Tensor] = [x] * x.ndim
    budget, total, sharp = allowed * allowed, 0.0, True
    for step, k in enumerate(modes):
        share = math.sqrt(budget / (x.ndim - step))
        bases[k], dropped, known = leading(x, k, most[k], share, method)
        d, r = bases[k].shape
        if method == "auto" and known and r < d < x.numel() // d:
            method = "svd"  # what the Gram matrix of one mode does not see, that of no mode does
        x = mode_multiplied(x, bases[k].mH, k)
        budget = max(0.0, budget - dropped)
        total, sharp = total + dropped, sharp and known
    for k in modes:  # a mode that came early may have kept more than the later ones can use
        if x.shape[k] ** 2 > x.numel():
            inner, *_ = _exact(x, k, x.numel() // x.shape[k], 0.0)
            bases[k] = bases[k] @ inner
            x = mode_multiplied(x, inner.mH, k)
    return Truncation(x, tuple(bases), modes, total if sharp else None)


def best_order(shape: Sequence[int], ranks: Sequence[int] | None) -> tuple[int, ...]:
    """Give the order of the modes in which compressing them costs least.

    Compressing a mode costs its size times the entries there are, and leaves a share r/d of them.
    The cheapest order is by increasing (d + r) / (1 - r/d), as exchanging two neighbours shows;
    with unknown ranks it is by size. Among equals the last and the first mode come first: they
    need no copy.

    Args:
        shape: Size of each mode.
        ranks: Rank of each mode, if known.

    Examples:
        >>> best_order((30, 10, 20), None)
        (1, 2, 0)
    """
    n = len(shape)

    def price(k: int) -> tuple[float, bool]:
        d, inside = shape[k], 0 < k < n - 1
        if ranks is None:
            return d, inside
        r = min(ranks[k], d)
        return ((d + r) / (1 - r / d) if r < d else math.inf), inside

    return tuple(sorted(range(n), key=price))


def leading(
    x: Tensor, mode: int, most: int, allowed: float, method: str
) -> tuple[Tensor, float, bool]:  # (d, r)
    """Find an orthonormal basis of the leading left singular vectors of an unfolding.

    Args:
        x: The tensor.
        mode: The mode that becomes the rows.
        most: Largest rank.
        allowed: Largest norm to drop.
        method: As for `tensornet.formats.tucker`.

    Returns:
        The basis, the square of the norm that it drops, and whether that comes from singular
        values.
    """
    d = x.shape[mode]
    rest = x.numel() // d
    most = min(most, d, rest)
    if d == 1:
        return x.new_ones(1, 1), 0.0, True
    if method == "auto" and allowed == 0.0 and d >= 256 and 12 * (most + 8) < d < rest:
        method = "randomized"
    if method == "randomized":
        return _drawn(x, mode, most, allowed)
    if method == "svd" or rest <= d or (method == "auto" and _too_fine(x, mode, most, allowed)):
        return _exact(x, mode, most, allowed)
    values, vectors = torch.linalg.eigh(gram(x, mode))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    noise = torch.finfo(x.dtype).eps * float(values.sum())
    r = n_kept(values, most, math.sqrt(max(0.0, allowed * allowed - 10 * noise)))
    dropped = float(values[r:].sum())
    trusted = allowed * allowed > _TRUSTED * noise or (r == most < d and dropped > _TRUSTED * noise)
    if method == "gram" or trusted:
        return vectors[:, :r], dropped, r == d
    return _exact(x, mode, most, allowed)


def _too_fine(x: Tensor, mode: int, most: int, allowed: float) -> bool:
    """Foresee whether a Gram matrix would not see what is to be dropped; it is checked again."""
    least = _TRUSTED * torch.finfo(x.dtype).eps
    if allowed > 0:
        return allowed * allowed <= least * float(torch.linalg.vector_norm(x)) ** 2
    matrix = unfolded(x, mode)
    d, rest = matrix.shape
    if rest < 16 * d:
        return False
    few = matrix[:, :: rest // (2 * d)]
    values = torch.linalg.eigvalsh(few @ few.mH)
    return float(values[: d - most].sum()) <= least * float(values.sum())


def _exact(x: Tensor, mode: int, most: int, allowed: float) -> tuple[Tensor, float, bool]:
    """Find the leading subspace by a QR and a singular value decomposition."""
    matrix, basis = unfolded(x, mode), None
    d, rest = matrix.shape
    if rest > d:
        matrix = torch.linalg.qr(matrix.mH, mode="r").R.mH
    elif rest < d:
        basis, matrix = torch.linalg.qr(matrix)
    U, s, _ = torch.linalg.svd(matrix, full_matrices=False)
    r = n_kept(s.square(), most, allowed)
    left = U[:, :r] if basis is None else basis @ U[:, :r]
    return left, float(s[r:].square().sum()), True


def _drawn(x: Tensor, mode: int, most: int, allowed: float) -> tuple[Tensor, float, bool]:
    """Find the leading subspace by random vectors and two power iterations."""
    matrix = unfolded(x, mode)
    if allowed > 0:
        cut = truncate(matrix, rank=most, tolerance=allowed, scale=1.0, method="randomized")
        return cut.left, cut.weight, False
    width = min(most + 10, *matrix.shape)
    generator = torch.Generator(device=x.device).manual_seed(0)
    left = torch.randn(len(matrix), width, dtype=x.dtype, device=x.device, generator=generator)
    for _ in range(2):
        right = torch.linalg.qr(matrix.mH @ torch.linalg.qr(left).Q).Q
        left = matrix @ right
    return torch.linalg.svd(left, full_matrices=False).U[:, :most], 0.0, False


def bases_with_derivative(
    unfolding: Callable[[int, list[Tensor]], Tensor],
    projected: Sequence[Tensor],
    sides: Sequence[Tensor],
    ranks: Sequence[int],
    modes: Sequence[int],
    method: str = "svd",
) -> list[Tensor]:
    r"""Find the bases of a sequential truncation again, with their derivatives.

    Only the Gram matrices A_j^H A_j of the other modes' sides enter the basis of a mode, and to
    first order that of P_j^H A_j, with a *constant* orthonormal basis P_j of the columns of A_j,
    is the same. So the other modes may be small, and dependent columns do no harm.

    Args:
        unfolding: Makes the unfolding of a mode from what stands for the side of each mode.
        projected: P_j^H A_j for each mode.
        sides: A_j for each mode.
        ranks: Rank of each mode.
        modes: The modes in the order in which they are done, once or several times.
        method: As for `tensornet.linalg.truncate`.
    """
    standing = list(projected)
    bases = list(sides)
    for k in modes:
        matrix = unfolding(k, [sides[j] if j == k else z for j, z in enumerate(standing)])
        bases[k] = truncate(matrix, rank=ranks[k], method=method).left
        standing[k] = bases[k].mH @ sides[k]
    return bases


def multiplied(core: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Multiply the modes of a tensor by matrices, those that shrink most first.

    Args:
        core: The tensor.
        matrices: One for each mode, or ``None`` where nothing is to be done.
    """
    chosen = [(k, matrix) for k, matrix in enumerate(matrices) if matrix is not None]
    for k, matrix in sorted(chosen, key=lambda pair: pair[1].shape[0] / pair[1].shape[1]):
        core = mode_multiplied(core, matrix, k)
    return core


def improved(x: Tensor, cut: Truncation) -> Truncation:
    """Improve every basis in turn, the others held: a sweep of orthogonal iteration.

    Args:
        x: The tensor.
        cut: What is known.
    """
    bases, y = list(cut.bases), x
    for k in cut.modes:
        y = multiplied(x, [None if j == k else b.mH for j, b in enumerate(bases)])
        bases[k], *_ = leading(y, k, bases[k].shape[1], 0.0, "auto")
    last = cut.modes[-1]
    return Truncation(mode_multiplied(y, bases[last].mH, last), tuple(bases), cut.modes)


def relative_error(x: Tensor, cut: Truncation, norm: float) -> float:
    """Give the relative error, at the least cost at which it is accurate.

    That is the difference of squared norms, the sum of squared singular values, or the norm of
    the dense difference.

    Args:
        x: The tensor.
        cut: Its truncation, with orthonormal bases.
        norm: The norm of the tensor.
    """
    kept = float(torch.linalg.vector_norm(cut.core))
    square = (norm - kept) * (norm + kept) / (norm * norm)
    eps = torch.finfo(x.dtype).eps
    if square > 1e6 * eps:
        return math.sqrt(square)
    if cut.dropped is not None and cut.dropped > (1e5 * eps * norm) ** 2:
        return math.sqrt(cut.dropped) / norm
    difference = multiplied(cut.core, cut.bases).sub_(x)
    return float(torch.linalg.vector_norm(difference)) / norm


def truncated_core(
    core: Tensor,  # (r_1, ..., r_d)
    factors: Sequence[Tensor],  # (d_k, r_k)
    most: Sequence[int] | None,
    tolerance: float,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Truncate a tensor in Tucker format to a relative tolerance.

    Args:
        core: The core.
        factors: A matrix for each mode.
        most: Largest rank of each mode, or none.
        tolerance: Largest error relative to the norm; not below round-off.

    Returns:
        The new core and orthonormal factors.
    """
    with torch.no_grad():
        pairs = [torch.linalg.qr(f) for f in factors]
        small = multiplied(core, [pair.R for pair in pairs])
        norm = float(torch.linalg.vector_norm(small))
        scale = norm if norm > 0 else 1.0
        least = 20 * torch.finfo(core.dtype).eps
        limits = list(small.shape) if most is None else most
        cut = sequential(small / scale, limits, max(tolerance, least), ranked=most is not None)
        bases = [pair.Q @ basis for pair, basis in zip(pairs, cut.bases, strict=True)]
    if not any(part.requires_grad for part in (core, *factors)):
        return cut.core * scale, tuple(bases)

    def unfolding(k: int, sides: list[Tensor]) -> Tensor:
        others = [None if j == k else side for j, side in enumerate(sides)]
        return sides[k] @ unfolded(multiplied(core, others), k)

    projected = [pair.Q.mH @ f for pair, f in zip(pairs, factors, strict=True)]
    bases = bases_with_derivative(unfolding, projected, factors, cut.core.shape, cut.modes)
    sides = [basis.mH @ f for basis, f in zip(bases, factors, strict=True)]
    return multiplied(core, sides), tuple(bases)
