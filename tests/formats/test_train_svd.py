"""The function tensor_train: published ranks, certified errors, derivatives."""

from collections.abc import Callable

import pytest
import tensorly
import torch
from torch import Tensor

from tensornet.formats import tensor_train
from tensornet.linalg.truncation import METHODS
from tensornet.so3 import wigner_3j

Function = Callable[[list[Tensor]], Tensor]


def on_grid(function: Function, n: int, order: int) -> Tensor:
    grid = torch.linspace(0, 1, n)
    axes = [grid.reshape([-1 if i == k else 1 for i in range(order)]) for k in range(order)]
    return function(axes)


def total(v: list[Tensor]) -> Tensor:
    return sum(v[1:], v[0])


# Ranks that a truncation with tolerance / sqrt(5) per cut needs at 1e-4, 1e-8, 1e-12.
TABLE: dict[str, tuple[Function, list[tuple[int, ...]]]] = {
    "sin": (lambda v: torch.sin(total(v)), [(2,) * 5] * 3),
    "exp": (lambda v: torch.exp(total(v)), [(1,) * 5] * 3),
    "cube": (lambda v: total(v) ** 3, [(4,) * 5] * 3),
    "inverse": (
        lambda v: 1 / (1 + total(v)),
        [(3, 4, 4, 4, 3), (6, 7, 7, 7, 6), (8, 10, 10, 10, 8)],
    ),
    "root": (
        lambda v: total([x * x for x in v]).sqrt(),
        [(4, 5, 5, 5, 4), (9, 11, 11, 11, 9), (10, 15, 16, 15, 10)],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_published_ranks(name: str) -> None:
    function, rows = TABLE[name]
    x = on_grid(function, 8 if name in ("sin", "exp", "cube") else 10, 6)
    for tolerance, ranks in zip((1e-4, 1e-8, 1e-12), rows, strict=True):
        found = tensor_train(x, tolerance=tolerance)
        assert found.relative_error <= tolerance
        assert found.converged
        for got, most in zip(found.value.ranks[1:-1], ranks, strict=True):
            assert got <= most
            assert got >= most - 1 or tolerance == 1e-4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-9, 1e-12])
def test_error_is_certified(method: str, tolerance: float) -> None:
    x = on_grid(lambda v: 1 / (1 + total(v)), 12, 4)
    found = tensor_train(x, tolerance=tolerance, method=method)
    true = float((found.value.to_dense() - x).norm() / x.norm())
    assert true == pytest.approx(found.relative_error, rel=1e-4)
    if method != "gram" or tolerance > 1e-7:
        assert true <= tolerance
        assert found.converged
        exact = tensor_train(x, tolerance=tolerance, method="svd").value.ranks
        assert found.value.ranks == exact


def test_error_of_given_ranks_is_that_of_the_best_up_to_root_of_cuts() -> None:
    x = torch.randn(5, 6, 7, 4)
    found = tensor_train(x, ranks=(3, 8, 3))
    assert found.value.ranks == (1, 3, 8, 3, 1)
    true = float((found.value.to_dense() - x).norm() / x.norm())
    assert found.relative_error == pytest.approx(true, rel=1e-12)
    tails = [
        torch.linalg.svdvals(x.reshape(rows, -1))[r:].norm()
        for rows, r in ((5, 3), (30, 8), (210, 3))
    ]
    best = torch.stack(tails) / x.norm()
    assert float(best.max()) <= true <= float(best.norm())
    theirs = tensorly.decomposition.tensor_train(tensorly.tensor(x), rank=[1, 3, 8, 3, 1])
    peer = float((tensorly.tt_to_tensor(theirs) - x).norm() / x.norm())
    assert true <= 1.02 * peer


def test_matrix_is_the_truncated_singular_value_decomposition() -> None:
    x = torch.randn(9, 40)
    s = torch.linalg.svdvals(x)
    for method in METHODS:
        found = tensor_train(x, ranks=4, method=method)
        assert found.relative_error == pytest.approx(float(s[4:].norm() / s.norm()), rel=1e-10)


@pytest.mark.parametrize("shape", [(3, 200, 5), (200, 3, 4), (2, 2, 2, 2, 2, 2), (6,)], ids=str)
def test_everything_is_kept_by_default(shape: tuple[int, ...]) -> None:
    for dtype in (torch.float64, torch.complex128, torch.float32):
        x = torch.randn(shape, dtype=dtype)
        found = tensor_train(x)
        assert found.value.dtype == dtype
        assert (found.value.to_dense() - x).norm() <= 50 * torch.finfo(dtype).eps * x.norm()


