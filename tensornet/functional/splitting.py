r"""Radial kernels parted into a smooth function of all distances and a rest of short range.

A kernel such as 1 / r equals a short sum of Gaussians for all distances beyond a cutoff. The sum
is the long range: smooth everywhere, and a product of functions of one coordinate term by term.
The short range is the kernel minus that sum, which is nothing beyond the cutoff.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import ExponentialSum, exponential_sum

KINDS = ("coulomb", "yukawa", "dispersion")
_STEPS = 4  # of ratios of cutoff and reach, per factor of two: few sums are computed, and kept
_RHO = 5.0  # of the Bernstein ellipse about a quarter of log(r) to either side
_DEGREE = 24
_NODES = 240


@dataclass(frozen=True, eq=False)
class RangeSeparation:
    """A radial kernel as a smooth sum of Gaussians and a rest of short range.

    The sum of both parts is the kernel itself, exactly, for r < `cutoff`; from there to `reach` the
    short range is left out, and the error is at most `error` times 1 / r (1 / r⁶ for dispersion).

    Args:
        kind: ``"coulomb"``, ``"yukawa"`` or ``"dispersion"``.
        screening: Inverse length of ``"yukawa"``.
        long: The long range.
        cutoff: Where the short range ends.
        reach: Largest distance for which the error is known.
        error: The certified error.

    Examples:
        >>> parts = range_separation("coulomb", cutoff=0.5, reach=4.0, tolerance=1e-6)
        >>> r = torch.tensor([0.1, 3.0]).double()
        >>> total = parts.long.value(r) + parts.short(r)
        >>> bool(((total * r - 1).abs() <= parts.error).all())
        True
    """

    kind: str
    screening: float
    long: ExponentialSum
    cutoff: float
    reach: float
    error: float

    @property
    def sigma(self) -> float:
        """Width of the sharpest Gaussian of the long range, exp(-r² / (2 sigma²))."""
        return 1 / math.sqrt(2 * float(self.long.exponents[-1]))

    def kernel(self, r: Tensor) -> Tensor:  # (...) -> (...)
        """Evaluate the kernel itself.

        Args:
            r: Distances.

        Returns:
            The kernel at each distance, (...).
        """
        if self.kind == "dispersion":
            return r**-6
        return torch.exp(-self.screening * r) / r if self.screening else 1 / r

    def short(self, r: Tensor) -> Tensor:  # (...) -> (...)
        """Evaluate the short range, zero from the cutoff on.

        Args:
            r: Distances above zero.

        Returns:
            The kernel minus the long range within the cutoff, (...).

        Derivatives:
            Any order, but at the cutoff.
        """
        inside = r < self.cutoff
        safe = torch.where(inside, r, torch.full_like(r, self.cutoff))
        return torch.where(inside, self.kernel(safe) - self.long.value(safe), 0.0)


def range_separation(
    kind: str = "coulomb",
    *,
    reach: float,
    cutoff: float | None = None,
    sigma: float | None = None,
    tolerance: float = 1e-8,
    screening: float = 0.0,
) -> RangeSeparation:
    """Part a radial kernel into a long and a short range, by sinc quadrature.

    Args:
        kind: ``"coulomb"``, 1 / r; ``"yukawa"``, exp(-screening r) / r; ``"dispersion"``, 1 / r⁶.
        reach: Largest distance.
        cutoff: Where the short range is to end. Either this or `sigma`.
        sigma: Width of the sharpest Gaussian that counts as smooth; the cutoff follows.
        tolerance: Largest error between cutoff and reach, relative to 1 / r (or 1 / r⁶).
        screening: Inverse length of ``"yukawa"``.

    Returns:
        The two parts, in float64, with the error that `certified_error` finds.

    Raises:
        ValueError: If the kind is unknown, a length is not positive and finite, the cutoff is not
            below the reach, both or none of cutoff and sigma are given, the tolerance is out of
            reach, or another kernel than ``"yukawa"`` is screened.

    References:
        Hackbusch & Khoromskij, Computing 76, 177 (2006); Benner, Khoromskaia & Khoromskij, SIAM J.
        Sci. Comput. 40, A1034 (2018), the range-separated format.

    Examples:
        >>> parts = range_separation("coulomb", sigma=0.1, reach=4.0, tolerance=1e-6)
        >>> round(parts.sigma, 6), parts.cutoff < 0.6, parts.error <= 1e-6
        (0.1, True, True)
    """
    where = "range_separation"
    _check.one_of(where, KINDS, kind=kind)
    _check.tolerance(where, tolerance=tolerance, screening=screening)
    if (cutoff is None) == (sigma is None):
        raise ValueError(
            f"`{where}(cutoff=..., sigma=...)` must name one of the two. Got {cutoff} and {sigma}."
        )
    if screening and kind != "yukawa":
        raise ValueError(f"`{where}(screening=...)` must be zero for {kind}. Got {screening}.")
    for name, length in (("reach", reach), ("cutoff", cutoff), ("sigma", sigma)):
        if length is not None and not 0 < length < math.inf:
            raise ValueError(f"`{where}({name}=...)` must be a positive length. Got {length}.")
    if cutoff is not None:
        return _at_cutoff(kind, cutoff, reach, tolerance, screening)
    assert sigma is not None
    found = _at_sigma(kind, sigma, reach, tolerance, screening)
    if found is None:
        raise ValueError(
            f"`{where}(sigma=...)` must be so small that the short range ends before the reach "
            f"{reach}. Got {sigma}. (Take a smaller one, or a larger tolerance.)"
        )
    return found


def _at_sigma(
    kind: str, sigma: float, reach: float, tolerance: float, screening: float
) -> RangeSeparation | None:
    """Stretch a sum up to distance one until its sharpest term is as wide as asked."""
    cutoff = sigma * math.sqrt(2 * max(1.0, math.log(1 / max(tolerance, 1e-16))))
    if cutoff > 1.2 * reach:
        return None
    steps = max(1, math.floor(_STEPS * math.log2(reach / cutoff)))
    for more in range(3 * _STEPS):
        low, length = 2.0 ** (-(steps + more) / _STEPS), reach
        for _ in range(12 if screening else 1):
            unit, _ = _unit_sum(kind, low, tolerance, screening * length)
            before, length = length, sigma * math.sqrt(2 * float(unit.exponents[-1]))
            if abs(length - before) < 1e-12 * length:
                break
        if length >= reach:
            found = _stretched(kind, low, length, tolerance, screening)
            return found if abs(found.sigma - sigma) < 1e-3 * sigma else None
    return None


def _at_cutoff(
    kind: str, cutoff: float, reach: float, tolerance: float, screening: float
) -> RangeSeparation:
    if not cutoff < reach:
        raise ValueError(
            f"`range_separation(cutoff=...)` must be below the reach {reach}. Got {cutoff}."
        )
    steps = math.ceil(_STEPS * math.log2(reach / cutoff))
    low = 2.0 ** (-steps / _STEPS)  # of a sum up to distance one, then stretched
    return _stretched(kind, low, cutoff / low, tolerance, screening)


def _stretched(
    kind: str, low: float, length: float, tolerance: float, screening: float
) -> RangeSeparation:
    power = 6 if kind == "dispersion" else 1
    unit, error = _unit_sum(kind, low, tolerance, screening * length)
    long = ExponentialSum(unit.weights / length**power, unit.exponents / length**2, error)
    return RangeSeparation(kind, screening, long, low * length, length, error)


@lru_cache(maxsize=256)
def _unit_sum(
    kind: str, low: float, tolerance: float, screening: float
) -> tuple[ExponentialSum, float]:
    goal = tolerance
    for _ in range(6):
        found = exponential_sum(kind, low, 1.0, tolerance=goal, screening=screening)
        error = certified_error(found, low, 1.0, kind=kind, screening=screening)
        if error <= tolerance:
            return found, error
        goal *= min(0.9, 0.9 * tolerance / error)
    raise ValueError(
        "`range_separation(tolerance=...)` must be above what rounding leaves. Got "
        f"{tolerance}; {error:.1e} can be certified."
    )


def certified_error(
    gaussians: ExponentialSum,
    low: float,
    high: float,
    *,
    kind: str = "coulomb",
    screening: float = 0.0,
) -> float:
    """Bound the error of a sum of Gaussians as a radial kernel on a whole interval.

    The error is r times the sum minus one (r⁶ times for dispersion; for Yukawa, minus exp(-s r)).
    As a function of log r it is analytic, and bounded on an ellipse about each piece of length
    1/2, so that a polynomial of degree 24 is within a known distance (Bernstein). A polynomial is
    nowhere much larger than at ten times as many Chebyshev points (Ehlich and Zeller). So samples
    bound the function between them. An allowance for rounding is added, which is estimated.

    Args:
        gaussians: The sum, with positive weights.
        low: Smallest distance.
        high: Largest distance.
        kind: The kernel.
        screening: Inverse length of ``"yukawa"``.

    Returns:
        A bound that exceeds the largest error by about one in a hundred.

    Raises:
        ValueError: If not 0 < low < high, or the kind is unknown.

    References:
        Trefethen, Approximation Theory and Approximation Practice, theorem 8.2; Ehlich & Zeller,
        Math. Z. 86, 41 (1964).

    Examples:
        >>> one = ExponentialSum(torch.ones(1).double(), torch.zeros(1).double(), 0.0)
        >>> round(certified_error(one, 1.0, 3.0), 1)  # r - 1
        2.0
    """
    where = "certified_error"
    _check.one_of(where, KINDS, kind=kind)
    if not 0 < low < high < math.inf:
        raise ValueError(f"`{where}(low=...)` must be in 0 < low < high. Got {low}, {high}.")
    w, e = gaussians.weights.double(), gaussians.exponents.double()
    power = 6 if kind == "dispersion" else 1
    pieces = math.ceil(2 * math.log(high / low))
    half = math.log(high / low) / (2 * pieces)
    middle = math.log(low) + half * (2 * torch.arange(pieces, dtype=torch.float64) + 1)
    t = torch.cos(math.pi * (torch.arange(_NODES, dtype=torch.float64) + 0.5) / _NODES)
    r = torch.exp(middle[:, None] + half * t)  # (pieces, nodes)
    terms = (w * r[..., None] ** power) * torch.exp(-e * r[..., None].square())
    target = torch.exp(-screening * r) if kind == "yukawa" else torch.ones_like(r)
    sampled = (terms.sum(-1) - target).abs().amax(1)
    # |r^p exp(-e r²)| on the ellipse: r up to its largest modulus, the exponent's real part at
    # least e |r|² cos(2 height)
    wide, high_up = half * (_RHO + 1 / _RHO) / 2, half * (_RHO - 1 / _RHO) / 2
    slow = math.cos(2 * high_up) * e
    ends = torch.exp(middle[:, None] + torch.tensor([-wide, wide], dtype=torch.float64))
    peak = torch.sqrt(0.5 * power / slow.clamp(min=1e-300))  # (terms,)
    at = torch.minimum(torch.maximum(peak, ends[:, :1]), ends[:, 1:])  # (pieces, terms)
    bound = (w.abs() * at**power * torch.exp(-slow * at.square())).sum(1) + 1
    away = 2 * bound * _RHO**-_DEGREE / (_RHO - 1)
    factor = 1 / math.cos(math.pi * _DEGREE / (2 * _NODES))
    eps = torch.finfo(torch.float64).eps
    rounding = 4 * eps * (1 + terms.abs().sum(-1).amax(1))
    return float((factor * (sampled + away) + away + rounding).max())
