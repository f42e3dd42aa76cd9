"""Functional Tucker and CP models: low-rank tensors whose modes are continuous, with error bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from tensornet._typing import AnyPath
from tensornet.formats.cp import CP
from tensornet.formats.tucker import Tucker
from tensornet.functional.funbat_checks import checked_data, checked_settings, per_mode
from tensornet.functional.funbat_moments import Moments, packed
from tensornet.functional.funbat_run import Outcome, run
from tensornet.functional.matern import Matern, Numbers, checked_series

_POINTS = 20_000  # of a batch of predictions
Progress = Callable[[int, float], None]


class FunctionalTucker:
    """A function of several coordinates as a Tucker tensor with Gaussian processes for factors.

    A value at ``(x_1, ..., x_K)`` is modelled as ``sum over a, b, ... of core[a, b, ...]
    u^1_a(x_1) u^2_b(x_2) ...`` plus a constant and Gaussian noise. Each ``u^k_a`` is a Gaussian
    process with a Matern kernel, the core is Gaussian, and the precision of the noise has a gamma
    prior. Inputs are scattered entries: any coordinates, any of them missing, no grid. Values are
    shifted and scaled inside.

    The posterior is approximated by a product over core, noise and modes. Each mode in turn gets
    a Gaussian message from every entry, and a filter and a smoother pass over its coordinates, in
    linear time. Every update raises a bound of the evidence, and so does the choice of the length
    scales. Several random starts of order one are compared by that bound.

    Args:
        ranks: Of every mode, or one per mode.
        nu: Smoothness of the factor functions, 1/2, 3/2 or 5/2; one number, or one per mode.
        length_scales: In the units of the coordinates, one number or one per mode; None chooses
            them by the bound.
        max_sweeps: Most sweeps over all modes.
        tolerance: The fit has converged when the bound rose by less than this, per observation,
            over five sweeps.
        damping: Share of the old messages that a mode keeps, below one. Zero is fastest, and the
            bound then never falls.
        restarts: Random starts to compare.
        seed: Of the starts. The same seed gives the same fit.
        noise_prior: Shape and rate of the gamma prior of the noise precision, for values scaled to
            variance one.

    Raises:
        TypeError: If a setting is no number.
        ValueError: If one is out of its range.

    References:
        Fang, Yu, Wang, Li, Kirby & Zhe, "Functional Bayesian Tucker Decomposition for
        Continuous-indexed Tensor Data", ICLR (2024), arXiv:2311.04829.

    Examples:
        >>> import math
        >>> x = torch.rand(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> y = torch.sin(6 * x[:, 0]) * torch.exp(-x[:, 1])
        >>> model = FunctionalTucker(2, restarts=1).fit(x, y)
        >>> mean, variance = model.predict([[0.3, 0.5]])
        >>> abs(float(mean) - math.sin(1.8) * math.exp(-0.5)) < 0.01
        True
    """

    _diagonal: ClassVar[bool] = False

    def __init__(
        self,
        ranks: int | Sequence[int],
        *,
        nu: float | Sequence[float] = 1.5,
        length_scales: float | Sequence[float] | None = None,
        max_sweeps: int = 200,
        tolerance: float = 1e-3,
        damping: float = 0.0,
        restarts: int = 3,
        seed: int = 0,
        noise_prior: tuple[float, float] = (1e-3, 1e-6),
    ) -> None:
        self.settings = {
            "ranks": ranks, "nu": nu, "length_scales": length_scales, "max_sweeps": max_sweeps,
            "tolerance": tolerance, "damping": damping, "restarts": restarts, "seed": seed,
            "noise_prior": noise_prior,
        }  # fmt: skip
        checked_settings(type(self).__name__, self.settings)
        self.outcome: Outcome | None = None

    def fit(
        self, coordinates: Numbers, values: Numbers, *, progress: Progress | None = None
    ) -> Self:
        """Condition on scattered observations.

        Args:
            coordinates: One row per observation, one column per mode, (n, K).
            values: (n,).
            progress: Called after each sweep of the best start with its number and the bound per
                observation; an error that it raises stops the fit.

        Returns:
            The model itself.

        Raises:
            TypeError: If the arguments hold no real numbers.
            ValueError: If shapes do not fit, numbers are NaN or infinite, a mode has one
                coordinate only, or ranks are larger than the data can bear.
        """
        name = type(self).__name__
        x, y = checked_data(name, coordinates, values)
        ranks = per_mode(name, "ranks", self.settings["ranks"], x.shape[1], self._diagonal)
        self.outcome = run(name, x, y, ranks, self._diagonal, self.settings, progress)
        return self

    def predict(self, coordinates: Numbers, *, noise: bool = False) -> tuple[Tensor, Tensor]:
        """Give the posterior at any coordinates, also ones that no observation has.

        Args:
            coordinates: One row per point, (m, K).
            noise: Whether the variance is that of a new observation, not of the function.

        Returns:
            Mean (m,) and variance (m,).

        Raises:
            RuntimeError: If the model was not fitted.
            ValueError: If the coordinates have other columns, or are not finite.
        """
        fitted = self._fitted("predict")
        x = checked_series(f"{type(self).__name__}.predict", "coordinates", coordinates)
        order = len(fitted.inference.modes)
        if x.ndim != 2 or x.shape[1] != order:
            raise ValueError(
                f"`{type(self).__name__}.predict(coordinates=...)` must have shape (m, {order}). "
                f"Got {tuple(x.shape)}."
            )
        mean, variance = (torch.cat(z) for z in zip(*map(self._at, x.split(_POINTS)), strict=True))
        mean = fitted.constant + fitted.scale * mean
        return mean, fitted.scale**2 * variance + noise * self.noise

    def _at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of scaled values."""
        fitted = self._fitted("predict").inference
        index, means, seconds = [], [], []
        for k in range(x.shape[1]):
            t, place = torch.unique(x[:, k], return_inverse=True)
            mean, covariance = self.factors(k, t)
            index.append(place)
            means.append(mean)
            seconds.append(packed(covariance + mean[:, :, None] * mean[:, None]))
        moments = Moments(index, fitted.moments.ranks, self._diagonal)
        value = moments.values(fitted.core.mean, means)
        square = moments.values(moments.packed_core(fitted.core.second), seconds)
        return value, (square - value.square()).clamp(min=0)

    def factors(self, mode: int, coordinates: Numbers) -> tuple[Tensor, Tensor]:
        """Give the factor functions of a mode.

        Args:
            mode: Which one, from zero.
            coordinates: (m,).

        Returns:
            Mean (m, r) and covariance (m, r, r).

        Raises:
            RuntimeError: If the model was not fitted.
            ValueError: If there is no such mode, or the coordinates have other axes.
        """
        modes = self._fitted("factors").inference.modes
        where = f"{type(self).__name__}.factors"
        x = checked_series(where, "coordinates", coordinates)
        if not 0 <= mode < len(modes):
            raise ValueError(f"`{where}(mode=...)` must be 0 to {len(modes) - 1}. Got {mode}.")
        if x.ndim != 1:
            raise ValueError(
                f"`{where}(coordinates=...)` must have shape (m,). Got {tuple(x.shape)}."
            )
        posterior = modes[mode].posterior
        assert posterior is not None
        return posterior.at(x)

    def on_grid(self, axes: Sequence[Numbers]) -> Tucker | CP:
        """Give the posterior mean on a grid, in its format: no entry of the grid is computed.

        The constant becomes one more term, so ranks are one larger than those fitted.

        Args:
            axes: Coordinates of the grid along each mode.

        Returns:
            A `Tucker` value of the shape of the grid; a `CP` value from `FunctionalCP`.

        Raises:
            RuntimeError: If the model was not fitted.
            ValueError: If there is not one axis per mode.
        """
        fitted = self._fitted("on_grid")
        if len(axes) != len(fitted.inference.modes):
            raise ValueError(
                f"`{type(self).__name__}.on_grid(axes=...)` must hold "
                f"{len(fitted.inference.modes)} axes. Got {len(axes)}."
            )
        factors = tuple(self.factors(k, axis)[0] for k, axis in enumerate(axes))
        ones = tuple(f.new_ones(len(f), 1) for f in factors)
        core = fitted.scale * fitted.inference.core.mean
        shift = factors[0].new_tensor(fitted.constant)
        if self._diagonal:
            return CP(factors, core) + CP(ones, shift[None])
        return Tucker(core, factors) + Tucker(shift.reshape([1] * len(ones)), ones)

    @property
    def noise(self) -> float:
        """Expected variance of the noise, in the squared units of the values."""
        fitted = self._fitted("noise")
        shape, rate = fitted.inference.shape, fitted.inference.rate
        return fitted.scale**2 * rate / max(shape - 1, 0.5 * shape)

    @property
    def kernels(self) -> tuple[Matern, ...]:
        """Covariance of the factor functions of every mode."""
        return tuple(mode.kernel for mode in self._fitted("kernels").inference.modes)

    @property
    def converged(self) -> bool:
        """Whether the bound came to rest."""
        return self._fitted("converged").converged

    @property
    def message(self) -> str:
        """How the fit ended, as a sentence."""
        return self._fitted("message").message

    @property
    def bounds(self) -> tuple[float, ...]:
        """Lower bound of the logarithm of the evidence, of the scaled values, in each sweep."""
        return self._fitted("bounds").bounds

    def save(self, path: AnyPath) -> None:
        """Write the model to a safetensors file, which `load` reads.

        Args:
            path: Name of the file, by custom ending in ``.safetensors``.

        Raises:
            RuntimeError: If the model was not fitted.
            OSError: If the folder does not exist or cannot be written to.
        """
        from tensornet.functional.funbat_file import write

        write(path, type(self).__name__, self.settings, self._fitted("save"))

    @classmethod
    def load(cls, path: AnyPath) -> Self:
        """Read a model from a file of `save`.

        Args:
            path: The file.

        Returns:
            The fitted model.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no such file, or a model of another kind.
        """
        from tensornet.functional.funbat_file import read

        settings, outcome = read(path, cls.__name__, cls._diagonal)
        model = cls(**settings)
        model.outcome = outcome
        return model

    def _fitted(self, name: str) -> Outcome:
        if self.outcome is None:
            raise RuntimeError(f"`{type(self).__name__}.{name}` must come after `fit`.")
        return self.outcome


class FunctionalCP(FunctionalTucker):
    """A function of several coordinates as a sum of products of Gaussian processes.

    A value is modelled as ``sum over a of weights[a] u^1_a(x_1) u^2_a(x_2) ...`` plus a constant
    and Gaussian noise; all else is as for `FunctionalTucker`. The weights have no prior: they are
    chosen by the bound. With one mode and rank one this is Gaussian-process regression. The fit
    begins at the CP decomposition of the core of a functional Tucker model.

    Cost per entry grows with the square of the rank, not with its power ``2 K``.

    Args:
        ranks: Number of terms. All other settings are those of `FunctionalTucker`.

    Raises:
        TypeError: If a setting is no number.
        ValueError: If one is out of its range.

    References:
        As for `FunctionalTucker`.

    Examples:
        >>> import math
        >>> x = torch.rand(300, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> model = FunctionalCP(1, restarts=1).fit(x, x[:, 0] * torch.exp(-x[:, 1]))
        >>> abs(float(model.predict([[0.5, 0.5]])[0]) - 0.5 * math.exp(-0.5)) < 0.01
        True
    """

    _diagonal: ClassVar[bool] = True
