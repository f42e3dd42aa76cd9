"""Evidence of what is observed of a Gaussian process, and its maximum over kernels and noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet.pde.gaussian_functionals import Covariance, Functionals, variances
from tensornet.pde.gaussian_kernel import SpectralMixture

JITTER = 1e-13  # variance added to every functional, over its variance beforehand
LEAST = 1e-13  # variance of noise that is learned, over its unit
SHORTER = (1.0, 0.3, 0.1)  # lengths tried first, over those from the spectrum
TRIED = 3  # of these, as long as the search stops at once where round-off hides the slope
NOISES = (1e-10, 1e-6, 1e-3, 3e-2, 0.3)  # variances of noise tried first, in their units
_REFUSED = 1e15  # loss where a covariance is not positive definite in floating point


class Loss(Protocol):
    """Minus the logarithm of the evidence at a vector, and its gradient where that is asked."""

    def __call__(self, vector: NDArray[Any], slope: bool = True, /) -> tuple[float, NDArray[Any]]:
        """Evaluate."""


@dataclass(frozen=True, eq=False)
class Observed:
    """Functionals that were observed, up to noise.

    Args:
        functionals: What of the field is seen.
        values: What was seen, (n,).
        noise: Variance of the noise; or none, where it is learned.
        unit: Variance in units of which it is learned.
    """

    functionals: Functionals
    values: Tensor
    noise: float | None = 0.0
    unit: float = 1.0


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """Kernels, one per axis, and variances of noise, one per block of observations.

    Args:
        kernels: One per axis.
        noises: One per block.
    """

    kernels: tuple[SpectralMixture, ...]
    noises: tuple[Tensor, ...]


class Conditioned:
    """A Gaussian process given observations: the closed form, by one Cholesky factor.

    Args:
        blocks: What was observed.
        hyper: Kernels and noise.
        covariances: The covariances of all pairs of blocks, if they are there already.

    Attributes:
        log_evidence: Logarithm of the density of the observations.
    """

    def __init__(
        self,
        blocks: Sequence[Observed],
        hyper: Hyperparameters,
        covariances: Sequence[Sequence[Covariance]] | None = None,
    ) -> None:
        self.blocks, self.hyper = tuple(blocks), hyper
        with torch.no_grad():
            S, self.scale = gram(self.blocks, hyper, covariances or crossed(self.blocks))
        self.factor, wrong = torch.linalg.cholesky_ex(S)
        if int(wrong):
            raise ValueError(
                "`GaussianProcessSolver(kernels=...)` must make a covariance that is positive "
                f"definite. Got one that is singular to round-off at row {int(wrong)} of {len(S)}. "
                "(Take fewer points, shorter lengths, or noise.)"
            )
        y = torch.cat([block.values for block in self.blocks]) / self.scale
        self._half = torch.linalg.solve_triangular(self.factor, y[:, None], upper=False)
        self.log_evidence = float(_log_density(self._half, self.factor, self.scale))

    def at(self, functionals: Functionals) -> tuple[Tensor, Tensor]:  # (n,), (n,)
        """Mean and variance of other functionals.

        Args:
            functionals: Of the field.
        """
        with torch.no_grad():
            parts = [
                Covariance(block.functionals, functionals)(self.hyper.kernels)
                for block in self.blocks
            ]
            cross = torch.cat(parts) / self.scale[:, None]
            half = torch.linalg.solve_triangular(self.factor, cross, upper=False)
            before = variances(functionals, self.hyper.kernels)
            return (half.mT @ self._half)[:, 0], torch.maximum(
                before - half.square().sum(0), JITTER * before
            )


def crossed(blocks: Sequence[Observed]) -> list[list[Covariance]]:
    """Covariances of each block with itself and those before it.

    Args:
        blocks: What was observed.
    """
    return [
        [Covariance(row.functionals, column.functionals) for column in blocks[: i + 1]]
        for i, row in enumerate(blocks)
    ]


def gram(
    blocks: Sequence[Observed], hyper: Hyperparameters, covariances: Sequence[Sequence[Covariance]]
) -> tuple[Tensor, Tensor]:  # (n, n), (n,)
    """Covariance of all observations, scaled to a diagonal of one before noise, and the scale.

    Args:
        blocks: What was observed.
        hyper: Kernels and noise.
        covariances: As `crossed` gives them.
    """
    parts = [[covariance(hyper.kernels) for covariance in row] for row in covariances]
    n = len(parts)
    whole = torch.cat([
        torch.cat([parts[i][j] if j <= i else parts[j][i].mT for j in range(n)], 1)
        for i in range(n)
    ])  # fmt: skip
    scale = torch.cat([variances(b.functionals, hyper.kernels) for b in blocks]).sqrt()
    noise = torch.cat([
        noise.expand(len(b.values)) for noise, b in zip(hyper.noises, blocks, strict=True)
    ])  # fmt: skip
    S = whole / scale[:, None] / scale
    return S + torch.diag(noise / scale.square() + JITTER), scale


def _log_density(half: Tensor, factor: Tensor, scale: Tensor) -> Tensor:
    volume = factor.diagonal().log().sum() + scale.log().sum()
    return -half.square().sum() / 2 - volume - len(half) / 2 * math.log(2 * math.pi)


class Parameters:
    """Hyper-parameters as one vector, of logarithms and of frequencies times a length.

    Args:
        start: The kernels to begin with.
        lengths: Of the box.
        spacing: Of the grid; no wave shorter than two spacings is allowed.
        units: Per block of observations, its variance of noise, or a unit to learn it in.
        longest: Largest length of a kernel over that of the box.
    """

    def __init__(
        self,
        start: Sequence[SpectralMixture],
        lengths: Sequence[float],
        spacing: Sequence[float],
        units: Sequence[tuple[float | None, float]],
        longest: float = 100.0,
    ) -> None:
        self.families = [k.family for k in start]
        self.sizes = [len(k.weights) for k in start]
        self.lengths, self.units = tuple(lengths), tuple(units)
        parts, self.bounds = [], []
        for kernel, length, h in zip(start, lengths, spacing, strict=True):
            q = len(kernel.weights)
            parts += [kernel.weights.log(), kernel.lengths.log(), kernel.frequencies * length]
            top = float(kernel.weights.max().log())
            self.bounds += [(top - 60, top + 30)] * q
            self.bounds += [(math.log(h / 4), math.log(longest * length))] * q
            self.bounds += [(0.0, math.pi * length / h)] * q
        learned = sum(noise is None for noise, _ in self.units)
        self.bounds += [(math.log(LEAST), math.log(10.0))] * learned
        self._kernels = torch.cat(parts).detach()

    def started(
        self, noises: Sequence[float | None], shorter: float = 1.0, noise: float = 1e3 * LEAST
    ) -> NDArray[Any]:
        """The vector to begin with.

        Args:
            noises: Variance per block, or none where nothing is known yet.
            shorter: What the lengths of the kernels are multiplied by.
            noise: Variance in its unit, where nothing is known yet.
        """
        logs = []
        for known, (fixed, unit) in zip(noises, self.units, strict=True):
            if fixed is None:
                logs.append(math.log(noise if known is None else known / unit))
        vector = np.concatenate([self._kernels.numpy(), logs])
        at = 0
        for q in self.sizes:
            vector[at + q : at + 2 * q] += math.log(shorter)
            at += 3 * q
        low, high = np.array(self.bounds).T
        return np.asarray(np.clip(vector, low, high))

    def unpacked(self, vector: Tensor) -> Hyperparameters:
        """Kernels and noise of a vector.

        Args:
            vector: The numbers.
        """
        kernels, at = [], 0
        for family, q, length in zip(self.families, self.sizes, self.lengths, strict=True):
            weights, lengths, turns = vector[at : at + 3 * q].reshape(3, q)
            kernels.append(SpectralMixture(weights.exp(), lengths.exp(), turns / length, family))
            at += 3 * q
        noises = []
        for noise, unit in self.units:
            if noise is None:
                noises.append(unit * vector[at].exp())
                at += 1
            else:
                noises.append(torch.tensor(noise, dtype=torch.float64))
        return Hyperparameters(tuple(kernels), tuple(noises))


def loss(
    blocks: Sequence[Observed], parameters: Parameters, covariances: Sequence[Sequence[Covariance]]
) -> Loss:
    """Minus the logarithm of the evidence and its gradient, as a function of the vector.

    With ``a = S^-1 y``, the derivative along dS is ``tr((a a^T - S^-1) dS) / 2``, so that one
    Cholesky factor and one inverse are enough.

    Args:
        blocks: What was observed.
        parameters: What the vector means.
        covariances: As `crossed` gives them.
    """
    y = torch.cat([block.values for block in blocks])

    def evaluated(vector: NDArray[Any], slope: bool = True) -> tuple[float, NDArray[Any]]:
        leaf = torch.from_numpy(vector.copy()).requires_grad_(slope)
        S, scale = gram(blocks, parameters.unpacked(leaf), covariances)
        factor, wrong = torch.linalg.cholesky_ex(S.detach())
        if int(wrong) or not bool(scale.isfinite().all()):
            return _REFUSED, np.zeros_like(vector)
        seen = y / scale
        half = torch.linalg.solve_triangular(factor, seen.detach()[:, None], upper=False)
        value = -float(_log_density(half, factor, scale.detach()))
        if not slope:
            return value, vector
        a = torch.linalg.solve_triangular(factor.mT, half, upper=True)
        along = (torch.cholesky_inverse(factor) - a @ a.mT) / 2
        surrogate = (along * S).sum() + (a[:, 0] * seen).sum() + scale.log().sum()
        surrogate.backward()
        assert leaf.grad is not None
        return value, leaf.grad.numpy()

    return evaluated


def best_starts(
    evaluated: Loss,
    parameters: Parameters,
    noises: Sequence[float | None],
) -> list[NDArray[Any]]:
    """A few lengths and variances of noise, those with the largest evidence first.

    Args:
        evaluated: Minus the logarithm of the evidence, and its gradient.
        parameters: What vectors mean.
        noises: Variance per block, or none where nothing is known yet.
    """
    amounts = NOISES if any(noise is None for noise in noises) else NOISES[:1]
    starts = [parameters.started(noises, s, noise) for s in SHORTER for noise in amounts]
    return sorted(starts, key=lambda vector: evaluated(vector, False)[0])[:TRIED]


def climbed(
    evaluated: Loss,
    start: NDArray[Any],
    bounds: Sequence[tuple[float, float]],
    max_iterations: int,
) -> tuple[NDArray[Any], list[float], bool]:
    """Raise the evidence by L-BFGS, and keep the best vector seen.

    Args:
        evaluated: Minus the logarithm of the evidence, and its gradient.
        start: Where to begin.
        bounds: Of each number.
        max_iterations: Steps at most; zero leaves the start as it is.

    Returns:
        The vector, the best evidence after every step, and whether it rose no more at the end.
    """
    import scipy.optimize

    best, least = start.copy(), np.inf
    history: list[float] = []

    def watched(vector: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        nonlocal best, least
        value, slope = evaluated(vector)
        if not np.isfinite(slope).all():
            return _REFUSED, np.zeros_like(vector)
        if value < least:
            best, least = vector.copy(), value
        return value, slope

    watched(start)
    history.append(-least)
    if max_iterations == 0:
        return best, history, False
    done = scipy.optimize.minimize(
        watched, start, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": max_iterations, "maxfun": 3 * max_iterations, "ftol": 1e-9},
        callback=lambda _: history.append(-least),
    )  # fmt: skip
    return best, history, bool(done.status == 0)
