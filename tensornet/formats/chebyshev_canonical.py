"""Sums of products of functions of one variable, in Chebyshev-Tucker form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import chebyshev
from tensornet.formats.chebyshev_box import Box, checked_box
from tensornet.formats.chebyshev_chop import chop
from tensornet.formats.chebyshev_fit import ChebyshevDecomposition
from tensornet.formats.chebyshev_tucker import ChebyshevTucker
from tensornet.formats.cp import CP
from tensornet.formats.tucker_fit import tucker

_HELD_OUT = 256

Sides = Sequence[Callable[[Tensor], Tensor]]


def from_separable(
    sides: Sides,
    box: Sequence[Sequence[float]] | Tensor,  # (d, 2)
    *,
    weights: Tensor | None = None,  # (r,)
    tolerance: float = 1e-8,
    degrees: int | Sequence[int] | None = None,
    max_degree: int = 1024,
    seed: int = 0,
) -> ChebyshevDecomposition:
    """Bring a sum of products of functions of one variable into Chebyshev-Tucker form.

    ``f(x) = sum over r of weights[r] sides[0](x_1)[r] sides[1](x_2)[r] ...``. Each side is
    interpolated by itself, so that no grid of more than one variable appears. The coefficients are
    a sum of outer products, of which `tucker` finds the core from the side matrices, with the
    weights and the lengths of the other sides taken into account.

    Args:
        sides: For each variable, a function from points (m,) to the values of all terms (m, r).
        box: Lower and upper end of each variable. A tensor gives dtype and device; else the weights
            do, or torch's defaults.
        weights: Weight of each term, by default one.
        tolerance: Largest error of the truncation in L2 with the Chebyshev weight, relative to the
            norm of the function; a tenth of it, relative to the norm of the terms, is for chopping.
        degrees: Degree of each variable, or one for all. By default doubled until the coefficients
            fall off.
        max_degree: Largest degree that is tried.
        seed: Seed of the points at which the error is measured.

    Returns:
        The function. ``relative_error`` is the largest error at random points against the sum
        itself, over the largest magnitude there: an estimate, not a bound. ``interpolation_error``
        is the size of the last coefficients over that of all terms, summed over the variables, and
        ``truncation_error`` the relative error of the Tucker decomposition of the coefficients.
        ``n_evaluations`` is zero: the function itself is only asked in the check.

    Raises:
        ValueError: If a side gives values of another shape or not finite, or options are out of
            range.
        TypeError: If a side gives another dtype than its points have, or that of the weights is not
            that of the box.

    Derivatives:
        First order, in the weights and in what the sides depend on.

    References:
        Khoromskij & Khoromskaia, SIAM J. Sci. Comput. 31, 3002 (2009), reduced HOSVD; Benner et
        al., arXiv 2503.01696.

    Examples:
        >>> a = torch.tensor([1.0, 2.0])
        >>> side = lambda x: torch.exp(-a * x[:, None])
        >>> found = from_separable([side, side], [(0, 1), (0, 1)], tolerance=1e-5)
        >>> found.value.ranks
        (2, 2)
    """
    where = "from_separable"
    ends = checked_box(where, box)
    _check.tolerance(where, tolerance=tolerance)
    _check.at_least(where, 1, max_degree=max_degree)
    if len(sides) != len(ends):
        raise ValueError(
            f"`{where}(sides=...)` must have one function per side of the box. Got {len(sides)} "
            f"and {len(ends)}."
        )
    if isinstance(box, Tensor) and box.is_floating_point():
        like = box
    else:
        like = torch.empty(0) if weights is None else weights
    if weights is None:
        r = _side(sides[0], 0, torch.tensor([sum(ends[0]) / 2]).to(like), None).shape[1]
        weights = torch.ones(r).to(like)
    _check.one_kind(where, box=like, weights=weights)
    _check.dense(where, "weights", weights, order=1)
    if degrees is None:
        factors = _adapted(sides, ends, weights, tolerance, max_degree, like)
    else:
        wanted = [degrees] * len(ends) if isinstance(degrees, int) else list(degrees)
        for degree in wanted:
            _check.at_least(where, 0, degrees=degree)
        if len(wanted) != len(ends):
            raise ValueError(f"`{where}(degrees=...)` must have {len(ends)} numbers. Got {wanted}.")
        factors = [
            chebyshev.to_coefficients(_sampled(f, k, m + 1, ends[k], weights))
            for k, (f, m) in enumerate(zip(sides, wanted, strict=True))
        ]
    terms = CP(tuple(chebyshev.weighted(c, math.sqrt(2)) for c in factors), weights)
    low = tucker(terms, tolerance=tolerance)
    coefficients = tuple(chebyshev.weighted(c, math.sqrt(0.5)) for c in low.value.factors)
    value = ChebyshevTucker(low.value.core, coefficients, ends)
    with torch.no_grad():
        error = _measured(value, sides, weights, seed)
        tail = _tail(factors, weights)
    converged = error <= max(tolerance, 10 * torch.finfo(value.dtype).eps)
    message = (
        f"Largest held-out error {error:.1e} (interpolation about {tail:.1e}, truncation "
        f"{low.relative_error:.1e}) at ranks {value.ranks} and degrees "
        f"{tuple(m - 1 for m in value.shape)}, from {len(weights)} terms"
    )
    if not converged:
        message += f"; above the tolerance {tolerance:.1e}"
    return ChebyshevDecomposition(
        value, error, converged, message + ".", 0, 0, tail, low.relative_error
    )


def gaussian_sum(
    weights: Tensor,  # (r,)
    exponents: Tensor,  # (r,)
    centers: Tensor,  # (r, d)
    box: Sequence[Sequence[float]] | Tensor,  # (d, 2)
    *,
    tolerance: float = 1e-8,
    degrees: int | Sequence[int] | None = None,
    max_degree: int = 1024,
    seed: int = 0,
) -> ChebyshevDecomposition:
    """Bring a sum of Gaussians into Chebyshev-Tucker form, without a grid.

    ``f(x) = sum over r of weights[r] exp(-exponents[r] |x - centers[r]|²)``. With `exponential_sum`
    these are the potentials of many charges, whose smooth part has ranks that hardly grow with the
    number of charges.

    Args:
        weights: Weight of each Gaussian.
        exponents: Exponents, in the inverse square of the unit of length.
        centers: Centres, also outside of the box.
        box: Lower and upper end of each variable.
        tolerance: As in `from_separable`.
        degrees: Degree of each variable, or one for all; found by default. On a side of length L
            about 3.3 L sqrt(2 exponent) brings a Gaussian to 1e-9.
        max_degree: Largest degree that is tried.
        seed: Seed of the points at which the error is measured.

    Returns:
        As from `from_separable`.

    Raises:
        ValueError: If shapes do not fit, or options are out of range.

    Derivatives:
        First order, in weights, exponents and centres.

    Examples:
        >>> one = torch.ones(1)
        >>> found = gaussian_sum(one, one, torch.zeros(1, 2), [(-1, 1), (-1, 1)], tolerance=1e-5)
        >>> round(float(found.value.integral()), 3)
        2.231
    """
    where = "gaussian_sum"
    _check.one_kind(where, weights=weights, exponents=exponents, centers=centers)
    d = len(checked_box(where, box))
    given = {"weights": (weights, "r"), "exponents": (exponents, "r"), "centers": (centers, "r d")}
    _check.shapes(where, **given)
    if centers.shape[1] != d:
        raise ValueError(
            f"`{where}(centers=...)` must have shape (r, {d}), as the box. Got "
            f"{tuple(centers.shape)}."
        )
    for name, (x, _) in given.items():
        _check.dense(where, name, x)

    def side(k: int) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.exp(-exponents * (x[:, None] - centers[:, k]).square())

    ends = torch.as_tensor(box).to(weights)
    return from_separable(
        [side(k) for k in range(d)], ends, weights=weights, tolerance=tolerance, degrees=degrees,
        max_degree=max_degree, seed=seed,
    )  # fmt: skip


def _adapted(
    sides: Sides, box: Box, weights: Tensor, tolerance: float, max_degree: int, like: Tensor
) -> list[Tensor]:
    """Double the degrees until the coefficients of all terms together fall off, and chop them."""
    factors = []
    for k, side in enumerate(sides):
        m = min(17, max_degree + 1)
        while True:
            c = chebyshev.to_coefficients(_sampled(side, k, m, box[k], weights))
            size = (c.detach() * weights.detach()).square().sum(1).sqrt()
            goal = max(0.1 * tolerance, torch.finfo(like.dtype).eps)
            resolved = float(size[-max(2, m // 8) :].max()) <= goal * float(size.max())
            kept = chop(size, goal)
            if resolved or kept < m or 2 * (m - 1) > max_degree:
                break
            m = 2 * m - 1
        below = int((size > 0.1 * goal * size.max()).sum()) if resolved else kept
        factors.append(c[: max(1, max(kept, below))])
    return factors


def _sampled(
    side: Callable[[Tensor], Tensor], k: int, m: int, ends: tuple[float, float], weights: Tensor
) -> Tensor:
    x = chebyshev.points(m, *ends, dtype=weights.dtype, device=weights.device)
    return _side(side, k, x, len(weights))


def _side(side: Callable[[Tensor], Tensor], k: int, x: Tensor, n_terms: int | None) -> Tensor:
    values = side(x)
    _check.one_kind("from_separable", points=x, **{f"sides[{k}]": values})
    if values.ndim != 2 or len(values) != len(x) or values.shape[1] != (n_terms or values.shape[1]):
        r = "r" if n_terms is None else n_terms
        raise ValueError(
            f"`from_separable(sides[{k}]=...)` must give values of shape ({len(x)}, {r}), one per "
            f"point and term. Got {tuple(values.shape)}."
        )
    _check.dense("from_separable", f"sides[{k}]", values)
    return values


def _measured(value: ChebyshevTucker, sides: Sides, weights: Tensor, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(_HELD_OUT, value.order, generator=generator, dtype=torch.float64)
    ends = torch.tensor(value.box, dtype=torch.float64)
    points = (ends[:, 0] + (ends[:, 1] - ends[:, 0]) * t).to(weights)
    points = points.clamp(ends[:, 0].to(weights), ends[:, 1].to(weights))
    terms = math.prod(
        (side(points[:, k]) for k, side in enumerate(sides)), start=torch.ones_like(weights)
    )
    exact = terms @ weights
    top = float(exact.abs().max())
    error = float((value.value(points) - exact).abs().max())
    return error / top if top else error


def _tail(factors: Sequence[Tensor], weights: Tensor) -> float:
    """Last coefficients over all, of all terms together."""
    found = 0.0
    for c in factors:
        size = (c * weights).square().sum(1).sqrt()
        top = float(size.max())
        found += float(size[-2:].max()) / top if top and len(size) > 2 else 0.0
    return found