@pytest.mark.parametrize("method", ["auto", "svd"])
def test_low_rank_with_noise(method: str) -> None:
    cores = [torch.randn(a, 12, b) for a, b in ((1, 3), (3, 4), (4, 3), (3, 1))]
    x = torch.einsum("xap,pbq,qcr,rdy->abcd", *cores)
    x = x + 1e-9 * x.norm() * torch.randn_like(x) / x.numel() ** 0.5
    assert tensor_train(x, tolerance=1e-8, method=method).value.ranks == (1, 3, 4, 3, 1)
    assert tensor_train(x.mT.contiguous().mT, tolerance=1e-8).value.ranks == (1, 3, 4, 3, 1)


def test_randomized_in_large_modes() -> None:
    x = torch.randn(90, 3) @ torch.randn(3, 80 * 6)
    x = x.reshape(90, 80, 6)
    found = tensor_train(x, tolerance=1e-10, method="randomized")
    assert found.value.ranks == (1, 3, 6, 1)
    assert found.relative_error <= 1e-10
    again = tensor_train(x, tolerance=1e-10, method="randomized")
    assert all(torch.equal(a, b) for a, b in zip(found.value.cores, again.value.cores, strict=True))


def test_derivative_of_the_truncation() -> None:
    x = torch.randn(3, 4, 5, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: tensor_train(x, ranks=(2, 3)).value.to_dense(), (x,), rtol=1e-6, atol=1e-8
    )


def superdiagonal() -> Tensor:
    x = torch.zeros(4, 4, 4)
    x[range(4), range(4), range(4)] = torch.tensor([3.0, 3.0, 1.0, 1.0])
    return x


@pytest.mark.parametrize("method", ["auto", "svd", "gram"])
@pytest.mark.parametrize("case", ["wigner", "superdiagonal"])
def test_derivative_where_singular_values_coincide(case: str, method: str) -> None:
    """Nothing is dropped, so the derivative is the identity; others give NaN here."""
    x = (wigner_3j(2, 2, 2) if case == "wigner" else superdiagonal()).double().requires_grad_()
    weight = torch.randn_like(x)
    (tensor_train(x, tolerance=1e-7, method=method).value.to_dense() * weight).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, weight, atol=1e-12)


def test_derivative_of_a_truncation_with_equal_kept_values() -> None:
    x = (superdiagonal() + 0.1 * torch.randn(4, 4, 4)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: tensor_train(x, ranks=2).value.to_dense(), (x,), rtol=1e-6, atol=1e-8
    )
    exact = superdiagonal().requires_grad_()
    tensor_train(exact, ranks=2).value.to_dense().square().sum().backward()
    assert exact.grad is not None
    expected = torch.zeros(4, 4, 4)
    expected[0, 0, 0] = expected[1, 1, 1] = 6.0
    assert torch.allclose(exact.grad, expected, atol=1e-12)
    split = superdiagonal().requires_grad_()
    with pytest.raises(ValueError, match="both sides of the cut"):
        tensor_train(split, ranks=3).value.to_dense().sum().backward()


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_sizes_far_from_one(size: float) -> None:
    x = torch.randn(4, 5, 3)
    a, b = tensor_train(size * x, ranks=2), tensor_train(x, ranks=2)
    assert a.relative_error == pytest.approx(b.relative_error, rel=1e-10)
    assert torch.allclose(a.value.to_dense() / size, b.value.to_dense(), rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    x = on_grid(lambda v: 1 / (1 + total(v)), 6, 3).to(dtype)
    found = tensor_train(x, ranks=2)
    assert found.value.dtype == dtype
    error = (found.value.to(torch.float32).to_dense() - x.float()).norm() / x.float().norm()
    assert found.relative_error == pytest.approx(float(error), rel=1e-5)
    assert found.relative_error < 0.02


def test_zero() -> None:
    found = tensor_train(torch.zeros(2, 3, 4))
    assert found.value.ranks == (1, 1, 1, 1)
    assert not found.value.to_dense().any()


def test_arguments_that_make_no_sense() -> None:
    x = torch.ones(2, 3, 4)
    with pytest.raises(ValueError, match=r"at least 1\. Got 0"):
        tensor_train(x, ranks=0)
    with pytest.raises(ValueError, match="at most 4, the largest possible"):
        tensor_train(x, ranks=5)
    with pytest.raises(ValueError, match=r"ranks\[0\].*at most 2"):
        tensor_train(x, ranks=(3, 2))
    with pytest.raises(ValueError, match=r"one number, or 2 of them. Got \(2,\)"):
        tensor_train(x, ranks=(2,))
    with pytest.raises(ValueError, match="finite"):
        tensor_train(x * torch.nan)
    with pytest.raises(ValueError, match="empty"):
        tensor_train(torch.ones(2, 0))
    with pytest.raises(TypeError, match="floating"):
        tensor_train(torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="one of auto"):
        tensor_train(x, method="eig")
    with pytest.raises(ValueError, match="at least zero"):
        tensor_train(x, tolerance=-1.0)
    few = tensor_train(torch.randn(4, 4, 4), ranks=1, tolerance=1e-3)
    assert not few.converged
    assert "higher ranks" in few.message
