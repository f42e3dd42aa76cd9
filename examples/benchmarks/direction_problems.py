"""Pressure equations on boxes with obstacles and free surfaces, for networks of directions."""

from typing import Any

import torch
from torch import Tensor

from tensornet.pde import Domain, Grid, Problem, dirichlet, poisson

OPEN_TOP = "open top"  # walls, the last axis open at its end


def sides(word: str, dim: int) -> Any:
    """Give the boundary of a box by a word."""
    if word == OPEN_TOP:
        return ["neumann"] * (dim - 1) + [("neumann", "dirichlet")]
    return dirichlet(at="center") if word == "nodes" else word


def balls(grid: Grid, count: int, radius: tuple[float, float], seed: int) -> Tensor:
    """True in balls at random places, of random radii."""
    generator = torch.Generator().manual_seed(seed)
    solid = torch.zeros(grid.shape, dtype=torch.bool)
    for _ in range(count):
        *place, size = torch.rand(grid.dim + 1, generator=generator).tolist()
        r = radius[0] + (radius[1] - radius[0]) * size
        away = [(x - 0.1 - 0.8 * p) ** 2 for x, p in zip(grid.centers(), place, strict=True)]
        solid |= sum(away, torch.zeros(())) < r**2
    return solid


def domain(case: str, n: int, dim: int = 3, seed: int = 0) -> Domain:
    """Make where an equation holds.

    Args:
        case: ``"dirichlet"``, ``"nodes"``, ``"open top"``: boxes; ``"sphere"``, one in an open box,
            of radius 0.15; ``"balls"``, at random; ``"tunnel"``, balls in a box that is open at
            both ends of the first axis; ``"pool"``, a wavy free surface over a sphere; ``"waves"``,
            a random one above random balls.
        n: Cells along an axis.
        dim: Number of axes.
        seed: Of what is random.
    """
    grid = Grid((n,) * dim, spacing=1 / n)
    points = grid.centers()
    if case in ("dirichlet", "nodes", OPEN_TOP):
        return Domain(grid, boundary=sides(case, dim))
    around = sides(OPEN_TOP, dim)
    if case == "sphere":
        return Domain(grid, mask=sum((x - 0.5) ** 2 for x in points) > 0.15**2, boundary=around)
    if case == "tunnel":
        solid = balls(grid, 5, (0.08, 0.2), seed)
        ends: Any = ["dirichlet"] + ["neumann"] * (dim - 1)
        return Domain(grid, mask=~solid, boundary=ends, drop_isolated=True)
    if case == "balls":
        solid = balls(grid, 13, (0.05, 0.13), seed)
        return Domain(grid, mask=~solid, boundary=around, drop_isolated=True)
    *across, height = points
    if case == "pool":
        wave = torch.sin(6 * across[0]) * torch.cos(5 * across[-1])
        surface = 0.55 + 0.08 * wave
        center = [0.5] * (dim - 1) + [0.25]
        solid = sum((x - c) ** 2 for x, c in zip(points, center, strict=True)) < 0.15**2
    else:
        a, b, c, d = torch.rand(4, generator=torch.Generator().manual_seed(seed)).tolist()
        wave = torch.sin(2 + 7 * a * across[0] + 3 * b) * torch.cos(2 + 7 * c * across[-1])
        surface = 0.35 + 0.4 * d + 0.15 * wave
        solid = balls(grid, 4, (0.06, 0.15), seed)
    water = height < surface
    return Domain(
        grid, mask=water & ~solid, air=~water & ~solid, boundary="neumann", drop_isolated=True
    )


def problem(case: str, n: int, side: str = "noise", dim: int = 3, seed: int = 0) -> Problem:
    """Make an equation with a right side of white noise, or the divergence of a narrow plume.

    Args:
        case: See `domain`.
        n: Cells along an axis.
        side: ``"noise"`` or ``"plume"``.
        dim: Number of axes.
        seed: Of what is random.
    """
    where = domain(case, n, dim, seed)
    grid = where.grid
    generator = torch.Generator().manual_seed(4127 + seed)
    source = torch.randn(grid.shape, generator=generator, dtype=torch.float64)
    if side == "plume":
        *across, height = grid.centers()
        narrow = torch.exp(-sum((x - 0.45) ** 2 for x in across) / 0.08**2)
        source = narrow * torch.exp(-((height - 0.2) ** 2) / 0.1**2) * (height - 0.2)
        source = source * (1 + 0.1 * torch.randn(grid.shape, generator=generator))
    return poisson(where, source=source, project=True)
