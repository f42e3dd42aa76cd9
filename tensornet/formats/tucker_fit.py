"""How to compute the Tucker format."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.decomposition import Decomposition
from tensornet.formats.tucker import Tucker, largest_ranks
from tensornet.formats.tucker_truncation import Truncation, leading, multiplied, sequential
from tensornet.linalg import truncate
from tensornet.linalg.mode_product import mode_multiplied, unfolded

METHODS = ("auto", "gram", "svd", "randomized")


def tucker(
    x: Tensor,  # (d_1, ..., d_n)
    *,
    ranks: int | Sequence[int] | None = None,
    tolerance: float | None = None,
    method: str = "auto",
    sweeps: int = 0,
) -> Decomposition[Tucker]:
    """Approximate a tensor by a small core and an orthonormal matrix for each mode.

    The sequentially truncated higher-order SVD: with n modes its error is at most sqrt(n) times
    that of the best approximation of these ranks, and mostly within a few thousandths of it. Every
    sweep of higher-order orthogonal iteration brings it closer.

    Args:
        x: Real or complex tensor. Half precision is computed in float32.
        ranks: Largest rank of each mode; one number is for all modes and stops at what a mode can
            have. ``None`` leaves the ranks to the tolerance.
        tolerance: Largest Frobenius error, relative to the norm. The ranks are the smallest ones
            that the modes need for it. By default, and with `ranks` of ``None``, round-off.
        method: How the leading vectors are found: ``"gram"``, from the Gram matrix of the
            unfolding, fastest and blind below the square root of round-off; ``"svd"``, after a QR
            decomposition; ``"randomized"``, for ranks far below the sizes; ``"auto"``, the first
            that is accurate enough for these ranks or this tolerance.
        sweeps: Sweeps of higher-order orthogonal iteration at the ranks found.

    Returns:
        The format, with orthonormal factors, in the dtype of `x`. The relative error is the true
        one, from the difference of squared norms where that is accurate and else from the dense
        difference. ``converged`` says whether the tolerance was reached; without one, always.

    Raises:
        TypeError: If `x` is no floating or complex tensor.
        ValueError: If `x` is empty or not finite, a rank is below one or larger than the tensor
            can have, or the method is unknown.

    Derivatives:
        First order, of the entries of the result, where the singular values on both sides of a cut
        differ; equal ones on one side do no harm.

    References:
        Vannieuwenhoven, Vandebril & Meerbergen, SIAM J. Sci. Comput. 34, A1027 (2012), algorithm 1;
        De Lathauwer, De Moor & Vandewalle, SIAM J. Matrix Anal. Appl. 21, 1324 (2000).

    Examples:
        >>> i = torch.arange(20.0)
        >>> x = 1 / (1 + i[:, None, None] + i[:, None] + i)
        >>> found = tucker(x, tolerance=1e-2)
        >>> found.value.ranks, found.relative_error < 1e-2
        ((3, 3, 3), True)
    """
    _check.one_of("tucker", METHODS, method=method)
    _check.tolerance("tucker", tolerance=tolerance)
    _check.at_least("tucker", 0, sweeps=sweeps)
    norm = _norm(x)
    limits = _limits(x.shape, ranks)
    if x.dtype in (torch.float16, torch.bfloat16):
        found = tucker(x.float(), ranks=ranks, tolerance=tolerance, method=method, sweeps=sweeps)
        value = found.value.to(x.dtype)
        error = _explicit(x.detach().float(), value.detach().to(torch.float32), norm)
        return _told(value, error, tolerance, sweeps)
    if norm == 0:
        sizes = [1 if ranks is None else r for r in limits]
        pairs = zip(x.shape, sizes, strict=True)
        eyes = [torch.eye(d, r, dtype=x.dtype, device=x.device) for d, r in pairs]
        return _told(Tucker(x.new_zeros(sizes), tuple(eyes)), 0.0, tolerance, 0)
    scale = _scale(norm, x.dtype)
    with torch.no_grad():
        unit = x.detach() if scale == 1 else x.detach() / scale
        allowed = _allowed(ranks, tolerance, x.dtype) * norm / scale
        cut = sequential(unit, limits, allowed, method=method, ranked=ranks is not None)
        bases = cut.bases
        core = cut.core
        for _ in range(sweeps):
            core, bases = _sweep(unit, bases, cut.modes)
        error = _error(unit, core, bases, norm / scale)
    if x.requires_grad:
        value = _with_derivative(x, cut, sweeps)
    else:
        value = Tucker(core if scale == 1 else core * scale, tuple(bases))
    return _told(value, error, tolerance, sweeps)


def _norm(x: Tensor) -> float:
    """Compute the norm, and check the entries on the way."""
    if not isinstance(x, Tensor) or not (x.is_floating_point() or x.is_complex()) or not x.numel():
        _check.dense("tucker", "x", x)
    norm = float(torch.linalg.vector_norm(x.detach()))
    if not math.isfinite(norm) or x.ndim == 0:
        _check.dense("tucker", "x", x)  # entries that are finite have a norm that overflows
        largest = float(x.detach().abs().max())
        norm = largest * float(torch.linalg.vector_norm(x.detach() / largest))
    return norm


def _scale(norm: float, dtype: torch.dtype) -> float:
    """Give one, or what a tensor must be divided by so that squares neither over- nor underflow."""
    info = torch.finfo(dtype)
    return 1.0 if info.tiny**0.25 < norm < info.max**0.25 else norm


def _limits(shape: Sequence[int], ranks: int | Sequence[int] | None) -> list[int]:
    largest = largest_ranks(shape)
    if ranks is None:
        return list(largest)
    if isinstance(ranks, int):
        _check.at_least("tucker", 1, ranks=ranks)
        if ranks > max(largest):
            raise ValueError(
                f"`tucker(ranks=...)` must be at most {max(largest)} for a tensor of shape "
                f"{tuple(shape)}. Got {ranks}."
            )
        return [min(ranks, r) for r in largest]
    if len(ranks) != len(shape):
        raise ValueError(
            f"`tucker(ranks=...)` must be one number, or one for each of {len(shape)} modes. Got "
            f"{tuple(ranks)}."
        )
    for k, (r, top) in enumerate(zip(ranks, largest, strict=True)):
        _check.at_least("tucker", 1, **{f"ranks[{k}]": r})
        if r > top:
            raise ValueError(
                f"`tucker(ranks[{k}]=...)` must be at most {top} for a tensor of shape "
                f"{tuple(shape)}. Got {r}."
            )
    return list(ranks)


def _allowed(
    ranks: int | Sequence[int] | None, tolerance: float | None, dtype: torch.dtype
) -> float:
    """Give the relative error that may be made; zero if ranks alone decide."""
    if tolerance is None and ranks is not None:
        return 0.0
    return max(tolerance or 0.0, 20 * torch.finfo(dtype).eps)


def _sweep(
    x: Tensor, bases: Sequence[Tensor], modes: Sequence[int]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Improve every basis in turn, the others held: higher-order orthogonal iteration."""
    found = list(bases)
    for k in modes:
        y = x
        for j in sorted(modes, key=lambda j: found[j].shape[1] / found[j].shape[0]):
            if j != k:
                y = mode_multiplied(y, found[j].mH, j)
        found[k], _ = leading(y, k, found[k].shape[1], 0.0, "auto")
    return mode_multiplied(y, found[k].mH, k), tuple(found)


