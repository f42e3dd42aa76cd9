"""Equations of pressure to test solvers with: obstacles, free surfaces, coefficients that jump."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tensornet.pde import Domain, Grid, Problem, dirichlet, poisson

OPEN_TOP: Any = ("neumann", "neumann", ("neumann", "dirichlet"))  # walls, open above


def white_noise(*shape: int, seed: int = 7) -> Tensor:
    """Draw normal numbers of double precision, the same for the same seed.

    Args:
        shape: Of the result.
        seed: Of the draws.
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def around_a_sphere(n: int) -> Tensor:
    """Give a mask of the unit cube: True outside of a solid sphere of radius 0.15 in its middle.

    Args:
        n: Cells along an axis.
    """
    points = Grid((n, n, n), spacing=1 / n).centers()
    return sum((x - 0.5) ** 2 for x in points) > 0.15**2  # type: ignore[return-value]


def pool(n: int) -> Domain:
    """Give the water below a wavy free surface, in a closed unit cube, around a solid sphere.

    Args:
        n: Cells along an axis.
    """
    grid = Grid((n, n, n), spacing=1 / n)
    x, y, z = grid.centers()
    water = z < 0.55 + 0.08 * torch.sin(6 * x) * torch.cos(5 * y)
    solid = (x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.25) ** 2 < 0.15**2
    return Domain(
        grid, mask=water & ~solid, air=~water & ~solid, boundary="neumann", drop_isolated=True
    )


def inclusions(n: int, contrast: float) -> Tensor:
    """Give a coefficient that jumps: twenty balls in the unit cube, 14 % of it, that do not touch.

    They are the same for every size.

    Args:
        n: Cells along an axis.
        contrast: Its value in the balls. It is one around them.
    """
    generator = torch.Generator().manual_seed(5)
    radius = (0.14 / 20 * 3 / (4 * math.pi)) ** (1 / 3)
    centers = torch.stack(Grid((n, n, n), spacing=1 / n).centers(), -1)
    k, kept = torch.ones(n, n, n, dtype=torch.float64), list[Tensor]()
    while len(kept) < 20:
        c = radius + (1 - 2 * radius) * torch.rand(3, generator=generator, dtype=torch.float64)
        if all(float((c - other).norm()) > 2 * radius for other in kept):
            kept.append(c)
            k[(centers - c).norm(dim=-1) < radius] = contrast
    return k


def sphere_problem(n: int, boundary: Any = OPEN_TOP, **options: Any) -> Problem:
    """Make Poisson's equation around a solid sphere, with white noise on its right side.

    Args:
        n: Cells along an axis.
        boundary: Of the unit cube.
        options: More arguments of `pde.poisson`.
    """
    mask, source = around_a_sphere(n), white_noise(n, n, n)
    grid = Grid((n, n, n), spacing=1 / n)
    return poisson(grid, mask=mask, boundary=boundary, source=source, **options)


def pool_problem(n: int) -> Problem:
    """Make Poisson's equation in a pool, with white noise on its right side.

    Args:
        n: Cells along an axis.
    """
    return poisson(pool(n), source=white_noise(n, n, n))


PROBLEMS: dict[str, Callable[[int], Problem]] = {  # of any number of cells along an axis
    "sphere": sphere_problem,
    "pool": pool_problem,
    "closed": lambda n: sphere_problem(n, "neumann", project=True),
    "rings": lambda n: sphere_problem(n, "periodic", project=True),
}


def small_problem(case: str) -> Problem:
    """Make one of many shapes and boundaries, small enough for dense matrices.

    Args:
        case: ``"line"``, ``"odd rings"``, ``"even rings"``, ``"ring and walls"``, ``"flat cells"``,
            ``"two parts"``, ``"coefficient"``, ``"pool"`` or ``"sphere"``.

    Raises:
        ValueError: If there is no such case.
    """
    if case == "line":
        return poisson(Grid(200, spacing=0.1), source=1.0)
    if case == "odd rings":
        return poisson(Grid((13, 20), spacing=0.1), boundary="periodic", project=True)
    if case == "even rings":
        return poisson(Grid((12, 20), spacing=0.1), boundary="periodic", project=True)
    if case == "ring and walls":
        sides = ("neumann", "dirichlet", "periodic")
        return poisson(Grid((7, 9, 12), spacing=0.1), boundary=sides)
    if case == "flat cells":
        return poisson(Grid((9, 6, 7), spacing=(0.1, 0.5, 0.12)), boundary=dirichlet(at="center"))
    if case == "two parts":
        mask = torch.ones(16, 12, dtype=torch.bool)
        mask[8] = False
        return poisson(Grid((16, 12), spacing=1.0), mask=mask, boundary="neumann", project=True)
    if case == "coefficient":
        k = 1 + 5 * torch.rand(15, 14, generator=torch.Generator().manual_seed(2)).double()
        return poisson(Grid((15, 14), spacing=0.1), coefficient=k)
    if case == "pool":
        return pool_problem(10)
    if case == "sphere":
        return sphere_problem(8)
    raise ValueError(
        '`small_problem(case=...)` must be one of "line", "odd rings", "even rings", "ring and '
        'walls", "flat cells", "two parts", "coefficient", "pool", "sphere". '
        f"Got {case!r}."
    )
