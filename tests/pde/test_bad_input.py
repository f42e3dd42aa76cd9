"""What goes wrong is said in a sentence, by problems, solvers and preconditioners alike."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet.linalg import cg, fcg, incomplete_cholesky, pcg
from tensornet.pde import (
    Domain,
    Grid,
    adi,
    box_preconditioner,
    multigrid,
    poisson,
    theta_step,
)

MAKERS: dict[str, Callable[[Any], Any]] = {
    "box": box_preconditioner,
    "multigrid": multigrid,
    "ADI": adi,
}
GRID = Grid((12, 10), spacing=0.1)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_a_singular_problem_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"must sum to zero.*project=True"):
        poisson(GRID, boundary="neumann", source=1.0)


@pytest.mark.parametrize("name", MAKERS)
def test_a_singular_problem_is_projected_and_that_is_said(name: str) -> None:
    A = poisson(GRID, boundary="neumann", project=True).operator
    b = noise(120) + 3.0
    found = pcg(A, b, M=MAKERS[name](A), rtol=1e-8)
    assert found.converged
    assert "was taken off" in found.message
    assert abs(float(found.value.mean())) < 1e-10
    assert float((A(found.value) - (b - b.mean())).norm() / b.norm()) < 1e-8
    silent = pcg(A, b - b.mean(), M=MAKERS[name](A), rtol=1e-8)
    assert "was taken off" not in silent.message


@pytest.mark.parametrize("solver", [cg, fcg])
def test_negative_curvature_is_named(solver: Any) -> None:
    A = poisson(GRID).operator
    indefinite = A.shifted(-0.5 * float(A.diagonal().max()))
    found = solver(indefinite, noise(120))
    assert not found.converged
    assert "positive definite" in found.message
    for make in (multigrid, adi):
        with pytest.raises(ValueError, match="weights and ties of at least zero"):
            make(indefinite)


def test_a_preconditioner_that_is_not_positive_is_named() -> None:
    A = poisson(GRID).operator
    M = box_preconditioner(A)
    found = pcg(A, noise(120), M=lambda r: -M(r))
    assert not found.converged
    assert "`pcg(M=...)` must be positive definite" in found.message


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none(bad: float) -> None:
    A, b = poisson(GRID).operator, noise(120)
    b[7] = bad
    with pytest.raises(ValueError, match=r"`pcg\(b=...\)` must be finite"):
        pcg(A, b, M=multigrid(A))
    field = torch.ones(GRID.shape)
    field[2, 3] = bad
    with pytest.raises(ValueError, match=r"`poisson\(source=...\)` must be finite. Got 1"):
        poisson(GRID, source=field)
    with pytest.raises(ValueError, match=r"`poisson\(coefficient=...\)` must be finite. Got 1"):
        poisson(GRID, coefficient=field)


def test_isolated_cells() -> None:
    mask = torch.ones(12, 10, dtype=torch.bool)
    mask[3:6, 3:6] = False
    mask[4, 4] = True
    with pytest.raises(ValueError, match=r"isolated cells.*first at \(4, 4\).*drop_isolated=True"):
        poisson(GRID, mask=mask)
    domain = Domain(GRID, mask=mask, drop_isolated=True)
    p = poisson(domain, source=noise(12, 10))
    assert domain.n == 111
    for make in (*MAKERS.values(), incomplete_cholesky):
        assert pcg(p.operator, p.rhs, M=make(p.operator), rtol=1e-8).converged


@pytest.mark.parametrize("shape", [(2,), (2, 2), (3, 2, 2)])
def test_the_smallest_grids_are_solved(shape: tuple[int, ...]) -> None:
    p = poisson(Grid(shape, spacing=1.0), source=noise(*shape))
    for make in (*MAKERS.values(), incomplete_cholesky):
        found = pcg(p.operator, p.rhs, M=make(p.operator), rtol=1e-10)
        assert found.converged, make
        assert found.n_iterations <= len(p.rhs)
    with pytest.raises(ValueError, match="at least 3 cells along a periodic axis"):
        poisson(Grid(shape, spacing=1.0), boundary="periodic")
    with pytest.raises(ValueError, match="at least 2"):
        Grid((*shape[:-1], 1), spacing=1.0)


@pytest.mark.parametrize("name", MAKERS)
def test_a_preconditioner_of_a_step_that_is_nearly_the_identity(name: str) -> None:
    implicit = theta_step(poisson(GRID), 1e-12).implicit
    b = noise(120)
    assert torch.allclose(MAKERS[name](implicit)(b), b, rtol=1e-6, atol=1e-6)
