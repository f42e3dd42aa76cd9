"""Linear systems in train format: dense and separable solutions, the residual told, bad input."""

import math

import pytest
import torch
from torch import Tensor

from tensornet.formats import MPS, TensorTrain, TTMatrix
from tensornet.linalg import amen, solve_tt


def laplacian(n: int) -> Tensor:
    """Minus the second derivative on (0, 1), zero at both ends."""
    ones = torch.ones(n - 1)
    return (2 * torch.eye(n) - torch.diag(ones, 1) - torch.diag(ones, -1)) * (n + 1) ** 2


def random_train(dims: tuple[int, ...], rank: int, dtype: torch.dtype) -> TensorTrain:
    ranks = [1, *[rank] * (len(dims) - 1), 1]
    shapes = zip(ranks, dims, ranks[1:], strict=False)
    return TensorTrain(tuple(torch.randn(*shape, dtype=dtype) for shape in shapes))


def random_matrix(dims: tuple[int, ...], dtype: torch.dtype) -> TTMatrix:
    """Not symmetric, and not far from the identity."""
    ranks = [1, *[2] * (len(dims) - 1), 1]
    cores = tuple(
        torch.randn(a, d, d, b, dtype=dtype)
        for a, d, b in zip(ranks, dims, ranks[1:], strict=False)
    )
    noise = TTMatrix(cores)
    return TTMatrix.identity(dims, dtype=dtype) + (0.5 / float(noise.norm())) * noise


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_agrees_with_a_dense_solution(dtype: torch.dtype) -> None:
    dims = (4, 3, 5, 2)
    A, b = random_matrix(dims, dtype), random_train(dims, 2, dtype)
    found = solve_tt(A, b, tolerance=1e-11)
    assert found.converged, found.message
    exact = torch.linalg.solve(A.to_matrix(), b.to_dense().flatten())
    error = (found.value.to_dense().flatten() - exact).norm() / exact.norm()
    assert float(error) < 1e-9


def test_a_symmetric_ill_conditioned_system() -> None:
    dims = (4, 4, 4, 4)
    G = random_matrix(dims, torch.float64)
    A = G.mT @ G + 1e-3 * TTMatrix.identity(dims)
    b = random_train(dims, 2, torch.float64)
    found = solve_tt(A, b, tolerance=1e-10)
    exact = torch.linalg.solve(A.to_matrix(), b.to_dense().flatten())
    assert float((found.value.to_dense().flatten() - exact).norm() / exact.norm()) < 1e-8


def test_poisson_in_three_dimensions() -> None:
    """Against the eigenvectors of each direction."""
    n = 32
    D = laplacian(n)
    b = TensorTrain((torch.ones(1, n, 1),) * 3)
    found = solve_tt(TTMatrix.kronecker_sum([D] * 3), b)
    values, Q = torch.linalg.eigh(D)
    exact = torch.einsum("ia,jb,kc,ijk->abc", Q, Q, Q, torch.ones(n, n, n))
    exact = exact / (values[:, None, None] + values[:, None] + values)
    exact = torch.einsum("ia,jb,kc,abc->ijk", Q, Q, Q, exact)
    assert float((found.value.to_dense() - exact).norm() / exact.norm()) < 1.6e-9
    assert max(found.value.ranks) <= 10


def test_poisson_in_ten_dimensions() -> None:
    n, d = 20, 10
    A = TTMatrix.kronecker_sum([laplacian(n)] * d)
    b = TensorTrain((torch.ones(1, n, 1),) * d)
    found = solve_tt(A, b, tolerance=1e-7)
    assert found.converged
    assert float((A @ found.value - b).norm() / b.norm()) < 1e-7
    assert max(found.value.ranks) <= 10


def test_the_residual_told_is_the_true_one() -> None:
    """Also where the rank is too low to converge."""
    dims = (6, 6, 6, 6)
    A, b = random_matrix(dims, torch.float64), random_train(dims, 5, torch.float64)
    found = solve_tt(A, b, max_rank=3, max_sweeps=6)
    true = float((A @ found.value - b).norm() / b.norm())
    assert found.residuals[-1] == pytest.approx(true, rel=1e-8)
    assert true > 1e-3
    assert not found.converged
    assert "above the tolerance" in found.message
    assert max(found.value.ranks) <= 3
    good = solve_tt(A, b, tolerance=1e-6)
    true = float((A @ good.value - b).norm() / b.norm())
    assert good.residuals[-1] == pytest.approx(true, rel=1e-4)


