"""Spectral-mixture covariances of one coordinate, with their derivatives in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet import _check

FAMILIES = {"student": 4, "gaussian": 8}
"""Families of components, and the highest derivative that is offered of each."""


@dataclass(frozen=True, eq=False)
class SpectralMixture:
    """A stationary covariance of one coordinate: a mixture of cosines with an envelope.

    ``k(d) = sum_q weight_q envelope(d / length_q) cos(frequency_q d)``. The envelope is a Matérn
    5/2 function, whose spectral density is that of Student's t, or a Gaussian. A field with the
    former has two derivatives, with the latter all.

    Args:
        weights: Variances of the components, (q,), positive.
        lengths: Over which they stay coherent, (q,), positive, in the units of the coordinate.
        frequencies: Angular frequencies, (q,), at least zero.
        family: ``"student"`` or ``"gaussian"``.

    Raises:
        TypeError: If these are no tensors of real numbers.
        ValueError: If shapes differ, or a number is out of range.

    Derivatives:
        Any order, in the three tensors.

    References:
        Wilson & Adams, Gaussian process kernels for pattern discovery and extrapolation, ICML
        2013; Fang, Cooley, Long, Li, Kirby & Zhe, arXiv 2311.04465 (2023).

    Examples:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> k = SpectralMixture(one, one, 100 * one)
        >>> k(torch.zeros(1, dtype=torch.float64), orders=(0, 2))[1]  # minus a squared frequency
        tensor([-10001.6667], dtype=torch.float64)
    """

    weights: Tensor
    lengths: Tensor
    frequencies: Tensor
    family: str = "student"

    def __post_init__(self) -> None:
        where = "SpectralMixture"
        _check.one_of(where, tuple(FAMILIES), family=self.family)
        parts = {"weights": self.weights, "lengths": self.lengths, "frequencies": self.frequencies}
        for name, x in parts.items():
            _check.dense(where, name, x, order=1)
            if x.is_complex():
                raise TypeError(f"`{where}({name}=...)` must be real. Got {x.dtype}.")
            low = float(x.detach().min())
            if low < 0 or (low == 0 and name != "frequencies"):
                word = "at least zero" if name == "frequencies" else "positive"
                raise ValueError(f"`{where}({name}=...)` must be {word}. Got {low}.")
        _check.shapes(where, **{name: (x, "q") for name, x in parts.items()})

    def __call__(
        self,
        distance: Tensor,  # (...)
        orders: Sequence[int] = (0,),
    ) -> tuple[Tensor, ...]:  # each (...)
        """Give derivatives of the covariance in the signed distance of two coordinates.

        Args:
            distance: Of a coordinate from another.
            orders: Which derivatives; up to 4, or 8 of Gaussian envelopes.

        Returns:
            One tensor per order, each of the shape of the distances.

        Raises:
            ValueError: If there is no such derivative.
        """
        most = FAMILIES[self.family]
        if any(not 0 <= n <= most for n in orders):
            raise ValueError(
                f"`SpectralMixture(...)(orders=...)` must be 0 to {most}, as a field with "
                f"{self.family} components has {most // 2} derivatives. Got {tuple(orders)}. "
                "(Take `family='gaussian'` for more.)"
            )
        d = distance[..., None]
        envelope = _student if self.family == "student" else _gaussian
        h = envelope(d, self.lengths, max(orders, default=0))
        turned = [torch.cos(self.frequencies * d), torch.sin(self.frequencies * d)]
        waves = [turned[0], -turned[1], -turned[0], turned[1]]
        found = []
        for n in orders:
            total = h[n] * waves[0]
            for j in range(n):
                turns = math.comb(n, j) * self.frequencies ** (n - j)
                total = total + turns * h[j] * waves[(n - j) % 4]
            found.append(total @ self.weights)
        return tuple(found)


def _student(d: Tensor, lengths: Tensor, order: int) -> list[Tensor]:
    """Derivatives of the Matérn 5/2 function."""
    a = math.sqrt(5) / lengths
    s, sign = a * d.abs(), torch.sign(d)
    decay = torch.exp(-s)
    found = [1 + s + s.square() / 3]
    if order > 0:
        found.append(-sign * a / 3 * s * (1 + s))
    if order > 1:
        found.append(-(a**2) / 3 * (1 + s - s.square()))
    if order > 2:
        found.append(sign * a**3 / 3 * s * (3 - s))
        found.append(a**4 / 3 * (3 - 5 * s + s.square()))
    return [part * decay for part in found]


def _gaussian(d: Tensor, lengths: Tensor, order: int) -> list[Tensor]:
    """Derivatives of ``exp(-d² / 2)``, by the recurrence of Hermite's polynomials."""
    z = d / lengths
    hermite = [torch.ones_like(z), z]
    for n in range(1, order):
        hermite.append(z * hermite[n] - n * hermite[n - 1])
    decay = torch.exp(-z.square() / 2)
    return [(-1 / lengths) ** n * hermite[n] * decay for n in range(order + 1)]
