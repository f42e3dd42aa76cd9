"""Variational inference of functional Tucker and CP models: sweeps over core, noise and modes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tensornet.functional.funbat_moments import Moments, packed, unpacked
from tensornet.functional.matern import Matern
from tensornet.functional.state_space import MarkovPosterior, log_evidence, smooth

_START_PRECISION = 50.0  # of the noise, for values of unit variance, in the first sweeps
_SEARCH = 0.5  # first step of the search for the logarithm of a scale
_FINEST = 0.1  # where it rests, to look again every fifth time


@dataclass
class Mode:
    """The factor functions of one mode, as far as they are known.

    Args:
        coordinates: Sorted and distinct, (d,).
        kernel: Covariance of every factor function.
        mean: Of the factors at the coordinates, (d, r).
        second: Rows of their second moments, (d, r (r + 1) / 2).
        learn: Whether the length scale follows the bound.
        posterior: What the messages say; none before the first sweep.
        precision: Of the messages, (d, r, r).
        shift: Precision times mean of the messages, (d, r).
        search: Present step of the search for the logarithm of the length scale.
        visits: How often messages came.
    """

    coordinates: Tensor
    kernel: Matern
    mean: Tensor
    second: Tensor
    learn: bool
    posterior: MarkovPosterior | None = None
    precision: Tensor = field(default_factory=lambda: torch.empty(0))
    shift: Tensor = field(default_factory=lambda: torch.empty(0))
    search: float = _SEARCH
    visits: int = 0

    def set(self, precision: Tensor, shift: Tensor, damping: float) -> None:
        """Replace the messages, and let the functions follow.

        Args:
            precision: New ones, (d, r, r).
            shift: New ones, (d, r).
            damping: Share of the old messages that is kept.
        """
        if self.posterior is not None and damping:
            precision = damping * self.precision + (1 - damping) * precision
            shift = damping * self.shift + (1 - damping) * shift
        self.precision, self.shift = precision, shift
        self.visits += 1
        kernel = self.kernel
        if self.learn and self.visits > 1 and (self.search > _FINEST or self.visits % 5 == 0):
            kernel = self._searched(kernel)
        self.kernel = kernel
        self.posterior = smooth(kernel, self.coordinates, precision, shift)
        self.mean = self.posterior.mean
        outer = self.mean[:, :, None] * self.mean[:, None]
        self.second = packed(self.posterior.covariance + outer)

    def _linear(self) -> float:
        return float((self.shift * self.mean).sum())

    def _square(self) -> float:
        return float((packed(self.precision) * self.second * _twice(self.mean.shape[1])).sum())

    def _searched(self, kernel: Matern) -> Matern:
        """Try a length scale on either side, then the vertex of the parabola; keep the best."""
        extent = float(self.coordinates[-1] - self.coordinates[0])
        scale, h = float(kernel.length_scale), max(self.search, _FINEST)

        def tried(step: float) -> tuple[float, float, Matern]:
            length = min(max(scale * math.exp(step), 1e-4 * extent), 100 * extent)
            one = replace(kernel, length_scale=length)
            evidence = log_evidence(one, self.coordinates, self.precision, self.shift)
            return evidence, step, one

        found = [tried(-h), tried(0.0), tried(h)]
        low, middle, high = (one[0] for one in found)
        curvature = low - 2 * middle + high
        if curvature < 0 and middle >= max(low, high):
            found.append(tried(h / 2 * (low - high) / curvature))
        _, step, best = max(found, key=lambda one: one[0])
        self.search = min(2 * h, _SEARCH) if abs(step) == h else h / 2
        return best

    def divergence(self) -> float:
        """Give the Kullback-Leibler divergence of the functions from their prior."""
        assert self.posterior is not None
        return self._linear() - self._square() / 2 - float(self.posterior.log_evidence)


@dataclass
class Core:
    """The Gaussian core of a Tucker model, or the weights of a CP model.

    Args:
        mean: In the shape that `Moments.core_shape` says.
        covariance: Of its entries, (c, c); zero for CP, where weights are chosen by the bound.
        precision: Of the prior of an entry.
        divergence: Kullback-Leibler divergence from the prior.
    """

    mean: Tensor
    covariance: Tensor
    precision: float = 1.0
    divergence: float = 0.0

    def update(
        self, moment: Tensor, centred: Tensor, total: Tensor, tau: float, point: bool
    ) -> None:
        """Give the core what the data and the factors say.

        Args:
            moment: Sum of products of two features, (c, c).
            centred: The same of the features less their mean over the entries.
            total: Sum of features times values less their mean, (c,).
            tau: Precision of the noise.
            point: Whether it has no prior and no variance, as the weights of CP.
        """
        c = len(total)
        eye = torch.eye(c, dtype=torch.float64)
        if point:
            ridge = 1e-12 * float(moment.diagonal().mean()) * eye
            self.mean = torch.linalg.solve(centred + ridge, total).reshape(self.mean.shape)
            return
        factor = torch.linalg.cholesky(tau * centred + self.precision * eye)
        mean = torch.cholesky_solve(tau * total[:, None], factor)[:, 0]
        self.mean = mean.reshape(self.mean.shape)
        factor = torch.linalg.cholesky(tau * moment + self.precision * eye)
        self.covariance = torch.cholesky_inverse(factor)
        size = float(mean.square().sum() + self.covariance.trace())
        self.precision = c / size  # which maximises the bound
        entropy = -2 * float(factor.diagonal().log().sum())
        self.divergence = 0.5 * (-entropy - c * math.log(self.precision))

    @property
    def second(self) -> Tensor:  # (c, c)
        """Second moment of its entries."""
        flat = self.mean.reshape(-1)
        return self.covariance + flat[:, None] * flat


class Inference:
    """Coordinate ascent on a lower bound of the evidence.

    Args:
        moments: Contractions over the entries.
        modes: One per mode, at their start.
        values: With mean zero and variance one, (n,).
        damping: Share of the old messages that is kept.
        prior: Shape and rate of the gamma prior of the noise precision.
    """

    def __init__(
        self,
        moments: Moments,
        modes: list[Mode],
        values: Tensor,
        damping: float,
        prior: tuple[float, float],
    ) -> None:
        self.moments, self.modes, self.values = moments, modes, values
        self.damping, self.prior = damping, prior
        size = math.prod(moments.core_shape)
        zero = torch.zeros(size, size, dtype=torch.float64)
        self.core = Core(zero.new_zeros(moments.core_shape), zero)
        self.shape, self.rate = _START_PRECISION, 1.0
        self.square = float(values.square().sum())
        self.residual = self.square
        self.offset = 0.0

    @property
    def tau(self) -> float:
        """Expected precision of the noise."""
        return self.shape / self.rate

    def sweep(self, hold_noise: bool = False) -> float:
        """Update core, noise, then every mode.

        Args:
            hold_noise: Whether to leave the noise as it is.

        Returns:
            The bound as it was before the modes; minus infinity in the first sweep.
        """
        bound = self.update_core(hold_noise)
        for k in range(len(self.modes)):
            self.update_mode(k)
        return bound

    def update_core(self, hold_noise: bool) -> float:
        """Update core and noise, and give the bound.

        Args:
            hold_noise: Whether to leave the noise as it is.
        """
        moments, core = self.moments, self.core
        second = moments.total([mode.second for mode in self.modes], None)
        means = [mode.mean for mode in self.modes]
        total = moments.total(means, self.values).reshape(-1)  # values have mean zero
        middle = moments.total(means, None).reshape(-1) / moments.n
        full = moments.unpacked_total(second)
        centred = full - moments.n * middle[:, None] * middle
        for _ in range(1 if hold_noise or moments.diagonal else 3):
            core.update(full, centred, total, self.tau, moments.diagonal)
            flat = core.mean.reshape(-1)
            self.offset = -float(middle @ flat)
            linear = float(flat @ total) - self.offset * moments.n * float(middle @ flat)
            square = self.square + moments.n * self.offset**2 - 2 * linear
            self.residual = max(square + float((core.second * full).sum()), 0.0)
            if not hold_noise:
                self.shape = self.prior[0] + moments.n / 2
                self.rate = self.prior[1] + self.residual / 2
        if any(mode.posterior is None for mode in self.modes):
            return -math.inf
        return self._bound()

    def update_mode(self, k: int) -> None:
        """Send all messages to one mode.

        Args:
            k: Which mode.
        """
        second = [mode.second for mode in self.modes]
        means = [mode.mean for mode in self.modes]
        core = self.moments.packed_core(self.core.second)
        rows = self.moments.message(core, second, k, None)
        shift = self.moments.message(self.core.mean, means, k, self.values - self.offset)
        precision = unpacked(rows, self.moments.ranks[k])
        self.modes[k].set(self.tau * precision, self.tau * shift, self.damping)

    def _bound(self) -> float:
        n, (shape, rate) = self.moments.n, self.prior
        digamma = float(torch.digamma(torch.tensor(self.shape, dtype=torch.float64)))
        log_tau = digamma - math.log(self.rate)
        likelihood = 0.5 * n * (log_tau - math.log(2 * math.pi)) - 0.5 * self.tau * self.residual
        noise = (
            (self.shape - shape) * digamma
            - math.lgamma(self.shape) + math.lgamma(shape)
            + shape * (math.log(self.rate) - math.log(rate))
            + self.tau * (rate - self.rate)
        )  # fmt: skip
        modes = sum(mode.divergence() for mode in self.modes)
        return likelihood - noise - self.core.divergence - modes


def start(
    coordinates: list[Tensor], ranks: list[int], kernels: list[Matern], learn: list[bool],
    generator: torch.Generator,
) -> list[Mode]:  # fmt: skip
    """Draw factor functions of order one: a constant plus waves, never near zero everywhere.

    Args:
        coordinates: Of each mode, sorted and distinct.
        ranks: Rank of each mode.
        kernels: Covariance of each mode, with the length scale to start from.
        learn: Whether the length scale follows the bound.
        generator: Source of the waves.
    """
    modes = []
    for t, r, kernel, follow in zip(coordinates, ranks, kernels, learn, strict=True):
        frequency = torch.randn(2, r, generator=generator, dtype=torch.float64)
        frequency = frequency / float(kernel.length_scale)
        turns = torch.rand(2, r, generator=generator, dtype=torch.float64)
        waves = torch.cos(frequency * (t[:, None, None] - t[0]) + 2 * math.pi * turns).sum(1)
        mean = waves if r > 1 else 0.5 + waves
        if r > 1:
            mean[:, 0] = 1.0
        second = packed(mean[:, :, None] * mean[:, None])
        modes.append(Mode(t, kernel, mean, second, follow))
    return modes


def _twice(rank: int) -> Tensor:
    """How often each entry of `packed` rows stands in the matrix."""
    row, column = torch.triu_indices(rank, rank)
    times: Tensor = 1.0 + (row != column).double()
    return times
