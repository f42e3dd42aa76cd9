r"""Radial kernels as sums of Gaussians, by sinc quadrature of their integral representations.

1 / r is 2 / sqrt(pi) times the integral of exp(-r² t²) over t > 0, exp(-s r) / r the same with
exp(-r² t² - s² / (4 t²)), and 1 / r⁶ half the integral of u² exp(-r² u) over u > 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet import _check

KINDS = ("coulomb", "yukawa", "dispersion")


@dataclass(frozen=True, eq=False)
class ExponentialSum:
    """A function of the distance, ``sum over k of weights[k] exp(-exponents[k] r²)``.

    Args:
        weights: Weights, (k,).
        exponents: Exponents from the smoothest term to the sharpest, (k,).
        error: Largest error on the interval it was made for, relative to 1 / r (or to 1 / r⁶).

    Examples:
        >>> s = ExponentialSum(torch.tensor([2.0]), torch.tensor([0.0]), 0.0)
        >>> s.value(torch.ones(1))
        tensor([2.])
    """

    weights: Tensor
    exponents: Tensor
    error: float

    def value(self, r: Tensor) -> Tensor:  # (...) -> (...)
        """Evaluate at distances.

        Args:
            r: Distances.

        Returns:
            The sum at each distance.
        """
        return torch.exp(-self.exponents * r[..., None].square()) @ self.weights

    def split(self, exponent: float) -> tuple[ExponentialSum, ExponentialSum]:
        """Divide into the smooth and the sharp terms, the long and the short range.

        Args:
            exponent: Largest exponent of a smooth term.

        Returns:
            The smooth terms and the others; either may have none.
        """
        smooth = self.exponents <= exponent
        return (
            ExponentialSum(self.weights[smooth], self.exponents[smooth], self.error),
            ExponentialSum(self.weights[~smooth], self.exponents[~smooth], self.error),
        )

    def about(
        self,
        charges: Tensor,  # (n,)
        centers: Tensor,  # (n, d)
    ) -> tuple[Tensor, Tensor, Tensor]:  # (n k,), (n k,), (n k, d)
        """List the Gaussians of the kernel about many centres, as `gaussian_sum` takes them.

        Args:
            charges: What the kernel is multiplied by at each centre.
            centers: The centres.

        Returns:
            Weights, exponents and centres of the Gaussians, those of one centre beside each other.
        """
        k = len(self.weights)
        weights = (charges[:, None] * self.weights).flatten()
        return weights, self.exponents.repeat(len(charges)), centers.repeat_interleave(k, 0)


def exponential_sum(
    kind: str,
    r_min: float,
    r_max: float,
    *,
    tolerance: float = 1e-8,
    screening: float = 0.0,
) -> ExponentialSum:
    """Approximate a radial kernel by a short sum of Gaussians, to a relative tolerance.

    Args:
        kind: ``"coulomb"``, 1 / r; ``"yukawa"``, exp(-screening r) / r; ``"dispersion"``, 1 / r⁶.
        r_min: Smallest distance.
        r_max: Largest distance.
        tolerance: Largest error for distances between, relative to 1 / r or to 1 / r⁶. It is
            measured on a fine grid of distances.
        screening: Inverse length of ``"yukawa"``, in the inverse unit of the distances.

    Returns:
        The sum in float64, smoothest terms first.

    Raises:
        ValueError: If the kind is unknown, not 0 < r_min < r_max, or the tolerance is out of reach.

    References:
        Stenger, Numerical methods based on sinc and analytic functions (1993); Hackbusch &
        Khoromskij, Computing 76, 177 (2006).

    Examples:
        >>> s = exponential_sum("coulomb", 0.01, 1.0, tolerance=1e-4)
        >>> bool(abs(float(s.value(torch.tensor(0.5).double())) - 2) < 4e-4)
        True
    """
    where = "exponential_sum"
    _check.one_of(where, KINDS, kind=kind)
    _check.tolerance(where, tolerance=tolerance, screening=screening)
    if not 0 < r_min < r_max < math.inf:
        raise ValueError(
            f"`{where}(r_min=...)` must be in 0 < r_min < r_max. Got {r_min}, {r_max}."
        )
    if tolerance < 1e-13:
        raise ValueError(f"`{where}(tolerance=...)` must be at least 1e-13. Got {tolerance}.")
    if screening and kind != "yukawa":
        raise ValueError(f"`{where}(screening=...)` must be zero for {kind}. Got {screening}.")
    logs = torch.linspace(math.log(r_min), math.log(r_max), 600, dtype=torch.float64)
    r = logs.exp()
    if kind == "dispersion":
        return _by_exponential(r, r**-6, r**-6, 3.0, 0.0, tolerance)
    if kind == "yukawa" and screening:
        return _by_exponential(r, torch.exp(-screening * r) / r, 1 / r, 0.5, screening, tolerance)
    return _by_sinh(r, tolerance)


def _by_sinh(r: Tensor, tolerance: float) -> ExponentialSum:
    """Trapezoidal rule in t = c sinh(u), from half a step on: the integrand is even in u."""
    best: ExponentialSum | None = None
    for c in (0.5, 0.75, 1.0, 1.5, 2.0, 3.0):
        c = c * math.sqrt(3) / float(r[-1])
        for h in torch.logspace(0, -1.4, 90, dtype=torch.float64).tolist():
            top = math.asinh(math.sqrt(math.log(100 / tolerance)) / (c * float(r[0])))
            u = (torch.arange(math.ceil(top / h) + 1, dtype=torch.float64) + 0.5) * h
            t = c * torch.sinh(u)
            w = 2 / math.sqrt(math.pi) * c * h * torch.cosh(u)
            sums = (w * torch.exp(-(t * r[:, None]).square())).cumsum(1)
            errors = (sums * r[:, None] - 1).abs().amax(0)
            good = (errors <= tolerance).nonzero()
            if len(good):
                k = int(good[0]) + 1
                if best is None or k < len(best.weights):
                    best = ExponentialSum(w[:k], t[:k].square(), float(errors[k - 1]))
                break
    return _found(best, tolerance)


def _by_exponential(
    r: Tensor, kernel: Tensor, scale: Tensor, power: float, screening: float, tolerance: float
) -> ExponentialSum:
    """Trapezoidal rule in the exponent exp(u), with the terms that matter."""
    top = math.log(math.log(100 / tolerance) + 20) - 2 * math.log(float(r[0]))
    low = math.log(tolerance / 100) / power - 2 * math.log(float(r[-1]))
    for h in torch.logspace(0.5, -1.4, 120, dtype=torch.float64).tolist():
        u = torch.arange(math.floor(low / h), math.ceil(top / h) + 1, dtype=torch.float64) * h
        w = h / math.gamma(power) * torch.exp(power * u - 0.25 * screening**2 * torch.exp(-u))
        terms = w * torch.exp(-r[:, None].square() * torch.exp(u)) / scale[:, None]
        kept = terms.amax(0) > 0.02 * tolerance
        error = float((terms[:, kept].sum(1) - kernel / scale).abs().max())
        if error <= tolerance:
            return ExponentialSum(w[kept], torch.exp(u[kept]), error)
    return _found(None, tolerance)


def _found(best: ExponentialSum | None, tolerance: float) -> ExponentialSum:
    if best is None:
        raise ValueError(
            f"`exponential_sum(tolerance=...)` must be within reach of the quadrature. Got "
            f"{tolerance}. (Take a larger one, or distances that span less.)"
        )
    return best
