"""Functions of the distance: the envelope that ends a potential smoothly, and radial bases."""

import math

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.layers.jets import evaluate, over, times
from tensornet.layers.jets import power as power_jet


def polynomial_envelope(
    x: Tensor,  # (...)
    power: int = 6,
) -> Tensor:  # (...)
    """Fall from one at 0 to zero at 1 with three continuous derivatives at 1.

    Multiplied into everything that a neighbour contributes, it makes the energy three times, and
    so the forces twice, continuously differentiable where a neighbour enters or leaves. It is the
    polynomial 1 - O(x^p) of degree p + 3 with a fourfold zero at 1, written as (1 - x)^4 times the
    first p terms of the series of (1 - x)^-4, which loses no digits near 1 in float32.

    Args:
        x: Distance over cutoff, not negative.
        power: The p above: the higher, the later the fall.

    Returns:
        The envelope, zero from 1 on; NaN where `x` is NaN.

    Raises:
        ValueError: If `power` is below one.

    Derivatives:
        Any order; those above the third jump at 1.

    References:
        Gasteiger et al., Directional Message Passing (2020), equation 8, with one condition more.

    Examples:
        >>> polynomial_envelope(torch.tensor([0.0, 0.5, 1.0, 2.0]))
        tensor([1.0000, 0.7461, 0.0000, 0.0000])
    """
    _check.at_least("polynomial_envelope", 1, power=power)
    return evaluate(lambda x, n: envelope_jet(x, power, n), x)


def envelope_jet(x: Tensor, p: int, n: int) -> list[Tensor]:
    """Give the envelope and its derivatives: the first is a multiple of x^(p - 1) (1 - x)^3."""
    rest = (1 - x).clamp(min=0)
    series = torch.full_like(x, math.comb(p + 2, 3))
    for k in reversed(range(p - 1)):
        series = series * x + math.comb(k + 3, 3)
    out = [rest**4 * series]
    if n:
        fall = [(-1) ** k * y for k, y in enumerate(power_jet(rest, 3, n - 1))]
        out += [-p * math.comb(p + 3, 3) * y for y in times(power_jet(x, p - 1, n - 1), fall)]
    return [torch.where(x >= 1, 0.0, y) for y in out]  # NaN stays NaN


FLAT = 0.75  # of the distance where a function begins to level out: there it has done so


def level_out(
    d: Tensor,  # (e,)
    start: Tensor,  # (e,)
) -> Tensor:  # (e,)
    """Give distances that stop falling, smoothly, below some other distances.

    At `start` and above they are the distances themselves, below 0.75 `start` a constant; in
    between the slope is a polynomial, and three more derivatives are continuous. A network that is
    given these is not asked about contacts closer than it has seen.

    Args:
        d: Distances.
        start: Where to begin, for each; 0 is never.

    Returns:
        The distances.

    Derivatives:
        Any order, in `d`; those above the fourth jump at the ends.

    Examples:
        >>> level_out(torch.tensor([0.1, 0.7, 1.0, 1.3]), torch.ones(4))
        tensor([0.8750, 0.8750, 1.0000, 1.3000])
    """
    return evaluate(lambda x, n: level_out_jet(x, start, n), d)


def level_out_jet(d: Tensor, start: Tensor, n: int) -> list[Tensor]:
    """Give the distances of `level_out` and n derivatives."""
    never = start <= 0
    width = torch.where(never, 1.0, (1 - FLAT) * start)
    end = torch.where(never, -1.0, FLAT * start)
    t = (d - end) / width
    inside = t.clamp(0, 1)
    # The integral of the smoothstep 35 t^4 - 84 t^5 + 70 t^6 - 20 t^7, one half at t = 1.
    terms = [(7.0, 5), (-14.0, 6), (10.0, 7), (-2.5, 8)]
    out = []
    for k in range(n + 1):
        values = [a * math.perm(p, k) * inside ** max(p - k, 0) for a, p in terms if p >= k]
        out.append(width ** (1 - k) * (sum(values) if values else torch.zeros_like(t)))
    out[0] = torch.where(t < 1, end + width / 2 + out[0], d)
    return out


class BesselBasis(nn.Module):
    """Spherical Bessel functions of order zero: sqrt(2) sin(k pi x) / x for k = 1 to `n`.

    The eigenfunctions of a ball, so that resolution is the same at every distance. The envelope
    is left to the caller.

    Args:
        n: Number of functions.
        decay: The k-th function is divided by k to this power, and all are multiplied so that the
            sum of squares stays. At one, all have slopes of one size: a network that sees them
            learns smooth functions first, and few data do not make it oscillate.

    Raises:
        TypeError: If `n` is no whole number, or `decay` no number.
        ValueError: If `n` is below one, or `decay` negative or not finite.

    Derivatives:
        Any order, in the distances.

    References:
        Gasteiger et al., Directional Message Passing (2020), equation 7.
    """

    frequencies: Tensor
    sizes: Tensor

    def __init__(self, n: int, decay: float = 0.0) -> None:
        super().__init__()
        _check.at_least("BesselBasis", 1, n=n)
        _check.tolerance("BesselBasis", decay=decay)
        k = torch.arange(1, n + 1).to(torch.float64)
        self.register_buffer("frequencies", math.pi * k)
        size = math.sqrt(2 * n) / torch.linalg.vector_norm(k**-decay)
        self.register_buffer("sizes", size * k**-decay, persistent=False)

    def forward(
        self,
        x: Tensor,  # (e,)
    ) -> Tensor:  # (e, r)
        """Evaluate at distances over the cutoff, above zero."""
        return evaluate(self._jet, x)

    def _jet(self, x: Tensor, n: int) -> list[Tensor]:
        x, frequencies = x[..., None], self.frequencies.to(x.dtype)
        sizes = self.sizes.to(x.dtype)
        angle = frequencies * x
        wave = [sizes * torch.sin(angle)]
        if n:
            wave.append(sizes * frequencies * torch.cos(angle))
        for k in range(2, n + 1):
            wave.append(-(frequencies**2) * wave[k - 2])
        return over(wave, x)


class GaussianBasis(nn.Module):
    """Gaussians of the distance over the cutoff with trainable means and widths.

    Args:
        n: Number of functions, at first spread evenly over 0 to 1.

    Raises:
        TypeError: If `n` is no whole number.
        ValueError: If `n` is below one.

    Derivatives:
        Any order, in the distances, means and widths.

    References:
        Ying et al., Graphormer (2021); TDN uses it without an envelope.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        _check.at_least("GaussianBasis", 1, n=n)
        self.means = nn.Parameter(torch.linspace(0, 1, n))
        self.widths = nn.Parameter(torch.full((n,), 1 / max(n - 1, 1)))

    def forward(
        self,
        x: Tensor,  # (e,)
    ) -> Tensor:  # (e, r)
        """Evaluate at distances over the cutoff."""
        width = self.widths.abs() + 1e-3
        return torch.exp(-0.5 * ((x[..., None] - self.means) / width) ** 2)
