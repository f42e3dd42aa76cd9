"""Multigrid against dense matrices, its laws, and its numbers of iterations."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg
from torch import Tensor
from torch.testing import assert_close

from tensornet.linalg import pcg
from tensornet.pde import (
    Domain,
    Grid,
    Problem,
    advection_diffusion,
    multigrid,
    poisson,
    theta_step,
)
from tensornet.pde.stiff_parts import stiff_parts
from tensornet.testing.pressure import (
    OPEN_TOP,
    PROBLEMS,
    inclusions,
    small_problem,
    sphere_problem,
    white_noise,
)


def stiff(n: int, contrast: float) -> Problem:
    k = inclusions(n, contrast)
    return poisson(Grid(k.shape, spacing=1 / n), coefficient=k, source=white_noise(*k.shape))


def small(case: str) -> Problem:
    """One of many shapes and boundaries, small enough for dense matrices."""
    if case == "stiff, rings":
        k = 1e4 ** (torch.rand(13, 14, generator=torch.Generator().manual_seed(2)) > 0.6).double()
        k[3:6] = 1e4  # all around one ring
        boundary: Any = ("neumann", "periodic")
        return poisson(Grid((13, 14), spacing=0.1), coefficient=k, boundary=boundary, project=True)
    if case == "stiff":
        return stiff(9, 1e4)
    if case == "soft, flat":
        k, mask = inclusions(10, 1e-4), white_noise(10, 10, 10) < 1.0
        grid = Grid((10, 10, 10), spacing=(0.1, 0.1, 0.4))
        domain = Domain(grid, mask=mask, boundary=OPEN_TOP, drop_isolated=True)
        return poisson(domain, coefficient=k, project=True)
    return small_problem(case)


CASES = (
    *("line", "odd rings", "even rings", "flat cells", "two parts", "coefficient", "sphere"),
    *("stiff", "stiff, rings", "soft, flat"),
)


@pytest.mark.parametrize("smoothing", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_symmetric_positive_definite(case: str, smoothing: int) -> None:
    A = small(case).operator
    M = multigrid(A, smoothing=smoothing)
    assert len(M.shapes) > 1
    matrix = M.to_dense()
    assert_close(matrix, matrix.mT, rtol=0, atol=1e-12 * float(matrix.abs().max()))
    basis = torch.linalg.svd(A.nullspace)[2][len(A.nullspace) :] if len(A.nullspace) else None
    inside = matrix if basis is None else basis @ matrix @ basis.mT
    assert float(torch.linalg.eigvalsh(inside)[0]) > 0


@pytest.mark.parametrize("case", CASES)
def test_close_to_the_inverse(case: str) -> None:
    A = small(case).operator
    matrix, M = A.to_dense(), multigrid(A).to_dense()
    values = torch.linalg.eigvals(M @ matrix).real.sort().values[len(A.nullspace) :]
    least = {"stiff": 0.1, "stiff, rings": 0.1, "soft, flat": 0.12}.get(case, 0.5)
    assert float(values[0]) > least
    assert float(values[-1]) < 1.5


def test_small_grids_are_solved() -> None:
    A = poisson(Grid((5, 4, 6), spacing=0.2), boundary=OPEN_TOP).operator
    assert_close(multigrid(A)(A(white_noise(3, 120))), white_noise(3, 120), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_iterations_do_not_grow(make: Callable[[int], Problem]) -> None:
    counts = []
    for n in (8, 16, 32):
        p = make(n)
        found = pcg(p.operator, p.rhs, M=multigrid(p.operator), rtol=1e-6)
        assert found.converged
        counts.append(found.n_iterations)
    assert max(counts) <= 8
    assert counts[-1] <= 1.5 * counts[0]


@pytest.mark.parametrize("contrast", [1e-4, 1.0, 10.0, 100.0, 1e4, 1e6])
def test_iterations_hardly_grow_with_the_contrast(contrast: float) -> None:
    most = {1e-4: 8, 1.0: 7, 10.0: 9, 100.0: 15, 1e4: 23, 1e6: 26}[contrast]
    for n in (16, 32):
        p = stiff(n, contrast)
        found = pcg(p.operator, p.rhs, M=multigrid(p.operator), rtol=1e-6)
        assert found.converged
        assert found.n_iterations <= most
        left = p.residual(found.value).norm() / p.rhs.norm()
        assert float(left) < 1.01e-6


def test_stiff_parts_are_told_apart() -> None:
    p = small("stiff, rings")
    parts = stiff_parts(p.operator)
    assert parts is not None
    assert stiff_parts(sphere_problem(8).operator) is None
    assert stiff_parts(stiff(8, 5.0).operator) is None
    Z = torch.zeros(p.operator.shape[0], parts.count, dtype=torch.float64)
    Z[parts.place, parts.label] = 1
    k = p.operator.coefficient
    assert isinstance(k, Tensor)
    assert torch.equal(Z.sum(1) > 0, k.flatten() > 100)
    coarse = Z.mT @ p.operator.to_dense() @ Z
    want = Z @ torch.linalg.inv(coarse) @ Z.mT
    assert_close(parts(torch.eye(len(Z), dtype=torch.float64)), want, rtol=1e-11, atol=1e-14)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tensornet.pde.multigrid"], "_GRAIN", 64)
    for p in (sphere_problem(16), stiff(16, 100.0)):
        M, b = multigrid(p.operator), torch.stack([p.rhs, 2 * p.rhs])
        alone, threads = M(b), torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert_close(M(b), alone, rtol=0, atol=0)
        finally:
            torch.set_num_threads(threads)


def test_plain_gradients_need_more() -> None:
    p = sphere_problem(16)
    assert pcg(p.operator, p.rhs, M=lambda r: r, rtol=1e-6).n_iterations > 60


def test_heat_step() -> None:
    p = sphere_problem(16)
    implicit = theta_step(p, 1e-3).implicit
    M = multigrid(implicit)
    found = pcg(implicit, p.rhs, M=M, rtol=1e-8)
    assert found.converged
    assert found.n_iterations <= 8


def test_small_reactions_are_kept() -> None:
    p = sphere_problem(16, "neumann", project=True)
    for dtype in (torch.float32, torch.float64):
        A = p.operator.shifted(1e-4).to(dtype)
        b = torch.ones(A.shape[0], dtype=dtype)
        assert_close(multigrid(A)(b).mean(), b.mean() * 1e4, rtol=0.05, atol=0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 10.0), (7.0, 1.0)])
def test_grids_of_flat_cells_and_odd_sizes(spacing: tuple[float, float]) -> None:
    p = poisson(Grid((65, 51), spacing=spacing), source=white_noise(65, 51))
    found = pcg(p.operator, p.rhs, M=multigrid(p.operator), rtol=1e-6)
    assert found.converged
    assert found.n_iterations <= 9


def test_scipy_and_batches() -> None:
    p = sphere_problem(16)
    M = multigrid(p.operator)
    rows = white_noise(3, p.operator.shape[0])
    assert_close(M(rows), torch.stack([M(row) for row in rows]), rtol=0, atol=0)
    assert_close(M(rows[None]), M(rows)[None], rtol=0, atol=0)
    assert M(rows[:0]).shape == (0, len(rows[0]))
    steps: list[int] = []
    x, info = cg(
        p.operator.to_scipy_sparse(), p.rhs.numpy(), rtol=1e-8, M=M.to_scipy(),
        callback=lambda _: steps.append(1),
    )  # fmt: skip
    assert info == 0
    assert len(steps) <= 10
    b = p.rhs.numpy()
    assert np.linalg.norm(b - p.operator(torch.from_numpy(x)).numpy()) < 2e-8 * np.linalg.norm(b)


def test_single_precision() -> None:
    p = sphere_problem(16)
    double, single = multigrid(p.operator), multigrid(p.operator, precision=torch.float32)
    scale = float(double(p.rhs).abs().max())
    gap = float((double(p.rhs) - single(p.rhs)).abs().max())
    assert 0 < gap < 1e-5 * scale
    found = pcg(p.operator, p.rhs, M=single, rtol=1e-9)
    assert found.converged
    assert found.n_iterations <= 12
    A = p.operator.to(torch.float32)
    assert_close(multigrid(A)(p.rhs.float()).double(), single(p.rhs), rtol=1e-4, atol=1e-6 * scale)


def test_derivative_is_the_map_itself() -> None:
    p = sphere_problem(8)
    M = multigrid(p.operator)
    x = p.rhs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(M(x) @ white_noise(len(x)), x)
    assert_close(gradient, M(white_noise(len(x))), rtol=0, atol=0)


def test_refusals() -> None:
    A = sphere_problem(8).operator
    with pytest.raises(TypeError, match="operator of `pde`"):
        multigrid(A.to_scipy_sparse())
    with pytest.raises(TypeError, match="float32 or float64"):
        multigrid(A, precision=torch.float16)
    with pytest.raises(ValueError, match="smoothing"):
        multigrid(A, smoothing=0)
    with pytest.raises(ValueError, match="weights and ties"):
        multigrid(A.shifted(-1.0))
    flow = advection_diffusion(Grid((8, 8), spacing=0.1), velocity=(1.0, 0.0))
    with pytest.raises(ValueError, match="symmetric"):
        multigrid(flow.operator)
    with pytest.raises(ValueError, match="shape"):
        multigrid(A)(torch.ones(3, dtype=torch.float64))
