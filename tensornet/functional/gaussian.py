"""Gaussian-process regression on a line in linear time."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from tensornet.functional.matern import Matern, Numbers, checked_kernel, checked_series
from tensornet.functional.state_space import MarkovPosterior, smooth


class StateSpaceGP:
    """Gaussian-process regression with a Matern kernel, at the cost of a sweep over the data.

    What it gives is exactly what the dense equations give, in time and memory proportional to the
    number of observations: the kernel is written as a stochastic differential equation, and a
    filter and a smoother pass over the sorted coordinates. The prior mean is zero.

    Args:
        kernel: Covariance of the function.
        noise: Variance of the noise of an observation.

    Raises:
        TypeError: If the kernel is something else.
        ValueError: If the noise is not positive and finite.

    References:
        Hartikainen & Sarkka, IEEE MLSP (2010), doi:10.1109/MLSP.2010.5589113.

    Examples:
        >>> t = torch.linspace(0, 6, 200, dtype=torch.float64)
        >>> model = StateSpaceGP(Matern(2.5, length_scale=2.0), noise=1e-4).fit(t, t.sin())
        >>> mean, variance = model.predict([1.0, 2.0])
        >>> bool((mean - torch.tensor([1.0, 2.0]).sin()).abs().max() < 1e-3)
        True
    """

    def __init__(self, kernel: Matern | None = None, noise: float = 0.01) -> None:
        kernel = Matern() if kernel is None else kernel
        checked_kernel("StateSpaceGP", kernel)
        if isinstance(noise, bool) or not isinstance(noise, int | float):
            raise TypeError(f"`StateSpaceGP(noise=...)` must be a number. Got {noise!r}.")
        if not 0 < noise < math.inf:
            raise ValueError(
                f"`StateSpaceGP(noise=...)` must be positive and finite. Got {noise}. (It is a "
                "variance; for data without noise take some millionths of that of the values.)"
            )
        self.kernel = kernel
        self.noise = float(noise)
        self.log_evidence = math.nan
        self.posterior: MarkovPosterior | None = None
        self._series = False

    def fit(self, coordinates: Numbers, values: Numbers, *, learn: bool = False) -> Self:
        """Condition on observations.

        Args:
            coordinates: In any order, equal ones allowed, (n,); an array or a sequence will do.
            values: (n,), or (n, c) for c independent series with the same kernel and noise.
            learn: Whether to choose length scale, variance and noise by the evidence, from those
                that were given on. They are then found in `kernel` and `noise`.

        Returns:
            The model itself.

        Raises:
            TypeError: If the arguments hold no real numbers.
            ValueError: If shapes do not fit, or numbers are NaN or infinite.
        """
        t = checked_series("StateSpaceGP.fit", "coordinates", coordinates)
        y = checked_series("StateSpaceGP.fit", "values", values)
        if t.ndim != 1 or y.ndim not in (1, 2) or len(y) != len(t):
            raise ValueError(
                "`StateSpaceGP.fit(coordinates=..., values=...)` must have shapes (n,) and (n,) "
                f"or (n, c). Got {tuple(t.shape)} and {tuple(y.shape)}."
            )
        self._series = y.ndim == 2
        t, place = torch.unique(t, return_inverse=True)
        y = y.reshape(len(place), -1)
        count = torch.bincount(place, minlength=len(t)).double()
        total = torch.zeros(len(t), y.shape[1], dtype=torch.float64).index_add_(0, place, y)
        square = float(y.square().sum())
        data = (t, count, total.mT.contiguous(), square)
        if learn:
            self.kernel, self.noise = _learned(self.kernel, self.noise, *data)
        with torch.no_grad():
            self.posterior, self.log_evidence = _conditioned(self.kernel, self.noise, *data)
        return self

    def predict(self, coordinates: Numbers, *, noise: bool = False) -> tuple[Tensor, Tensor]:
        """Give the posterior at any coordinates.

        Args:
            coordinates: In any order, inside or outside of the data, (m,).
            noise: Whether the variance is that of a new observation, not of the function.

        Returns:
            Mean and variance, each (m,), or (m, c) for c series.

        Raises:
            RuntimeError: If the model was not fitted.
            ValueError: If the coordinates have other axes, or are not finite.
        """
        if self.posterior is None:
            raise RuntimeError("`StateSpaceGP.predict(...)` must come after `fit`.")
        x = checked_series("StateSpaceGP.predict", "coordinates", coordinates)
        if x.ndim != 1:
            raise ValueError(
                "`StateSpaceGP.predict(coordinates=...)` must have shape (m,). Got "
                f"{tuple(x.shape)}."
            )
        mean, covariance = self.posterior.at(x)
        mean, variance = mean[..., 0].mT, covariance[..., 0, 0].mT.clamp(min=0)
        variance = variance + self.noise if noise else variance
        return (mean, variance) if self._series else (mean[:, 0], variance[:, 0])


def _conditioned(
    kernel: Matern, noise: float, t: Tensor, count: Tensor, total: Tensor, square: float
) -> tuple[MarkovPosterior, float]:
    """Give the posterior and the evidence of counts and sums of values at distinct coordinates."""
    series = len(total)
    precision = (count / noise)[:, None, None].expand(series, -1, 1, 1)
    posterior = smooth(kernel, t, precision, total[..., None] / noise)
    constant = float(count.sum()) * series * math.log(2 * math.pi * noise) + square / noise
    return posterior, float(posterior.log_evidence.sum()) - 0.5 * constant


def _learned(
    kernel: Matern, noise: float, t: Tensor, count: Tensor, total: Tensor, square: float
) -> tuple[Matern, float]:
    """Choose the hyper-parameters by the evidence: their logarithms, by a quasi-Newton method."""
    from scipy.optimize import minimize

    if len(t) < 2 or square == 0:
        raise ValueError(
            "`StateSpaceGP.fit(learn=True)` must have values that are not all zero at two "
            f"coordinates or more. Got {len(t)} coordinates. (Give the scales, and fit without.)"
        )
    n = float(count.sum()) * len(total)
    extent, spacing = float(t[-1] - t[0]), float(torch.diff(t).min())
    power = square / n

    def made(logs: Any) -> tuple[Matern, float]:
        length_scale, variance, noise = (float(x) for x in np.exp(logs))
        return Matern(kernel.nu, length_scale, variance), noise

    def loss(logs: Any) -> float:
        with torch.no_grad():
            return -_conditioned(*made(logs), t, count, total, square)[1] / n

    bounds = np.log([
        (max(spacing, 1e-6 * extent), 100 * extent),
        (1e-6 * power, 1e6 * power),
        (1e-9 * power, 10 * power),
    ])  # fmt: skip
    start = np.log([float(kernel.length_scale), float(kernel.variance), noise])
    found = minimize(loss, start.clip(bounds[:, 0], bounds[:, 1]), method="L-BFGS-B", bounds=bounds)
    return made(found.x)
