"""Alternating directions against dense matrices, their theory, and their laws."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tensornet.formats import CP
from tensornet.linalg import pcg
from tensornet.pde import (
    Domain,
    Grid,
    Problem,
    adi,
    advection_diffusion,
    box_preconditioner,
    dirichlet,
    exponential_sum_inverse,
    poisson,
    solve_adi,
)
from tensornet.pde.adi import shifts

OPEN_TOP: Any = ("neumann", "neumann", ("neumann", "dirichlet"))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def small(case: str) -> Problem:
    if case == "line":
        return poisson(Grid(30, spacing=0.1), source=1.0)
    if case == "square":
        return poisson(Grid((9, 12), spacing=(0.1, 0.2)), boundary=("neumann", "dirichlet"))
    if case == "cube":
        return poisson(Grid((5, 6, 7), spacing=(0.1, 0.2, 0.1)), boundary=OPEN_TOP)
    mask = torch.ones(12, 13, dtype=torch.bool)
    mask[4:8, 5:9] = False
    k = 1 + 2 * torch.rand(12, 13, generator=torch.Generator().manual_seed(2)).double()
    domain = Domain(Grid((12, 13), spacing=0.1), mask=mask, boundary=("neumann", OPEN_TOP[2]))
    return poisson(domain, coefficient=1.0 if case == "hole" else k)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("case", ["line", "square", "cube", "hole", "coefficient"])
def test_symmetric_positive_definite(case: str, steps: int) -> None:
    A = small(case).operator.shifted(0.5)
    matrix = adi(A, steps=steps).to_dense()
    assert_close(matrix, matrix.mT, rtol=0, atol=1e-12 * float(matrix.abs().max()))
    assert float(torch.linalg.eigvalsh(matrix)[0]) > 0


def test_the_error_is_that_of_the_theory() -> None:
    """On a box every eigenvector loses its own product of factors, twice."""
    grid = Grid((6, 5), spacing=1.0)
    A = poisson(grid, boundary=dirichlet(at="center")).operator
    M = adi(A, steps=3)
    modes = [
        (4 * torch.sin(math.pi * torch.arange(1, n + 1) / (2 * (n + 1))) ** 2).double()
        for n in grid.shape
    ]
    a, b = modes[0][:, None], modes[1][None]
    left = torch.ones(6, 5, dtype=torch.float64)
    for s in M.shifts:
        left = left * ((a - s) * (b - s) / ((a + s) * (b + s))) ** 2
    values = torch.linalg.eigvals(M.to_dense() @ A.to_dense()).real.sort().values
    assert_close(values, (1 - left).flatten().sort().values, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("low", "high", "count"), [(1.0, 5.0, 3), (1e-3, 7.0, 4), (1e-6, 1.0, 6)])
def test_shifts_are_the_best(low: float, high: float, count: int) -> None:
    """The product reaches its largest value at both ends and between all shifts: Chebyshev."""
    found = sorted(shifts(low, high, count))
    assert low < found[0]
    assert found[-1] < high
    x = torch.logspace(math.log10(low), math.log10(high), 20001, dtype=torch.float64)
    product = torch.stack([(x - s) / (x + s) for s in found]).prod(0)
    edges = [low, *found, high]
    peaks = []
    for a, b in pairwise(edges):
        inside = (x >= a * (1 - 1e-9)) & (x <= b * (1 + 1e-9))
        peaks.append(float(product[inside].abs().max()))
    assert max(peaks) == pytest.approx(min(peaks), rel=1e-3)
    assert shifts(low, high, 1)[0] == pytest.approx(math.sqrt(low * high), rel=1e-6)


def test_iterations_in_two_dimensions() -> None:
    for n in (16, 64, 128):
        p = poisson(Grid((n, n), spacing=1 / n), source=noise(n, n))
        found = pcg(p.operator, p.rhs, M=adi(p.operator, steps=3), rtol=1e-6)
        assert found.converged
        assert found.n_iterations <= 6
    rows = noise(2, 64)
    M = adi(poisson(Grid((8, 8), spacing=1.0)).operator)
    assert_close(M(rows), torch.stack([M(row) for row in rows]), rtol=0, atol=0)
    x = rows.clone().requires_grad_()
    (slope,) = torch.autograd.grad((M(x) * rows).sum(), x)
    assert_close(slope, M(rows), rtol=0, atol=0)
    assert torch.equal(rows, noise(2, 64))


@pytest.mark.parametrize("boundary", ["dirichlet", dirichlet(at="center"), "mixed"])
def test_low_rank(boundary: Any) -> None:
    grid = Grid((40, 30), spacing=(0.1, 0.2))
    if boundary == "mixed":
        boundary = (("neumann", "dirichlet"), "neumann")
    options: Any = {"boundary": boundary, "coefficient": 1.7, "shift": 0.3}
    rhs = CP((noise(40, 2), noise(30, 2) + 1), torch.tensor([1.0, -2.0], dtype=torch.float64))
    found = solve_adi(grid, rhs, tolerance=1e-9, **options)
    A = poisson(grid, boundary=boundary, coefficient=1.7).operator.shifted(0.3)
    f, u = rhs.to_dense().flatten(), found.value.to_dense().flatten()
    left = float(torch.linalg.vector_norm(f - A(u)) / torch.linalg.vector_norm(f))
    assert found.converged
    assert left == pytest.approx(found.residuals[-1], rel=1e-2)
    assert left <= 1e-9
    assert found.n_iterations <= 24
    assert found.value.rank == 2 * found.n_iterations
    inverse = exponential_sum_inverse(grid, tolerance=1e-9, **options)
    assert inverse.residual(found.value, rhs) == pytest.approx(left, rel=1e-2)
    few = solve_adi(grid, rhs, max_iterations=2, **options)
    assert not few.converged
    assert "allow more steps" in few.message
    assert solve_adi(grid, 0.0 * rhs, **options).converged


def test_obstacles_and_air() -> None:
    n = 48
    grid = Grid((n, n), spacing=1 / n)
    x, y = grid.centers()
    water = (y < 0.7) & ((x - 0.5) ** 2 + (y - 0.3) ** 2 > 0.15**2)
    for air in (None, y >= 0.7):
        boundary: Any = "neumann" if air is not None else ("neumann", "dirichlet")
        p = poisson(Domain(grid, mask=water, air=air, boundary=boundary), source=noise(n, n))
        counts = [
            pcg(p.operator, p.rhs, M=M, rtol=1e-6).n_iterations
            for M in (adi(p.operator, steps=4), box_preconditioner(p.operator), lambda r: r)
        ]
        assert counts[0] <= counts[1] + 4
        assert 3 * counts[0] < counts[2]


def test_low_rank_of_many_cells() -> None:
    n = 30_000
    one = CP((torch.ones(n, 1, dtype=torch.float64), noise(n, 1)))
    found = solve_adi(Grid((n, n), spacing=1 / n), one, tolerance=1e-6)
    assert found.converged
    assert found.n_iterations <= 45


def test_a_solution_is_detached() -> None:
    factors = (noise(5, 1).requires_grad_(), noise(6, 1).requires_grad_())
    found = solve_adi(Grid((5, 6), spacing=0.1), CP(factors)).value
    assert not any(part.requires_grad for part in found.parts().values())


def test_refusals() -> None:
    grid, rhs = Grid((5, 6), spacing=0.1), CP((noise(5, 1), noise(6, 1)))
    A = poisson(grid).operator
    with pytest.raises(TypeError, match="operator of `pde`"):
        adi(A.to_scipy_sparse())
    with pytest.raises(ValueError, match="steps"):
        adi(A, steps=0)
    with pytest.raises(ValueError, match="periodic"):
        adi(poisson(grid, boundary="periodic", project=True).operator)
    with pytest.raises(ValueError, match="symmetric"):
        adi(advection_diffusion(grid, velocity=(1.0, 0.0)).operator)
    with pytest.raises(ValueError, match="weights and ties"):
        adi(A.shifted(-1.0))
    with pytest.raises(TypeError, match="must be a CP value"):
        solve_adi(grid, torch.ones(5, 6))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`Grid`"):
        solve_adi((5, 6), rhs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="finite"):
        solve_adi(grid, CP((noise(5, 1) / 0, noise(6, 1))))
    with pytest.raises(ValueError, match="coefficient"):
        solve_adi(grid, rhs, coefficient=0.0)
    for boundary in ("neumann", "periodic"):
        with pytest.raises(ValueError, match="value held somewhere"):
            solve_adi(grid, rhs, boundary=boundary)
    cube = Grid((5, 6, 4), spacing=0.1)
    with pytest.raises(ValueError, match="two axes"):
        solve_adi(cube, CP((noise(5, 1), noise(6, 1), noise(4, 1))))
