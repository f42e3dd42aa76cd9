"""Find the Chebyshev-Tucker form of a black-box function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import chebyshev
from tensornet.formats.chebyshev_box import Box, checked_box
from tensornet.formats.chebyshev_cross import FibreCross
from tensornet.formats.chebyshev_jet import jet
from tensornet.formats.chebyshev_samples import Function, Samples
from tensornet.formats.chebyshev_tucker import ChebyshevTucker
from tensornet.formats.decomposition import BudgetError, Decomposition
from tensornet.formats.tucker import Tucker

_POOL = 256  # points at which the residual is followed
_HELD_OUT = 512  # points of the independent check
_NODES = 64  # nodes of the grid at which the truncation is measured
_PATIENCE = 12  # rounds without progress before giving up
_CHECKS = 12  # independent checks, at most


@dataclass(frozen=True)
class ChebyshevDecomposition(Decomposition[ChebyshevTucker]):
    """A function in Chebyshev-Tucker form, and how well it meets the one it was made from.

    All errors are measured at points that the construction has not seen, and are relative to the
    largest magnitude of the function that was met. They are estimates of the supremum from below,
    not bounds.

    Args:
        interpolation_error: What is lost by finite degrees: the larger of the last coefficients of
            the sampled fibres and of the error of interpolation along single variables, summed
            over the variables.
        truncation_error: What is lost by finite ranks and by chopping: largest difference at
            held-out nodes of the grid, where interpolation is exact.
    """

    interpolation_error: float
    truncation_error: float


def chebyshev_tucker(
    function: Function,
    box: Sequence[Sequence[float]] | Tensor,  # (d, 2)
    *,
    tolerance: float = 1e-8,
    max_degree: int = 1024,
    max_evaluations: int | None = None,
    seed: int = 0,
) -> ChebyshevDecomposition:
    """Approximate a black-box function on a box by Chebyshev series joined by a small core.

    The degree of each variable is found from fibres: it is doubled until their coefficients fall
    to a plateau below the tolerance. Then the cheaper of two ways is taken: all nodes of the grid,
    or a cross approximation, which learns fibres through the points of largest residual and needs
    about ``sum of m_k r_k + product of r_k`` evaluations. The result is checked at independent
    random points; where the check fails, these points join the others and the search goes on.

    The core has as many entries as the product of the ranks, so this is for up to three variables
    or so, and for more where ranks are small. Features so narrow that neither random points nor
    fibres meet them are not seen; the more points are asked, the narrower these are.

    Args:
        function: Points (n, d) in float64 to values (n,), for any n; called with many points at
            once.
        box: Lower and upper end of each variable. A tensor gives its dtype and device to the
            result and its device to the points; otherwise the result is float64 on the CPU.
        tolerance: Largest error, relative to the largest magnitude of the function.
        max_degree: Largest degree in any variable. The degrees tried are 16, 32, 64, ...
        max_evaluations: Largest number of points to ask for, by default ten million.
        seed: Seed of all random choices.

    Returns:
        The function, chopped and rounded within the tolerance. ``relative_error`` is the largest
        error at independent random points over the largest magnitude that was met: an estimate of
        the sup-type error, held out, not a bound. Half of these points are anywhere in the box,
        half where the function varies most. ``n_iterations`` counts rounds of new fibres.

    Raises:
        ValueError: If `box` is no box, an option is out of range, or the function gives NaN or
            infinite values or values of a wrong shape.
        TypeError: If the function does not return a real tensor.
        RuntimeError: If the function raises; the message names the point.

    References:
        Dolgov, Kressner & Strössner, Functional Tucker approximation using Chebyshev
        interpolation, SIAM J. Sci. Comput. 43, A2190 (2021); Benner et al., arXiv 2503.01696.

    Examples:
        >>> found = chebyshev_tucker(lambda x: 1 / (2 + x.sum(1)), [(0, 1), (0, 1)], tolerance=1e-5)
        >>> found.converged
        True
        >>> round(float(found.value.integral()), 4)
        0.3398
    """
    where = "chebyshev_tucker"
    sides = checked_box(where, box)
    _check.tolerance(where, tolerance=tolerance)
    least = _POOL + _HELD_OUT + _NODES + 100
    most = 10_000_000 if max_evaluations is None else max_evaluations
    _check.at_least(where, 1, max_degree=max_degree)
    _check.at_least(where, least, max_evaluations=most)
    if not callable(function):
        raise TypeError(
            f"`{where}(function=...)` must be a function. Got {type(function).__name__}."
        )
    like = box if isinstance(box, Tensor) else torch.empty(0, dtype=torch.float64)
    if not like.is_floating_point():
        like = like.to(torch.float64)
    search = _Search(function, sides, like, tolerance, max_degree, most, seed)
    return search.run()


class _Search:
    """One call of `chebyshev_tucker`."""

    def __init__(
        self,
        function: Function,
        box: Box,
        like: Tensor,
        tolerance: float,
        max_degree: int,
        most: int,
        seed: int,
    ) -> None:
        self.box, self.like, self.tolerance = box, like, tolerance
        d = len(box)
        # what the last check needs is kept back
        self.samples = Samples(function, box, like.device, most - _HELD_OUT - _NODES)
        self.generator = torch.Generator().manual_seed(seed)
        self.cross = FibreCross(self.samples, d, tolerance, max_degree, self.generator)
        sobol = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed)
        self.points = 2 * sobol.draw(_POOL, dtype=torch.float64) - 1
        self.values = self.samples(self.points)
        self.rounds = 0
        self.dense: ChebyshevTucker | None = None
        self.stopped = ""

    def run(self) -> ChebyshevDecomposition:
        """Search, check, and search on where the check fails."""
        try:
            self._begin()
        except BudgetError:
            self.stopped = "max_evaluations was reached"
        for _ in range(_CHECKS):
            if self.dense is None and not self.stopped:
                self._grow()
            rounded = self._rounded()
            checked, values = self._held_out()
            error = self._error(rounded, checked, values)
            if error <= self.tolerance or self.stopped:
                break
            self.points = torch.cat([self.points, checked])
            self.values = torch.cat([self.values, values])
            self.dense = None
            self.cross.stale = [0] * len(self.box)
        return self._told(rounded, error, checked, values)

    def _begin(self) -> None:
        top = self.values.abs().argmax()
        start = torch.stack([top, torch.as_tensor(0 if int(top) else 1)])
        self.cross.discover(self.points[start], self.values[start])
        sizes = self.cross.sizes
        if len(sizes) > 1 and math.prod(sizes) <= _cost_of_fibres(sizes):
            self._sample_all()

    def _sample_all(self) -> None:
        sizes = self.cross.sizes
        axes = [chebyshev.points(m, dtype=torch.float64) for m in sizes]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        core = self.samples(grid)
        for k in range(len(sizes)):
            core = chebyshev.to_coefficients(core.movedim(k, 0)).movedim(0, k)
        unit = tuple(torch.eye(m, dtype=torch.float64) for m in sizes)
        self.dense = ChebyshevTucker(core.contiguous(), unit, self.box)

    def _grow(self) -> None:
        """Add fibres until the residual at the points, and where it leads, is below tolerance."""
        cross, best, waited, barren = self.cross, math.inf, 0, 0
        goal = 0.3 * self.tolerance
        try:
            while True:
                residual = (self.values - cross.value(self.points)).abs()
                scale = max(self.samples.scale, 1e-300)
                now = float(residual.max()) / scale
                if now <= goal and cross.largest <= self.tolerance * scale and self.rounds:
                    return
                waited = 0 if now < 0.5 * best else waited + 1
                best = min(best, now)
                if waited >= _PATIENCE or barren >= 4:
                    self.stopped = "" if now <= self.tolerance else "the residual stagnates"
                    return
                self.rounds += 1
                n_starts = 2 if now <= goal else 2 + max(cross.core.shape) // 6
                start = residual.topk(min(n_starts, len(residual))).indices
                points, values = self.points[start], self.values[start]
                if barren % 2:
                    cross.stale = [0] * len(self.box)
                    points = cross.on_pivots(points)
                    values = self.samples(points)
                barren = 0 if cross.improve(points, values) else barren + 1
        except BudgetError:
            self.stopped = "max_evaluations was reached"

    def _parts(self) -> ChebyshevTucker:
        if self.dense is not None:
            return self.dense
        if self.cross.core.numel() == 0:
            d = len(self.box)
            zero = torch.zeros(1, 1, dtype=torch.float64)
            return ChebyshevTucker(zero.reshape([1] * d), (zero,) * d, self.box)
        return ChebyshevTucker(self.cross.core, tuple(self.cross.coefficients), self.box)

    def _rounded(self) -> ChebyshevTucker:
        """Round and chop, as far as it does no harm, above all where the function varies."""
        full = self._parts()
        points = torch.cat([self.points, self.cross.near_pivots(8 * _HELD_OUT)])
        before = _value(full, points)
        for part in (0.3, 0.1, 0.03, 0.01, 0.001):
            allowed = part * self.tolerance * self.samples.scale
            low = _chopped(full, allowed * 2 ** (0.5 * full.order))
            harm = float((_value(low, points) - before).abs().max())
            if harm <= 0.3 * self.tolerance * self.samples.scale:
                return low
        return full

    def _held_out(self) -> tuple[Tensor, Tensor]:
        """Draw points for a check: half of them anywhere, half where the function varies."""
        n, d = _HELD_OUT // 2, len(self.box)
        points = torch.rand(n, d, generator=self.generator, dtype=torch.float64)
        points = torch.cat([2 * points - 1, self.cross.near_pivots(n)])
        try:
            if not self.stopped:
                return points, self.samples(points)
        except BudgetError:
            self.stopped = "max_evaluations was reached"
        self.samples.most += _HELD_OUT  # kept back for this
        return points, self.samples(points)

    def _error(self, value: ChebyshevTucker, points: Tensor, values: Tensor) -> float:
        error = float((_value(value, points) - values).abs().max())
        return error / self.samples.scale if self.samples.scale else error

    def _told(
        self, value: ChebyshevTucker, error: float, points: Tensor, values: Tensor
    ) -> ChebyshevDecomposition:
        nodes = [chebyshev.points(m, dtype=torch.float64) for m in self.cross.sizes]
        index = [torch.randint(len(x), (_NODES,), generator=self.generator) for x in nodes]
        grid = torch.stack([x[i] for x, i in zip(nodes, index, strict=True)], 1)
        self.samples.most += _NODES
        truncation = self._error(value, grid, self.samples(grid))
        pairs = zip(self.cross.tails(), self.cross.missed, strict=True)
        interpolation = sum(max(pair) for pair in pairs)
        if value.dtype != self.like.dtype:
            value = value.to(self.like.dtype)
            error = self._error(value.to(torch.float64), points, values)
        value = value.to(self.like.device)
        converged = error <= max(self.tolerance, 10 * torch.finfo(self.like.dtype).eps)
        way = "all nodes" if self.dense is not None else f"{self.rounds} rounds of fibres"
        message = (
            f"Largest held-out error {error:.1e} (interpolation about {interpolation:.1e}, "
            f"truncation {truncation:.1e}) at ranks {value.ranks} and degrees "
            f"{tuple(m - 1 for m in value.shape)}, from {way}"
        )
        if not converged:
            limit = max(self.cross.sizes) * 2 - 2 > self.cross.max_degree
            why = self.stopped or "the checks kept failing"
            more = " and the degree is at its limit" if limit and interpolation > truncation else ""
            message += f"; above the tolerance {self.tolerance:.1e}: {why}{more}"
        return ChebyshevDecomposition(
            value, error, converged, message + ".", self.rounds, self.samples.n_evaluations,
            interpolation, truncation,
        )  # fmt: skip


def _cost_of_fibres(sizes: Sequence[int]) -> float:
    """Guess how many evaluations the cross takes, by ranks as smooth functions have them."""
    ranks = [min(m, 2 + 2 * math.sqrt(m)) for m in sizes]
    return 1.5 * sum(m * r for m, r in zip(sizes, ranks, strict=True)) + math.prod(ranks)


def _value(f: ChebyshevTucker, scaled: Tensor) -> Tensor:
    return jet(f.core, f.coefficients, scaled, 0)[()]


def _chopped(f: ChebyshevTucker, allowed: float) -> ChebyshevTucker:
    """Lower ranks and degrees; `allowed` is absolute, in the norm of weighted coefficients."""
    weighted = tuple(chebyshev.weighted(c, math.sqrt(2)) for c in f.coefficients)
    tensor = Tucker(f.core, weighted)
    norm = float(tensor.norm())
    if norm <= allowed:
        return f
    low = tensor.round(tolerance=allowed / norm)
    coefficients = []
    for k, factor in enumerate(low.factors):
        unfolded = low.core.movedim(k, 0).reshape(low.core.shape[k], -1)
        sizes = torch.linalg.vector_norm(factor @ unfolded, dim=1).square()
        tails = sizes.flip(0).cumsum(0).flip(0).sqrt()
        m = max(1, int((tails > 0.5 * allowed).sum()))
        coefficients.append(chebyshev.weighted(factor[:m], math.sqrt(0.5)))
    return ChebyshevTucker(low.core, tuple(coefficients), f.box)
