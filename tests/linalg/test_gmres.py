"""GMRES against dense solves and SciPy."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from tensornet.linalg import gmres


def advection(n: int) -> Any:
    """A line with diffusion and a wind."""
    return scipy.sparse.diags_array([-1.6, 2.1, -0.4], offsets=[-1, 0, 1], shape=(n, n)).tocsr()


@pytest.mark.parametrize("restart", [4, 50])
def test_steps_are_those_of_scipy(restart: int) -> None:
    A = advection(40)
    b = np.random.default_rng(17).normal(size=40)
    sizes: list[float] = []
    theirs, info = scipy.sparse.linalg.gmres(
        A, b, rtol=1e-9, restart=restart, callback=sizes.append, callback_type="pr_norm"
    )
    assert info == 0
    found = gmres(A, b, rtol=1e-9, restart=restart)
    assert found.converged
    # SciPy tightens the goal inside a cycle, so it may go a little further
    assert 0 <= len(sizes) - found.n_iterations <= 2
    known = min(len(sizes), found.n_iterations) - 2
    assert np.allclose(found.residuals[1 : known + 1], sizes[:known], rtol=1e-6)
    assert np.abs(found.value - theirs).max() < 1e-7


def test_a_restart_gives_the_iterates_of_scipy() -> None:
    A = advection(40)
    b = np.random.default_rng(18).normal(size=40)
    theirs: list[Any] = []
    ours: list[Any] = []
    scipy.sparse.linalg.gmres(
        A, b, rtol=1e-12, restart=6, maxiter=4, callback=theirs.append, callback_type="x"
    )
    found = gmres(A, b, rtol=1e-12, restart=6, maxiter=4, callback=ours.append)
    assert not found.converged
    assert found.n_iterations == 24
    assert len(ours) == 4
    assert np.abs(ours[3] - theirs[3]).max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_batches(dtype: torch.dtype, preconditioned: bool) -> None:
    A = torch.eye(12, dtype=dtype) * 3 + torch.randn(12, 12, dtype=dtype) / 2
    b = torch.randn(2, 3, 12, dtype=dtype)
    b[0, 1] = 0
    b[1, 2] = A @ torch.linalg.eig(A)[1][:, 0] if A.is_complex() else 0
    M = torch.linalg.inv(A + 0.1 * torch.randn(12, 12, dtype=dtype)) if preconditioned else None
    found = gmres(lambda x: x @ A.mT, b, rtol=1e-11, M=M, restart=8)
    assert found.converged, found.message
    want = torch.linalg.solve(A, b[..., None])[..., 0]
    assert torch.allclose(found.value, want, rtol=0, atol=1e-9)
    assert found.iterations[0, 1] == 0
    if A.is_complex() and M is None:
        assert found.iterations[1, 2] == 1
    alone = gmres(A, b[0, 2], rtol=1e-11, M=M, restart=8)
    assert alone.n_iterations == found.iterations[0, 2]


def test_a_preconditioner_may_change_from_call_to_call() -> None:
    A, b = torch.from_numpy(advection(30).toarray()), torch.randn(30)
    inverse, calls = torch.linalg.inv(A), 0

    def rough(r: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        y: Tensor = r @ inverse.mT
        return y * (1 + 0.05 * torch.sin(calls * torch.arange(30.0)))

    found = gmres(A, b, rtol=1e-11, M=rough)
    assert found.converged
    assert found.n_iterations < 15
    assert torch.allclose(A @ found.value, b, rtol=0, atol=1e-9)


def test_a_space_that_brings_no_progress_is_named() -> None:
    shift = torch.eye(10).roll(1, 0)
    b = torch.eye(10)[0]
    found = gmres(shift, b, restart=9)
    assert not found.converged
    assert found.n_iterations == 9
    assert "dimension 9 brought no progress" in found.message
    assert gmres(shift, b, restart=10).converged


def test_singular_systems() -> None:
    line = torch.diag(torch.full((12,), 2.0)) - torch.ones(12, 12).tril(1).triu(-1) + torch.eye(12)
    line[0, 0] = line[-1, -1] = 1.0
    wrong = gmres(line, torch.arange(12.0) + 1)
    assert not wrong.converged
    assert "is singular, the right-hand side is outside its range" in wrong.message
    right = gmres(line, line @ torch.randn(12), rtol=1e-10)
    assert right.converged
    accuracy = gmres(torch.eye(3), torch.ones(3), rtol=0.0)
    assert accuracy.residuals[-1] < 1e-15


def test_nan_of_an_operator_is_named() -> None:
    found = gmres(lambda x: x / 0 * 0, torch.ones(3))
    assert not found.converged
    assert "NaN or infinite" in found.message