def _error(x: Tensor, core: Tensor, bases: Sequence[Tensor], norm: float) -> float:
    """Give the relative error; by the difference of squares where that is accurate."""
    kept = float(torch.linalg.vector_norm(core))
    square = (norm - kept) * (norm + kept) / (norm * norm)
    if square > 1e6 * torch.finfo(x.dtype).eps:
        return math.sqrt(square)
    return _explicit(x, Tucker(core, tuple(bases)), norm)


def _explicit(x: Tensor, value: Tucker, norm: float) -> float:
    difference = value.to_dense().sub_(x)
    return float(torch.linalg.vector_norm(difference)) / norm


def _with_derivative(x: Tensor, cut: Truncation, sweeps: int) -> Tucker:
    """Repeat the truncation at the ranks found, with autograd through the subspaces."""
    y = x
    bases = list(cut.bases)
    for k in cut.modes:
        r = bases[k].shape[1]
        bases[k] = truncate(unfolded(y, k), rank=r).left
        y = mode_multiplied(y, bases[k].mH, k)
    for _ in range(sweeps):
        for k in cut.modes:
            r = bases[k].shape[1]
            others = [x.new_zeros(0) if j == k else b.mH for j, b in enumerate(bases)]
            y = x
            for j in cut.modes:
                if j != k:
                    y = mode_multiplied(y, others[j], j)
            bases[k] = truncate(unfolded(y, k), rank=r).left
    return Tucker(multiplied(x, [b.mH for b in bases]), tuple(bases))


def _told(
    value: Tucker, error: float, tolerance: float | None, sweeps: int
) -> Decomposition[Tucker]:
    converged = tolerance is None or error <= tolerance
    after = f" after {sweeps} sweeps" if sweeps else ""
    message = f"Relative error {error:.1e} at ranks {value.ranks}{after}" + (
        "." if converged else f", above the tolerance {tolerance:.1e}: allow higher ranks."
    )
    return Decomposition(value, error, converged, message, sweeps, 0)
