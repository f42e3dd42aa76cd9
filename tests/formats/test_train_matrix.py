"""The class TTMatrix against dense matrices."""

from collections.abc import Sequence

import pytest
import tensorly
import torch
from torch import Tensor

from tensornet.formats import TensorTrain, TTMatrix
from tensornet.testing import assert_format_contract

ROWS, COLUMNS = (3, 2, 4), (2, 3, 2)


def random_matrix(
    rows: Sequence[int], columns: Sequence[int], rank: int, dtype: torch.dtype = torch.float64
) -> TTMatrix:
    n = len(rows)
    ranks = [1, *[rank] * (n - 1), 1]
    cores = [
        torch.randn(ranks[k], rows[k], columns[k], ranks[k + 1], dtype=dtype) for k in range(n)
    ]
    return TTMatrix(tuple(cores), torch.tensor(-0.2))


def random_train(
    shape: Sequence[int], rank: int, dtype: torch.dtype = torch.float64
) -> TensorTrain:
    ranks = [1, *[rank] * (len(shape) - 1), 1]
    pairs = zip(ranks[:-1], shape, ranks[1:], strict=True)
    return TensorTrain(tuple(torch.randn(a, d, b, dtype=dtype) for a, d, b in pairs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_contract(dtype: torch.dtype) -> None:
    x, y = (random_matrix((3, 2), (2, 4), rank, dtype) for rank in (2, 3))
    assert_format_contract(x, y, gradients=dtype == torch.float64)


def test_entries_of_a_squeezed_matrix() -> None:
    A = random_matrix(ROWS, COLUMNS, 3)
    part, dense = A[1, :, 2, :, 0], A.to_dense()[1, :, 2, :, 0]
    assert part.shape == dense.shape == (2, 2, 2)
    assert torch.allclose(part.to_dense(), dense)
    assert torch.allclose(part[1, 0, 1], dense[1, 0, 1])
    index = tuple(torch.tensor([0, 1]) for _ in range(3))
    assert torch.allclose(part[index], dense[index])


def test_dense_is_that_of_tensorly_and_back() -> None:
    A = random_matrix(ROWS, COLUMNS, 3)
    theirs = tensorly.tt_matrix.tt_matrix_to_tensor(A.to_tensorly())
    assert torch.allclose(theirs, A.to_dense(), rtol=1e-11, atol=1e-12)
    assert torch.allclose(TTMatrix.from_tensorly(A.to_tensorly()).to_dense(), A.to_dense())


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_products(dtype: torch.dtype) -> None:
    A = random_matrix(ROWS, COLUMNS, 2, dtype)
    B = random_matrix(COLUMNS, (2, 2, 2), 3, dtype)
    x = random_train(COLUMNS, 3, dtype)
    matrix, vector = A.to_matrix(), x.to_dense().flatten()
    assert torch.allclose((A @ x).to_dense().flatten(), matrix @ vector)
    assert (A @ x).ranks == (1, 6, 6, 1)
    assert torch.allclose((A @ B).to_matrix(), matrix @ B.to_matrix())
    assert torch.allclose(A.mT.to_matrix(), matrix.mT)
    assert torch.allclose(A.adjoint().to_matrix(), matrix.mH)
    y = random_train(ROWS, 2, dtype)
    assert torch.allclose(y.inner(A @ x), (A.adjoint() @ y).inner(x))
    square = A @ A.adjoint()
    assert torch.allclose(square.trace(), square.to_matrix().trace())
    assert torch.allclose(square.trace().real, A.norm() ** 2)


@pytest.mark.parametrize("method", ["direct", "zipup", "randomized"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_compressed_product(method: str, dtype: torch.dtype) -> None:
    """The product has rank 4 though the ranks multiply to 24: A holds a projector twice."""
    A = random_matrix((4,) * 5, (3,) * 5, 2, dtype)
    A = A + 0.5 * A + 2.0 * A
    x = random_train((3,) * 5, 2, dtype)
    x = x + x
    exact = A @ x
    got = A.apply(x, tolerance=1e-10, method=method)
    assert max(got.ranks) == 4
    assert float((got - exact).norm() / exact.norm()) < 1e-11
    few = A.apply(x, max_rank=2, method=method)
    best = exact.round(max_rank=2)
    assert max(few.ranks) == 2
    error, least = (float((y - exact).norm() / exact.norm()) for y in (few, best))
    assert error <= 1.3 * least


def test_product_is_differentiable() -> None:
    A, x = random_matrix((2, 2), (3, 2), 2), random_train((3, 2), 2)
    cores = [core.requires_grad_() for core in (*A.cores, *x.cores)]

    def function(*cores: Tensor) -> Tensor:
        product = TTMatrix(cores[:2]).apply(TensorTrain(cores[2:]), max_rank=1)
        return product.to_dense()

    assert torch.autograd.gradcheck(function, cores, rtol=1e-6, atol=1e-8)


def second_difference(n: int) -> Tensor:
    off = torch.diag(torch.ones(n - 1), 1)
    return 2 * torch.eye(n) - off - off.mT


def test_laplacian_has_rank_two() -> None:
    sizes = (4, 3, 5)
    A = TTMatrix.kronecker_sum([second_difference(d) for d in sizes])
    assert A.ranks == (1, 2, 2, 1)
    eyes = [torch.eye(d) for d in sizes]
    expected = torch.zeros(60, 60)
    for k, d in enumerate(sizes):
        terms = [*eyes[:k], second_difference(d), *eyes[k + 1 :]]
        expected = expected + torch.kron(torch.kron(terms[0], terms[1]), terms[2])
    assert torch.allclose(A.to_matrix(), expected)
    assert torch.allclose(TTMatrix.identity(sizes).to_matrix(), torch.eye(60))
    assert TTMatrix.kronecker_sum([second_difference(3)]).ranks == (1, 1)


def test_maps_that_do_not_fit() -> None:
    A, x = random_matrix(ROWS, COLUMNS, 2), random_train(ROWS, 2)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 2\). Got \(3, 2, 4\)"):
        A.apply(x)
    with pytest.raises(TypeError, match="must be a TensorTrain"):
        A.apply(torch.ones(2, 3, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float32"):
        A.apply(random_train(COLUMNS, 2, torch.float32))
    with pytest.raises(ValueError, match="one of direct, zipup, randomized"):
        A.apply(random_train(COLUMNS, 2), tolerance=0.1, method="svd")
    with pytest.raises(ValueError, match="must join equal modes"):
        A @ A
    with pytest.raises(ValueError, match="equal sizes in every mode"):
        A.trace()
    with pytest.raises(ValueError, match="modes of size one"):
        TTMatrix(A.cores, squeezed=(0,))
    with pytest.raises(ValueError, match="must have shape"):
        TTMatrix.kronecker_sum([torch.ones(2, 3)])
