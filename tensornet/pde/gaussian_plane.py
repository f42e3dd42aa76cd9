"""Solve on grids of two axes: hyper-parameters from some observations, the field from all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tensornet.pde.gaussian_evidence import Observed
from tensornet.pde.gaussian_functionals import Functionals, Term
from tensornet.pde.gaussian_kernel import SpectralMixture
from tensornet.pde.gaussian_kronecker import Block, PlaneSolution
from tensornet.pde.gaussian_newton import Search, tuned
from tensornet.pde.gaussian_solution import GaussianProcessSolution
from tensornet.pde.grid import Grid

SOME = 500  # cells, and a quarter as many values at the boundary, whose evidence is raised
LONGEST = 1.0  # lengths of kernels, over those of the box: beyond, iterations grow without end


def separable(terms: Sequence[Term]) -> bool:
    """Say whether an operator is one of second order along each axis, with constant coefficients.

    Args:
        terms: Of the operator.
    """
    allowed = ((2, 0), (0, 2), (0, 0))
    return all(orders in allowed and c.ndim == 0 for orders, c in terms)


def solved_on_plane(
    grid: Grid,
    terms: tuple[Term, ...],
    equation: Observed,
    sides: Sequence[Observed],
    kernels: tuple[SpectralMixture, ...],
    max_iterations: int,
) -> GaussianProcessSolution:
    """Condition on an equation on all of a grid, and on its boundary.

    Args:
        grid: The grid.
        terms: Of the operator.
        equation: The source, row by row of the grid.
        sides: What is held at the boundary.
        kernels: To begin with.
        max_iterations: Steps of the search.
    """
    generator = torch.Generator().manual_seed(0)

    def some(block: Observed, most: int) -> Observed:
        rows = torch.randperm(len(block.values), generator=generator)[:most].sort().values
        points = Functionals(block.functionals.points[rows], block.functionals.terms)
        return Observed(points, block.values[rows], block.noise, block.unit)

    few = {"source": some(equation, SOME)}
    few |= {f"side {k}": some(side, SOME // 16) for k, side in enumerate(sides)}
    search = Search(grid, few, kernels, max_iterations, LONGEST)
    found, history, settled = tuned(search)
    x, y = grid.axes()
    blocks = [Block(x, y, terms)]
    for side in sides:
        a, b = (column.unique() for column in side.functionals.points.unbind(1))
        blocks.append(Block(a, b, side.functionals.terms))
    values = torch.cat([equation.values, *(side.values for side in sides)])
    noise = float(found.hyper.noises[0])
    with torch.no_grad():
        plane = PlaneSolution(found.hyper.kernels, blocks, values, noise)
        variance = plane.prior.variance()
    missed = plane.image.flatten() - equation.values
    size = float(equation.values.norm()) or math.sqrt(len(missed))
    rest = float(missed.norm()) / size
    message = (
        f"Log evidence {found.log_evidence:.1f} of {len(found.blocks[0].values)} of "
        f"{grid.n_cells} cells after {len(history) - 1} steps, residual {rest:.1e} of the source "
        f"after {plane.iterations} iterations on all of them, to {plane.reached:.1e}."
    )
    return GaussianProcessSolution(
        plane.mean, variance, found.hyper.kernels, found.log_evidence, history,
        math.sqrt(noise), None, rest, settled and plane.reached < 1e-4, message, _looked(plane),
    )  # fmt: skip


def _looked(plane: PlaneSolution) -> Callable[[Functionals], tuple[Tensor, Tensor]]:
    def look(functionals: Functionals) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return plane.at(functionals)

    return look
