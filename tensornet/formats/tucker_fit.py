"""How to compute the Tucker format."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.cp import CP
from tensornet.formats.decomposition import Decomposition
from tensornet.formats.format import HALF
from tensornet.formats.rank_limits import rank_limits
from tensornet.formats.tucker import Tucker, largest_ranks
from tensornet.formats.tucker_canonical import truncated_canonical
from tensornet.formats.tucker_truncation import (
    Truncation,
    improved,
    multiplied,
    relative_error,
    sequential,
)
from tensornet.linalg import truncate
from tensornet.linalg.mode_product import mode_multiplied, unfolded

METHODS = ("auto", "gram", "svd", "randomized")


def tucker(
    x: Tensor | CP,  # (d_1, ..., d_n)
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

    Of a sum of outer products (`CP`) no entry is computed: the factors, with columns as long as
    their terms, are reduced to what matters of their column spaces, and the small core that is
    left is truncated.

    Args:
        x: Real or complex tensor, or a `CP`. Half precision is computed in float32.
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
        difference. For a `CP` it joins the error of the small core with what the reduction of the
        factors dropped: that is computed up to 2000 terms, and beyond bounded from above where it
        cannot be neglected; the message then says "at most". ``converged`` says whether the
        tolerance was reached; without one, always.

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
        >>> x = (i[:, None, None] + i[:, None] + i).sin()
        >>> found = tucker(x, tolerance=1e-3)
        >>> found.value.ranks, found.relative_error < 1e-3
        ((2, 2, 2), True)
    """
    _check.one_of("tucker", METHODS, method=method)
    _check.tolerance("tucker", tolerance=tolerance)
    _check.at_least("tucker", 0, sweeps=sweeps)
    if isinstance(x, CP):
        return _canonical(x, ranks, tolerance, method, sweeps)
    norm = _norm(x)
    if x.dtype in HALF:
        found = tucker(x.float(), ranks=ranks, tolerance=tolerance, method=method, sweeps=sweeps)
        value = found.value.to(x.dtype)
        difference = value.detach().to(torch.float32).to_dense() - x.detach().float()
        error = float(difference.norm()) / float(x.detach().float().norm() or 1.0)
        return _told(value, error, tolerance, sweeps)
    limits = rank_limits("tucker", ranks, largest_ranks(x.shape), x.shape)
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
        for _ in range(sweeps):
            cut = improved(unit, cut)
        error = relative_error(unit, cut, norm / scale)
    if x.requires_grad:
        value = _with_derivative(x if scale == 1 else x / scale, cut, sweeps)
    else:
        value = Tucker(cut.core, cut.bases)
    if scale != 1:
        value = value * scale
    return _told(value, error, tolerance, sweeps)


def _norm(x: Tensor) -> float:
    """Compute the norm, and check the entries on the way."""
    if not isinstance(x, Tensor) or not (x.is_floating_point() or x.is_complex()) or not x.numel():
        _check.dense("tucker", "x", x)
    norm = float(torch.linalg.vector_norm(x.detach()))
    if not math.isfinite(norm) or x.ndim == 0:
        _check.dense("tucker", "x", x)  # entries that are finite have a norm that overflows
    if not torch.finfo(x.dtype).tiny ** 0.25 < norm < math.inf:
        largest = float(x.detach().abs().max())
        if largest > 0:
            norm = largest * float(torch.linalg.vector_norm(x.detach() / largest))
    return norm


def _scale(norm: float, dtype: torch.dtype) -> float:
    """Give one, or what a tensor must be divided by so that squares neither over- nor underflow."""
    info = torch.finfo(dtype)
    return 1.0 if info.tiny**0.25 < norm < info.max**0.25 else norm


def _allowed(
    ranks: int | Sequence[int] | None, tolerance: float | None, dtype: torch.dtype
) -> float:
    """Give the relative error that may be made; zero if ranks alone decide."""
    if tolerance is None and ranks is not None:
        return 0.0
    return max(tolerance or 0.0, 20 * torch.finfo(dtype).eps)


def _with_derivative(x: Tensor, cut: Truncation, sweeps: int) -> Tucker:
    """Repeat the truncation at the ranks found, with autograd through the subspaces."""
    y, bases = x, list(cut.bases)
    for k in cut.modes:
        bases[k] = truncate(unfolded(y, k), rank=cut.core.shape[k]).left
        y = mode_multiplied(y, bases[k].mH, k)
    for k in cut.modes * sweeps:
        y = multiplied(x, [None if j == k else b.mH for j, b in enumerate(bases)])
        bases[k] = truncate(unfolded(y, k), rank=cut.core.shape[k]).left
    return Tucker(multiplied(x, [b.mH for b in bases]), tuple(bases))


def _canonical(
    x: CP,
    ranks: int | Sequence[int] | None,
    tolerance: float | None,
    method: str,
    sweeps: int,
) -> Decomposition[Tucker]:
    parts = dict(enumerate(x.factors)) | ({} if x.weights is None else {-1: x.weights})
    for k, part in parts.items():
        _check.dense("tucker", "x.weights" if k < 0 else f"x.factors[{k}]", part)
    factors, weights = x.factors, x.weights
    dtype = factors[0].dtype
    if dtype in HALF:
        factors = tuple(f.float() for f in factors)
        weights = None if weights is None else weights.float()
    limits = rank_limits("tucker", ranks, largest_ranks(x.shape), x.shape)
    allowed = _allowed(ranks, tolerance, factors[0].dtype)
    if ranks is not None:
        limits = [min(r, x.rank) for r in limits]
    core, bases, error, bound = truncated_canonical(
        factors, weights, limits, allowed, method=method, sweeps=sweeps, ranked=ranks is not None
    )
    value = Tucker(core.to(dtype), tuple(b.to(dtype) for b in bases))
    return _told(value, error, tolerance, sweeps, bound=bound)


def _told(
    value: Tucker, error: float, tolerance: float | None, sweeps: int, *, bound: bool = False
) -> Decomposition[Tucker]:
    converged = tolerance is None or error <= tolerance
    after = f" after {sweeps} sweeps" if sweeps else ""
    most = "at most " if bound else ""
    message = f"Relative error {most}{error:.1e} at ranks {value.ranks}{after}" + (
        "." if converged else f", above the tolerance {tolerance:.1e}: allow higher ranks."
    )
    return Decomposition(value, error, converged, message, sweeps, 0)
