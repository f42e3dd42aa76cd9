"""Derivatives of solutions: finite differences, twice, and the dense solve."""

from collections.abc import Callable
from typing import Any

import pytest
import scipy.sparse.linalg
import torch
from torch import Tensor

from tensornet.linalg import cg, deep_conjugate_direction, fcg, gmres, pcg

CHECK: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-8}
TWICE: dict[str, Any] = {**CHECK, "fast_mode": True}
Solver = Callable[[Any, Any], Any]


def network(r: Tensor) -> Tensor:
    return r + 0.2 * torch.relu(r.roll(1, -1))


def deep(A: Any, b: Tensor) -> Any:
    return deep_conjugate_direction(A, b, network, tolerance=1e-13)


SOLVERS: dict[str, Solver] = {
    "cg": lambda A, b: cg(A, b, rtol=1e-13),
    "pcg": lambda A, b: pcg(A, b, rtol=1e-13, M=torch.diag(torch.arange(1.0, 4.0))),
    "fcg": lambda A, b: fcg(A, b, rtol=1e-13, M=network),
    "deep": deep,
    "gmres": lambda A, b: gmres(A, b, rtol=1e-13),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_derivatives_in_right_side_and_parameters(name: str) -> None:
    solver, L = SOLVERS[name], torch.randn(3, 3)

    def solution(b: Tensor, log: Tensor) -> Tensor:
        weights = torch.exp(log)  # an operator may be made of tensors that have graphs
        x: Tensor = solver(lambda x: weights * x + (x @ L.mT) @ L, b).value
        return x

    log = torch.randn(3, requires_grad=True)
    b = torch.randn(2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(solution, (b, log), **CHECK)
    one = b[0].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(solution, (one, log), **TWICE)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_derivatives_in_a_matrix_without_symmetry(batch: tuple[int, ...]) -> None:
    A = (4 * torch.eye(2) + torch.randn(2, 2)).requires_grad_()
    b = torch.randn(*batch, 2, requires_grad=True)

    def dense(A: Tensor, b: Tensor) -> Tensor:
        return gmres(A, b, rtol=1e-13).value

    def function(A: Tensor, b: Tensor) -> Tensor:
        return gmres(lambda x: x @ A.mT, b, rtol=1e-13, M=torch.diag(1 / A.diag())).value

    for solution in (dense, function):
        assert torch.autograd.gradcheck(solution, (A, b), **CHECK)
        assert torch.autograd.gradgradcheck(solution, (A, b), **TWICE)
    ours = torch.autograd.grad(function(A, b).square().sum(), (A, b))
    exact = torch.linalg.solve(A, b.mT).mT if batch else torch.linalg.solve(A, b)
    for one, other in zip(ours, torch.autograd.grad(exact.square().sum(), (A, b)), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-11)


def test_third_derivatives() -> None:
    a = torch.tensor([2.0, 3.0], requires_grad=True)
    x = cg(lambda y: a * y, torch.tensor([1.0, 5.0]), rtol=1e-15).value.sum()
    for _ in range(3):
        (x,) = torch.autograd.grad(x.sum(), a, create_graph=True)
    assert torch.allclose(x, -6 * torch.tensor([1.0, 5.0]) / a**4, rtol=1e-11)


def test_complex_derivatives() -> None:
    X = torch.randn(3, 3, dtype=torch.complex128)
    w = torch.rand(3, requires_grad=True)
    b = torch.randn(3, dtype=torch.complex128, requires_grad=True)
    wind = 4 * torch.eye(3) + X

    def hermitian(w: Tensor, b: Tensor) -> Tensor:
        return cg(lambda x: w * x + (x @ X.mT) @ X.conj(), b, rtol=1e-13).value

    def general(w: Tensor, b: Tensor) -> Tensor:
        return gmres(lambda x: w * x + x @ wind.mT, b, rtol=1e-13).value

    for solution in (hermitian, general):
        assert torch.autograd.gradcheck(solution, (w, b), **CHECK)


def test_parameters_of_a_module() -> None:
    class Spring(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.k = torch.nn.Parameter(torch.rand(5) + 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.k * x

    spring, b = Spring(), torch.randn(3, 5)
    cg(spring, b, rtol=1e-12).value.sum().backward()
    assert spring.k.grad is not None
    assert torch.allclose(spring.k.grad, -(b / spring.k**2).sum(0), rtol=1e-10)
    with torch.no_grad():
        assert not cg(spring, b).value.requires_grad
    assert cg(spring, torch.zeros(5)).value.requires_grad


@pytest.mark.parametrize("kind", ["csr", "operator", "numpy"])
def test_right_sides_of_operators_without_torch(kind: str) -> None:
    dense = 4 * torch.eye(4) + torch.randn(4, 4)
    sparse = scipy.sparse.csr_array(dense.numpy())
    A = {
        "csr": sparse,
        "operator": scipy.sparse.linalg.aslinearoperator(sparse),
        "numpy": dense.numpy(),
    }[kind]
    b = torch.randn(2, 4, requires_grad=True)
    inexact = gmres(A, b, rtol=1e-13).value.sin().sum()
    exact = torch.linalg.solve(dense, b.mT).mT.sin().sum()
    (one,), (other,) = torch.autograd.grad(inexact, b), torch.autograd.grad(exact, b)
    assert torch.allclose(one, other, rtol=0, atol=1e-11)


def test_singular_operators_have_the_derivatives_of_the_pseudo_inverse() -> None:
    line = torch.diag(torch.tensor([1.0, 2.0, 1.0])) - torch.eye(3).roll(1, 0).tril() * 1.0
    line = line - torch.eye(3).roll(-1, 0).triu()

    class Free:
        nullspace = torch.ones(3)

        def __init__(self, k: Tensor) -> None:
            self.k = k

        def __call__(self, x: Tensor) -> Tensor:
            return self.k * (x @ line)

    def solution(k: Tensor, b: Tensor) -> Tensor:
        return cg(Free(k), b, rtol=1e-13).value

    inputs = torch.tensor(2.0, requires_grad=True), torch.randn(3, requires_grad=True)
    assert torch.autograd.gradcheck(solution, inputs, **CHECK)
    assert torch.autograd.gradgradcheck(solution, inputs, **TWICE)


def test_a_gradient_that_does_not_converge_warns() -> None:
    b = torch.randn(9, requires_grad=True)
    x = cg(torch.diag(torch.arange(1.0, 10.0)), b, maxiter=2).value
    with pytest.warns(RuntimeWarning, match=r"The gradient is inexact.*allow more iterations"):
        (x * torch.randn(9)).sum().backward()
