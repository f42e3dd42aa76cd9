"""Gaunt products as products of Fourier series on a torus."""

import math

import torch
from torch import Tensor

from tensornet.products.gaunt_transform import (
    Count,
    Stored,
    Transform,
    by_order,
    meridian,
    orders,
    sort_by_order,
    unsort,
)
from tensornet.so3 import dim


class Fourier(Transform):
    """Two-dimensional Fourier series: the sphere doubled to a torus, on which harmonics are short.

    With the angle from the pole going all the way round, a harmonic of degree l is a
    trigonometric polynomial of frequencies up to l in both angles. Its coefficients come exactly
    from 2 l_max + 1 samples. A product is a convolution of coefficients, done by fast transforms
    that are long enough not to wrap around; and coefficients are integrated over the half of the
    torus that is the sphere in closed form, the integral of exp(i n theta) sin(theta).

    References:
        Luo et al., Gaunt tensor products (2024).
    """

    def __init__(self, l_max: int, slopes: bool = False, order: int = 2) -> None:
        super().__init__(l_max, slopes, order)
        self.n1, self.n2 = _lengths(l_max, slopes, order)
        self.n_points = self.n1 * self.n2
        n = 2 * l_max + 1
        theta = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
        P, _ = meridian(l_max, theta)
        a = torch.fft.fft(P.to(torch.complex128), dim=0) / n  # (u, m)
        u = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
        wide = torch.fft.fftfreq(self.n1, 1 / self.n1, dtype=torch.float64)
        K = 2 * math.pi * _half_turn(wide[:, None] + u, sine=not slopes) @ a  # (n1, m)
        series = {"series": by_order(a), "back": by_order(K).mT}
        if slopes:
            series["series1"] = by_order(1j * u[:, None] * a)
            angle = 2 * math.pi * torch.arange(self.n1, dtype=torch.float64) / self.n1
            sine = angle.sin()[:, None].expand(self.n1, self.n2)
            self.constants["sine"] = sine.reshape(-1, 1).clone()
        for name, matrix in series.items():
            half = matrix[l_max:]  # orders from zero on; harmonics of order -m share them
            self.constants[name + "_real"] = half.real.clone()
            self.constants[name + "_imag"] = half.imag.clone()
        self.constants["m"] = torch.arange(l_max + 1, dtype=torch.float64)[:, None, None]
        self.constants |= orders(l_max)

    def values(self, stored: Stored, x: Tensor) -> Tensor:
        """Sum the series of all harmonics and evaluate them on the torus."""
        if not x.numel():  # fast transforms refuse to do nothing
            return x[..., :1, :].expand(*x.shape[:-2], self.parts * self.n_points, x.shape[-1])
        sorted_ = sort_by_order(stored, x)
        L = self.l_max
        cosines, sines = sorted_[..., L:, :, :], sorted_[..., : L + 1, :, :].flip(-3)
        # Order zero has no sine; and the series of a real function has half of each amplitude at
        # -v, which `irfft` supplies.
        m = stored["m"]
        sines = torch.where(m > 0, sines, 0.0)
        half = torch.where(m > 0, 0.5, 1.0).to(x.dtype)
        amplitude = torch.complex(half * cosines, -half * sines)
        parts = [self._evaluate(stored, "series", amplitude)]
        if self.slopes:
            parts.append(self._evaluate(stored, "series1", amplitude))
            parts.append(self._evaluate(stored, "series", 1j * m * amplitude))
        return torch.cat(parts, -2) if self.slopes else parts[0]

    def _evaluate(self, stored: Stored, name: str, amplitude: Tensor) -> Tensor:
        matrix = torch.complex(stored[name + "_real"], stored[name + "_imag"])
        C = (matrix @ amplitude).movedim(-3, -2)  # (..., u, v, c)
        low, high = C[..., : self.l_max + 1, :, :], C[..., self.l_max + 1 :, :, :]
        gap = C.new_zeros(*C.shape[:-3], self.n1 - C.shape[-3], *C.shape[-2:])
        C = torch.fft.ifft(torch.cat([low, gap, high], -3), dim=-3, norm="forward")
        out: Tensor = torch.fft.irfft(C, n=self.n2, dim=-2, norm="forward").flatten(-3, -2)
        return out

    def features(self, stored: Stored, values: Tensor) -> Tensor:
        """Take values to their series and integrate it against the harmonics."""
        if not values.numel():
            return values[..., :1, :].expand(*values.shape[:-2], dim(self.l_max), values.shape[-1])
        grid = values.unflatten(-2, (self.n1, self.n2))
        F = torch.fft.rfft(grid, dim=-2, norm="forward")[..., : self.l_max + 1, :]
        F = torch.fft.fft(F, dim=-3, norm="forward").movedim(-2, -3)  # (..., v, u, c)
        S = torch.complex(stored["back_real"], stored["back_imag"]) @ F  # (..., v, l, c)
        cosines, sines = S.real, -S.imag
        return unsort(stored, torch.cat([sines[..., 1:, :, :].flip(-3), cosines], -3))

    def pointwise(self, stored: Stored, a: Tensor, b: Tensor) -> Tensor:
        """Multiply on the torus, and add the Poisson bracket if there are slopes."""
        if not self.slopes:
            return a * b
        (f, f1, f2), (g, g1, g2) = (v.unflatten(-2, (3, -1)).unbind(-3) for v in (a, b))
        out: Tensor = f * g * stored["sine"] + (f1 * g2 - f2 * g1)
        return out

    @classmethod
    def count(cls, l_max: int, slopes: bool, order: int = 2) -> Count:
        """Count a complex number as four, and fast transforms of n points as n log2(n)."""
        n1, n2 = _lengths(l_max, slopes, order)
        n, parts = l_max + 1, 3 if slopes else 1
        fast = math.ceil(n1 * n2 * math.log2(max(2, n1 * n2)))
        there = 4 * n * n * (2 * l_max + 1) + fast
        return Count(parts * there, parts * n1 * n2, 4 * n * n * n1 + fast)


def _lengths(l_max: int, slopes: bool, order: int) -> tuple[int, int]:
    """Give the lengths of both series, so that a product of `order` factors does not wrap around.

    A bracket lacks the sine that areas have; then it is the product that is given one.
    """
    return 2 * order * l_max + (3 if slopes else 1), (order + 1) * l_max + 1


def _half_turn(n: Tensor, *, sine: bool) -> Tensor:
    """Integrate exp(i n theta), times the sine of theta if asked, from 0 to pi; whole n."""
    even = n % 2 == 0
    if sine:
        real = torch.where(even, 2 / (1 - n * n).where(even, torch.ones_like(n)), 0.0)
        imag = torch.where(n.abs() == 1, n.sign() * math.pi / 2, 0.0)
        return torch.complex(real, imag)
    real = math.pi * (n == 0).to(n.dtype)
    imag = torch.where(even, 0.0, 2 / n.where(~even, torch.ones_like(n)))
    return torch.complex(real, imag)
