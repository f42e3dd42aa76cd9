"""Search for the largest evidence, around the linearisations of a nonlinear equation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tensornet.pde.gaussian_evidence import (
    Conditioned,
    Observed,
    Parameters,
    best_starts,
    climbed,
    crossed,
    loss,
)
from tensornet.pde.gaussian_functionals import Functionals
from tensornet.pde.gaussian_kernel import SpectralMixture
from tensornet.pde.gaussian_solution import GaussianProcessSolution
from tensornet.pde.grid import Grid

_LINEARISATIONS = 30  # at most, after the hyper-parameters are settled
_SETTLED = 1e-7  # change of the mean, relative, at which they end
_SMALL = 1e-4  # change from which on they also end where it falls no more, as round-off is reached
_AT_ONCE = 3  # values of the evidence at a search that got nowhere
_TUNED = 3  # linearisations around which hyper-parameters are searched


@dataclass(frozen=True, eq=False)
class Search:
    """What is observed, and where to begin.

    Args:
        grid: The grid.
        blocks: Observations, by name.
        kernels: To begin with.
        max_iterations: Steps of the search.
        longest: Largest length of a kernel over that of the box.
    """

    grid: Grid
    blocks: dict[str, Observed]
    kernels: Sequence[SpectralMixture]
    max_iterations: int
    longest: float = 100.0


class _Run:
    """Kernels that improve, and the process conditioned on blocks."""

    def __init__(self, search: Search) -> None:
        self.search, self.kernels = search, tuple(search.kernels)
        self.blocks = dict(search.blocks)
        self.history: list[float] = []
        self.settled = True
        self.noises: list[float | None] = [b.noise for b in self.blocks.values()]

    def tuned(self, max_iterations: int) -> Conditioned:
        """Search from the present kernels, and condition."""
        grid, blocks = self.search.grid, list(self.blocks.values())
        units = [(b.noise, b.unit) for b in blocks]
        parameters = Parameters(
            self.kernels, grid.lengths, grid.spacing, units, self.search.longest
        )
        covariances = crossed(blocks)
        vector = parameters.started(self.noises)
        if max_iterations:
            evaluated, starts = loss(blocks, parameters, covariances), [vector]
            if not self.history:
                starts = best_starts(evaluated, parameters, self.noises)
            tried = []
            for start in starts:
                tried.append(climbed(evaluated, start, parameters.bounds, max_iterations))
                if len(tried[-1][1]) > _AT_ONCE:
                    break
            vector, history, self.settled = max(tried, key=lambda run: run[1][-1])
            self.history += history
        hyper = parameters.unpacked(torch.from_numpy(vector))
        if not max_iterations:  # as they were given, not clipped into the bounds of a search
            hyper = replace(hyper, kernels=self.kernels)
        self.kernels = hyper.kernels
        self.noises = [float(x) for x in hyper.noises]
        return Conditioned(blocks, hyper, covariances)


def tuned(search: Search) -> tuple[Conditioned, tuple[float, ...], bool]:
    """Search for hyper-parameters of linear observations.

    Args:
        search: What is observed.

    Returns:
        The process, the largest evidence after every step, and whether the search ended by itself.
    """
    run = _Run(search)
    found = run.tuned(search.max_iterations)
    return found, tuple(run.history) or (found.log_evidence,), run.settled


def solved(search: Search, reaction: Callable[[Tensor], Tensor] | None) -> GaussianProcessSolution:
    """Condition on what is observed; for a reaction, around where the mean comes to rest.

    Args:
        search: What is observed.
        reaction: Added to the operator, or none.
    """
    run = _Run(search)
    if reaction is None:
        found = run.tuned(search.max_iterations)
        rested, rest = True, _residual(search, found)
    else:
        found, rested, rest = _newton(run, reaction)
    grid = search.grid
    points = torch.stack([x.flatten() for x in grid.centers()], 1)
    one = ((0,) * grid.dim, torch.ones((), dtype=torch.float64))
    mean, variance = found.at(Functionals(points, (one,)))
    names = list(run.blocks)
    noise = {name: math.sqrt(float(x)) for name, x in zip(names, found.hyper.noises, strict=True)}
    history = tuple(run.history) or (found.log_evidence,)
    converged = rested and (run.settled or not search.max_iterations)
    return GaussianProcessSolution(
        mean.reshape(grid.shape), variance.reshape(grid.shape), found.hyper.kernels,
        found.log_evidence, history, noise.get("source", 0.0), noise.get("data"), rest,
        converged, _sentence(found, len(history) - 1, rest, rested, noise), found.at,
    )  # fmt: skip


def _newton(
    run: _Run, reaction: Callable[[Tensor], Tensor]
) -> tuple[Conditioned, bool, float | None]:
    """Linearise around the mean until it rests; hyper-parameters around the first few."""
    search = run.search
    block = search.blocks["source"]
    linear, dim = block.functionals, search.grid.dim
    one = Functionals(linear.points, (((0,) * dim, torch.ones((), dtype=torch.float64)),))
    u = torch.zeros_like(block.values)
    applied, rested, last = torch.zeros_like(u), False, math.inf
    for step in range(_LINEARISATIONS):
        value, slope = _linearised(reaction, u)
        term = ((0,) * dim, slope)
        around = Functionals(linear.points, (*linear.terms, term))
        run.blocks["source"] = replace(
            block, functionals=around, values=block.values - value + slope * u
        )
        share = -(-search.max_iterations // _TUNED)
        found = run.tuned(share if step < _TUNED else 0)
        mean, image = found.at(one)[0], found.at(linear)[0]
        size = _best_step(reaction, u, applied, mean, image, block.values) if step else 1.0
        change = float((mean - u).norm() / mean.norm().clamp_min(1e-300))
        u, applied = u + size * (mean - u), applied + size * (image - applied)
        stalled = last / 2 < change < _SMALL
        if step > _TUNED and (change < _SETTLED or stalled):
            rested = True
            break
        last = change
    missed = applied + _linearised(reaction, u)[0] - block.values
    return found, rested, _relative(missed, block.values)


def _best_step(
    reaction: Callable[[Tensor], Tensor],
    u: Tensor,
    applied: Tensor,
    mean: Tensor,
    image: Tensor,
    source: Tensor,
) -> float:
    """How far to go to the new mean: the longest of halved steps that lowers the residual."""

    def missed(size: float) -> float:
        at = u + size * (mean - u)
        rest = applied + size * (image - applied) + _linearised(reaction, at)[0] - source
        return float(rest.norm())

    before = missed(0.0)
    size = 1.0
    while size > 1e-3 and not missed(size) <= max(before, 1e-9 * float(source.norm())):
        size /= 2
    return size if size > 1e-3 else 1.0


def _linearised(reaction: Callable[[Tensor], Tensor], u: Tensor) -> tuple[Tensor, Tensor]:
    """Value and derivative of a reaction at every value."""
    leaf = u.clone().requires_grad_()
    with torch.enable_grad():
        value = reaction(leaf)
        if not isinstance(value, Tensor) or value.shape != u.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                "`GaussianProcessSolver.solve(reaction=...)` must give a tensor of the shape of "
                f"its argument, {tuple(u.shape)}. Got {got}."
            )
        slope = torch.zeros_like(u)
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), leaf)
    bad = int((~(value.isfinite() & slope.isfinite())).sum())
    if bad:
        raise ValueError(
            "`GaussianProcessSolver.solve(reaction=...)` must be finite, as must its derivative. "
            f"Got {bad} NaN or infinite of {len(u)} numbers."
        )
    return value.detach(), slope


def _residual(search: Search, found: Conditioned) -> float | None:
    block = search.blocks.get("source")
    if block is None:
        return None
    return _relative(found.at(block.functionals)[0] - block.values, block.values)


def _relative(missed: Tensor, source: Tensor) -> float:
    size = float(source.norm())
    return float(missed.norm()) / (size if size else math.sqrt(len(source)))


def _sentence(
    found: Conditioned, steps: int, rest: float | None, rested: bool, noise: dict[str, float]
) -> str:
    said = f"Log evidence {found.log_evidence:.1f} after {steps} steps"
    if rest is not None:
        said += f", residual {rest:.1e} of the source, whose noise is {noise['source']:.1e}"
    if "data" in noise:
        said += f", noise of the values {noise['data']:.1e}"
    strongest = [f"{float(k.frequencies[k.weights.argmax()]):.4g}" for k in found.hyper.kernels]
    said += f"; strongest frequency {', '.join(strongest)}"
    return said + ("." if rested else "; linearisations did not come to rest.")
