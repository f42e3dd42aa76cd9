"""The solvers with the operators of grids: null spaces, box preconditioner, wind, coefficients."""

import pytest
import torch

from tensornet import pde
from tensornet.linalg import cg, deep_conjugate_direction, fcg, gmres, incomplete_cholesky, pcg

N = 8


def hole() -> torch.Tensor:
    mask = torch.ones(N, N, dtype=torch.bool)
    mask[2:4, 3:6] = False
    return mask


@pytest.mark.parametrize("solver", [cg, fcg, gmres])
def test_closed_boxes_are_projected_and_it_is_said(solver: object) -> None:
    assert callable(solver)
    grid = pde.Grid((N, N), spacing=1 / N)
    A = pde.poisson(grid, mask=hole(), boundary="neumann").operator
    b = torch.randn(2, A.shape[0])
    with pytest.raises(ValueError, match=r"A=...\)` must have shape .*, as `b` has 3 unknowns"):
        solver(A, b[:, :3])
    found = solver(A, b, rtol=1e-11)
    assert found.converged
    assert "along its null space" in found.message
    want = b @ torch.linalg.pinv(A.to_dense(), hermitian=True)
    assert torch.allclose(found.value, want, rtol=0, atol=1e-9)


def test_preconditioners_of_every_origin() -> None:
    grid = pde.Grid((N, N), spacing=1 / N)
    A = pde.poisson(grid, mask=hole()).operator
    b, box = torch.randn(A.shape[0]), pde.box_preconditioner(A)
    want = torch.linalg.solve(A.to_dense(), b)
    M = incomplete_cholesky(A)
    for found in (
        pcg(A, b, M=box, rtol=1e-11),
        pcg(A.to_scipy(), b, M=M, rtol=1e-11),
        deep_conjugate_direction(A, b, box, tolerance=1e-11),
    ):
        assert found.converged
        assert found.n_iterations < 20
        assert torch.allclose(found.value, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann"])
def test_wind(boundary: str) -> None:
    grid = pde.Grid((N, N), spacing=1 / N)
    across, up = torch.full((N + 1, N), 4.0), torch.full((N, N + 1), -9.0)
    if boundary == "neumann":  # nothing passes the walls
        across[[0, -1]] = 0.0
        up[:, [0, -1]] = 0.0
    A = pde.advection_diffusion(grid, (across, up), boundary=boundary).operator
    with pytest.raises(ValueError, match=r"must be symmetric"):
        cg(A, torch.ones(A.shape[0]))
    b = torch.randn(2, A.shape[0], requires_grad=True)
    found = gmres(A, b, rtol=1e-12, restart=64)
    assert found.converged, found.message
    # a closed box conserves: what it cannot reach has a sum, and its null vector is another
    assert ("does not reach" in found.message) == (boundary == "neumann")
    dense = A.to_dense()
    left = b - b.mean(-1, keepdim=True) if boundary == "neumann" else b
    assert torch.allclose(found.value @ dense.mT, left, rtol=0, atol=1e-8)
    loss = found.value.square().sum()
    if boundary == "neumann":  # which null vector is in the solution, nothing says
        with pytest.warns(RuntimeWarning, match=r"gradient is inexact.*system is singular"):
            loss.backward()
        return
    loss.backward()
    assert b.grad is not None
    want = torch.linalg.solve(dense.mT, 2 * found.value.detach().mT).mT
    assert torch.allclose(b.grad, want, rtol=0, atol=1e-9)


def test_derivative_in_the_coefficient_of_a_stencil() -> None:
    grid = pde.Grid((N, N), spacing=1 / N)
    k, source = (torch.rand(N, N) + 0.5).requires_grad_(), torch.randn(N, N)
    problem = pde.poisson(grid, mask=hole(), source=source, coefficient=k)
    iterative = cg(problem.operator, problem.rhs, rtol=1e-13).value
    (one,) = torch.autograd.grad(iterative.square().sum(), k)
    exact = torch.linalg.solve(problem.operator.to_dense(), problem.rhs)
    (other,) = torch.autograd.grad(exact.square().sum(), k)
    assert torch.allclose(one, other, rtol=1e-9, atol=1e-13)