def test_the_residual_told_is_that_of_the_last_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a sweep without enrichment did not do, and the next one is the last."""
    dims = (4, 3, 5)
    A, b = random_matrix(dims, torch.float64), random_train(dims, 2, torch.float64)
    n = solve_tt(A, b).n_iterations
    exact, first = amen.residual, [1.0]
    monkeypatch.setattr(amen, "residual", lambda *x: first.pop() if first else exact(*x))
    found = solve_tt(A, b, max_sweeps=n + 1)
    assert found.n_iterations == n + 1
    assert found.converged
    assert found.residuals[-1] < 1e-8


def test_hundreds_of_modes_of_any_scale_stay_in_range() -> None:
    """Norms of 1e727 and factors of e^-900, which no float holds."""
    n = 150
    A = TTMatrix.kronecker_sum([torch.eye(2) + 0.1 * torch.ones(2, 2)] * n)
    A = TTMatrix(A.cores, torch.tensor(-900.0))
    b = TensorTrain((5e4 * torch.ones(1, 2, 1),) * n)
    found = solve_tt(A, b, tolerance=1e-8, max_sweeps=4)
    # all-ones is an eigenvector: eigenvalue e^-900 * 1.2 n
    assert float(found.value.log_norm() - b.log_norm()) == pytest.approx(
        900 - math.log(1.2 * n), rel=1e-12
    )
    _, logarithm = found.value.log_inner(b)
    assert float(logarithm) == pytest.approx(
        float(found.value.log_norm() + b.log_norm()), rel=1e-14
    )


def test_a_good_start_saves_sweeps_and_the_kind_is_kept() -> None:
    n = 16
    A = TTMatrix.kronecker_sum([laplacian(n)] * 4)
    b = MPS((torch.ones(1, n, 1),) * 4)
    cold = solve_tt(A, b, tolerance=1e-9)
    assert isinstance(cold.value, MPS)
    warm = solve_tt(A, b, tolerance=1e-8, start=cold.value)
    assert warm.converged
    assert warm.n_iterations < cold.n_iterations


def test_one_mode_float32_and_zero() -> None:
    A, b = torch.randn(5, 5) + 5 * torch.eye(5), torch.randn(5)
    found = solve_tt(TTMatrix((A[None, :, :, None],)), TensorTrain((b[None, :, None],)))
    torch.testing.assert_close(found.value.to_dense(), torch.linalg.solve(A, b))
    D = laplacian(8).float()
    ones = TensorTrain((torch.ones(1, 8, 1, dtype=torch.float32),) * 3)
    single = solve_tt(TTMatrix.kronecker_sum([D] * 3), ones, tolerance=1e-5)
    assert single.converged
    assert single.value.dtype == torch.float32
    zero = solve_tt(TTMatrix.kronecker_sum([D] * 3), 0 * ones)
    assert zero.converged
    assert float(zero.value.norm()) == 0
    assert zero.message == "The right-hand side is zero."


def test_a_singular_system_is_said_to_be_one() -> None:
    """Zero is an eigenvalue, and the right-hand side has a part there."""
    A = TTMatrix.kronecker_sum([torch.diag(torch.tensor([0.0, 1.0, 2.0]))] * 3)
    found = solve_tt(A, random_train((3, 3, 3), 1, torch.float64), max_sweeps=6)
    assert not found.converged
    assert "singular; perhaps the matrix is" in found.message


def test_bad_input() -> None:
    A = TTMatrix.identity((2, 3))
    b = TensorTrain((torch.ones(1, 2, 1), torch.ones(1, 3, 1)))
    with pytest.raises(ValueError, match=r"must have the shape \(2, 3\) of the matrix. Got \(3,"):
        solve_tt(A, b.reverse())
    with pytest.raises(ValueError, match=r"`solve_tt\(start=...\)` must have the shape"):
        solve_tt(A, b, start=b.reverse())
    with pytest.raises(TypeError, match=r"`solve_tt\(A=...\)` must be a TTMatrix. Got Tensor"):
        solve_tt(torch.eye(6), b)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be square in each mode"):
        solve_tt(TTMatrix((torch.ones(1, 2, 3, 1),)), TensorTrain((torch.ones(1, 2, 1),)))
    with pytest.raises(ValueError, match=r"must be invertible. Got zero"):
        solve_tt(0.0 * A, b)
    with pytest.raises(ValueError, match="must be finite"):
        solve_tt(A, TensorTrain((b.cores[0] * math.nan, b.cores[1])))
    with pytest.raises(TypeError, match=r"must have the dtype torch.float64 of `A`"):
        solve_tt(A, b.to(torch.float32))
    with pytest.raises(ValueError, match=r"`solve_tt\(max_rank=...\)` must be at least 1"):
        solve_tt(A, b, max_rank=0)
    with pytest.raises(ValueError, match=r"`solve_tt\(tolerance=...\)`"):
        solve_tt(A, b, tolerance=-1.0)
