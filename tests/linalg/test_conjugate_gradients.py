"""Conjugate gradients against dense solves, SciPy, pyamg and their own laws."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from tensornet.linalg import cg, deep_conjugate_direction, fcg, incomplete_cholesky, pcg


def laplacian(n: int) -> Any:
    """Minus the Laplacian on a square of n x n cells, zero outside."""
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    return scipy.sparse.kron(line, scipy.sparse.eye_array(n)).tocsr() + scipy.sparse.kron(
        scipy.sparse.eye_array(n), line
    )


def dense(A: Any) -> Tensor:
    return torch.from_numpy(A.toarray())


def as_function(A: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: x @ A.mT


KINDS: dict[str, Callable[[Any], Any]] = {
    "function": lambda A: as_function(dense(A)),
    "module": lambda A: torch.nn.Linear(A.shape[0], A.shape[0], bias=False).requires_grad_(False),
    "tensor": dense,
    "sparse tensor": lambda A: dense(A).to_sparse_coo(),
    "numpy": lambda A: A.toarray(),
    "csr": lambda A: A,
    "coo": lambda A: A.tocoo(),
    "scipy operator": scipy.sparse.linalg.aslinearoperator,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", [cg, fcg])
def test_every_kind_of_operator_and_right_side(kind: str, solver: Any) -> None:
    A = laplacian(5)
    operator = KINDS[kind](A)
    if kind == "module":
        operator.weight.copy_(dense(A))
    b = torch.randn(3, 2, 25)
    exact = torch.linalg.solve(dense(A), b.mT).mT
    for shaped, want in ((b, exact), (b[1, 0], exact[1, 0])):
        solution = solver(operator, shaped, rtol=1e-12)
        assert solution.converged, solution.message
        assert torch.allclose(solution.value, want, rtol=0, atol=1e-10)
        array = solver(operator, shaped.numpy(), rtol=1e-12).value
        assert isinstance(array, np.ndarray)
        assert np.allclose(array, want.numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_iterates_are_those_of_scipy(preconditioned: bool) -> None:
    A = laplacian(7)
    b = np.random.default_rng(11).normal(size=49)
    M = scipy.sparse.diags_array(1 / (1 + np.arange(49) % 3)) if preconditioned else None
    theirs: list[Any] = []
    ours: list[Any] = []
    scipy.sparse.linalg.cg(A, b, rtol=1e-9, M=M, callback=lambda x: theirs.append(x.copy()))
    solution = cg(A, b, rtol=1e-9, M=M, callback=lambda x: ours.append(x))
    assert len(theirs) == len(ours) == solution.n_iterations == len(solution.residuals) - 1
    for k in range(0, len(ours), 5):
        assert np.abs(ours[k] - theirs[k]).max() < 1e-9
        left = np.linalg.norm(b - A @ ours[k]) / np.linalg.norm(b)
        assert solution.residuals[k + 1] == pytest.approx(left, rel=1e-6)


def test_each_system_takes_its_own_steps() -> None:
    A = laplacian(6)
    b = torch.randn(5, 36)
    b[1] = 0
    b[3] = torch.from_numpy(np.linalg.eigh(A.toarray())[1][:, 4])
    rows: list[int] = []

    def counted(x: Tensor) -> Tensor:
        rows.append(len(x))
        return x @ dense(A)

    together = cg(counted, b, rtol=1e-8)
    alone = [cg(A, row, rtol=1e-8) for row in b]
    assert together.iterations.tolist() == [one.n_iterations for one in alone]
    assert together.iterations.tolist()[1::2] == [0, 1]
    for row, one in zip(together.value, alone, strict=True):
        assert torch.allclose(row, one.value, rtol=0, atol=1e-13)
    # one product for each step, and one to look at the residual at the end
    assert sum(rows) == sum(together.iterations.tolist()) + 4
    assert "5 of 5 systems converged" in together.message


def test_fcg_with_one_direction_is_pcg() -> None:
    A, b = laplacian(8), torch.randn(64)
    M = torch.diag(torch.rand(64) + 0.5)
    for k in (1, 5, 15):
        one = pcg(A, b, M=M, rtol=0.0, maxiter=k).value
        other = fcg(A, b, M=M, rtol=0.0, maxiter=k, mmax=1).value
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_fcg_with_nothing_to_do_is_cg() -> None:
    A, b = laplacian(8), torch.randn(64)
    for k in (1, 5, 15):
        one = cg(A, b, rtol=0.0, maxiter=k).value
        other = fcg(A, b, rtol=0.0, maxiter=k, mmax=2).value
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def seen(A: Tensor) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """An operator, and all that it was applied to."""
    inputs: list[Tensor] = []

    def apply(x: Tensor) -> Tensor:
        inputs.append(x.clone())
        return x @ A.mT

    return apply, inputs


@pytest.mark.parametrize("mmax", [1, 2, 4])
def test_directions_are_orthogonal_to_the_last(mmax: int) -> None:
    A = dense(laplacian(8))
    apply, p = seen(A)
    fcg(apply, torch.randn(64), M=lambda r: r * (1 + r.abs()), rtol=0.0, maxiter=9, mmax=mmax)
    for i in range(1, 9):
        for j in range(max(0, i - mmax), i):
            size = torch.linalg.vector_norm(p[i]) * torch.linalg.vector_norm(A @ p[j])
            assert abs(float(p[i] @ A @ p[j] / size)) < 1e-10
    far = float(p[8] @ A @ p[8 - mmax - 1] / (p[8] @ A @ p[8]))
    assert abs(far) > 1e-6  # no more than that many are remembered


def test_notay_truncation_against_its_definition() -> None:
    A, b = dense(laplacian(5)), torch.randn(25)

    def propose(r: Tensor) -> Tensor:
        return torch.tanh(3 * r) + 0.3 * r.roll(1)

    x, r, p = torch.zeros(25), b.clone(), list[Tensor]()
    for i in range(9):
        d = propose(r)
        w = d.clone()
        m = max(1, i % 4) if i else 0
        for q in p[len(p) - m :]:
            w -= (d @ A @ q) / (q @ A @ q) * q
        p.append(w)
        x = x + (w @ r) / (w @ A @ w) * w
        r = b - A @ x
    found = fcg(A, b, M=propose, rtol=0.0, maxiter=9, mmax=3, truncation="notay")
    assert torch.allclose(found.value, x, rtol=0, atol=1e-12)
    standard = fcg(A, b, M=propose, rtol=0.0, maxiter=9, mmax=3)
    assert (standard.value - x).abs().max() > 1e-6


def test_without_memory_it_is_steepest_descent() -> None:
    A, b = dense(laplacian(5)), torch.randn(25)
    x = torch.zeros(25)
    for _ in range(6):
        r = b - A @ x
        x = x + (r @ r) / (r @ A @ r) * r
    for found in (
        fcg(A, b, rtol=0.0, maxiter=6, mmax=0),
        deep_conjugate_direction(A, b, lambda r: -r, max_iterations=6, n_orthogonal=0),
    ):
        assert torch.allclose(found.value, x, rtol=0, atol=1e-13)


def network(n: int) -> Callable[[Tensor], Tensor]:
    u, v = torch.randn(n, n) / n**0.5, torch.randn(n, n) / n**0.5
    return lambda r: r + 0.5 * torch.relu(r @ u) @ v


def test_deep_conjugate_direction_is_the_papers_loop() -> None:
    A, b, f = dense(laplacian(6)), torch.randn(36), network(36)
    x, p0, p1 = torch.zeros(36), torch.zeros(36), torch.zeros(36)
    r, Ap0, Ap1, a0, a1 = b.clone(), p0, p0, 1.0, 1.0
    steps = 0
    while torch.linalg.vector_norm(r) >= 1e-4 * torch.linalg.vector_norm(b):
        q = f(r / torch.linalg.vector_norm(r))
        q = q - (q @ Ap1) / a1 * p1 - (q @ Ap0) / a0 * p0
        p0, Ap0, a0 = p1, Ap1, a1
        p1, Ap1, a1 = q, A @ q, float(q @ A @ q)
        x = x + (p1 @ r) / a1 * p1
        r = b - A @ x
        steps += 1
    found = deep_conjugate_direction(A, b, f)
    assert found.converged
    assert found.n_iterations == steps < 36
    assert torch.allclose(found.value, x, rtol=0, atol=1e-10)


def test_deep_conjugate_direction_does_not_see_the_scale() -> None:
    A, b, f = dense(laplacian(6)), torch.randn(2, 36), network(36)
    one = deep_conjugate_direction(A, b, f)
    other = deep_conjugate_direction(A, 2.0**-40 * b, f)
    assert torch.equal(one.value, 2.0**40 * other.value)
    assert one.residuals == other.residuals


def test_a_network_in_float32_serves_a_system_in_float64() -> None:
    net = torch.nn.Linear(36, 36, bias=False, dtype=torch.float32)
    torch.nn.init.eye_(net.weight)
    found = deep_conjugate_direction(laplacian(6), torch.randn(36), net, tolerance=1e-10)
    assert found.converged
    assert found.value.dtype == torch.float64


def test_pyamg_preconditioner() -> None:
    pyamg = pytest.importorskip("pyamg")
    A = laplacian(24)
    M = pyamg.ruge_stuben_solver(A.tocsr()).aspreconditioner()
    b = torch.randn(2, 576)
    plain, found = cg(A, b, rtol=1e-8), pcg(A, b, rtol=1e-8, M=M)
    assert found.converged
    assert found.n_iterations < 15 < 50 < plain.n_iterations
    assert torch.allclose(found.value, plain.value, rtol=0, atol=1e-5)
    theirs = 0

    def count(x: Any) -> None:
        nonlocal theirs
        theirs += 1

    scipy.sparse.linalg.cg(A, b[0].numpy(), rtol=1e-8, M=M, callback=count)
    assert found.iterations[0] == theirs


def test_a_start_and_absolute_tolerance() -> None:
    A, b = laplacian(6), torch.randn(2, 36)
    exact = cg(A, b, rtol=1e-13).value
    near = exact + 1e-6 * torch.randn(2, 36)
    before = near.clone()
    short = cg(A, b, rtol=1e-10, x0=near)
    assert short.converged
    assert short.n_iterations < cg(A, b, rtol=1e-10).n_iterations
    assert torch.equal(near, before)
    atol = cg(A, b, rtol=0.0, atol=1e-3)
    left = torch.linalg.vector_norm(b - atol.value @ dense(A), dim=-1)
    assert 1e-6 < float(left.max()) <= 1e-3


def test_hermitian_systems() -> None:
    X = torch.randn(9, 9, dtype=torch.complex128)
    A = X @ X.mH + torch.eye(9)
    b = torch.randn(3, 9, dtype=torch.complex128)
    exact = torch.linalg.solve(A, b.mT).mT
    for solution in (cg(A, b, rtol=1e-12), fcg(A, b, rtol=1e-12, M=torch.linalg.inv(A))):
        assert solution.converged
        assert torch.allclose(solution.value, exact, rtol=0, atol=1e-9)


def test_drift_of_the_residual_is_found_and_mended() -> None:
    A, b = laplacian(20), torch.randn(400, dtype=torch.float32)
    found = cg(A, b, rtol=1e-6)
    assert found.converged
    assert "drifted and was replaced" in found.message
    left = b.double() - torch.from_numpy(A @ found.value.double().numpy())
    true = float(torch.linalg.vector_norm(left) / torch.linalg.vector_norm(b))
    assert true < 1.3e-6
    assert found.residuals[-1] == float(found.residual) == pytest.approx(true, rel=0.5)
    beyond = cg(A, b, rtol=1e-9)
    assert not beyond.converged
    assert "as accurate as float32 gets here" in beyond.message
    assert beyond.residuals[-1] > 1e-8
    assert beyond.n_iterations < 400


class Neumann:
    """Minus the Laplacian on a line, with no flux through its ends; twice, apart."""

    def __init__(self, n: int) -> None:
        line = torch.diag(torch.full((n,), 2.0)) - torch.ones(n, n).tril(1).triu(-1)
        line += torch.eye(n)
        line[0, 0] = line[-1, -1] = 1.0
        self.matrix = torch.block_diag(line, line)
        self.nullspace = torch.zeros(2, 2 * n)
        self.nullspace[0, :n] = self.nullspace[1, n:] = 3.0
        self.shape = (2 * n, 2 * n)

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = x @ self.matrix
        return y


@pytest.mark.parametrize("solver", [cg, fcg, lambda *a, **k: pcg(*a, M=torch.eye(24) + 0.1, **k)])
def test_a_null_space_that_is_named_is_projected_out(solver: Any) -> None:
    A, b = Neumann(12), torch.randn(24)
    want = torch.linalg.pinv(A.matrix, hermitian=True) @ b
    found = solver(A, b, rtol=1e-12)
    assert found.converged
    assert "along its null space" in found.message
    assert torch.allclose(found.value, want, rtol=0, atol=1e-9)
    consistent = A(torch.randn(24))
    assert "null space" not in solver(A, consistent).message
    constant = solver(A, torch.ones(2, 24))
    assert constant.converged
    assert not constant.value.any()


def test_one_iteration_of_incomplete_cholesky_is_that_of_scipy() -> None:
    A = laplacian(16)
    M = incomplete_cholesky(A)
    b = np.random.default_rng(5).normal(size=(2, 256))
    theirs: list[Any] = []
    scipy.sparse.linalg.cg(A, b[0], rtol=1e-8, M=M, callback=theirs.append)
    found = pcg(A, b, rtol=1e-8, M=M)
    assert found.iterations[0] == len(theirs)
    assert np.abs(found.value[0] - theirs[-1]).max() < 1e-10
