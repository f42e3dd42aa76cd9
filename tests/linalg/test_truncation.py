"""Truncation against the singular value decomposition, and its derivative against differences."""

import pytest
import torch
from torch import Tensor

from tensornet.linalg import truncate
from tensornet.linalg.truncation import METHODS

SHAPES = [(6, 9), (9, 6), (5, 5), (4, 40), (40, 4), (1, 7), (7, 1)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_best_approximation_of_a_rank(shape: tuple[int, int], method: str) -> None:
    x = torch.randn(shape)
    r = min(3, *shape)
    cut = truncate(x, rank=r, method=method)
    best = torch.linalg.svdvals(x)[r:].square().sum()
    assert torch.allclose(cut.left.mT @ cut.left, torch.eye(r), atol=1e-13)
    left_over = (x - cut.left @ cut.right).square().sum()
    assert torch.allclose(left_over, best, atol=1e-12)
    assert abs(cut.weight - float(left_over)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("method", ["auto", "svd", "randomized"])
def test_tolerance_finds_the_rank_in_small_noise(method: str, dtype: torch.dtype) -> None:
    x = torch.randn(60, 5, dtype=dtype) @ torch.randn(5, 90, dtype=dtype)
    noise = torch.randn(60, 90, dtype=dtype)
    noise = noise * 1e-9 * x.norm() / noise.norm()
    cut = truncate(x + noise, tolerance=1e-8, method=method)
    assert cut.left.shape == (60, 5)
    assert 0 < cut.weight**0.5 / float(x.norm()) <= 1e-8


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-7, 1e-12])
@pytest.mark.parametrize("method", METHODS)
def test_never_drops_more_than_allowed(method: str, tolerance: float) -> None:
    i = torch.arange(40.0)
    x = 1 / (1 + i[:, None] + i)
    cut = truncate(x, tolerance=tolerance, method=method)
    error = float((x - cut.left @ cut.right).norm() / x.norm())
    if method != "gram" or tolerance > 1e-7:
        assert error <= tolerance
    assert abs(cut.weight**0.5 / float(x.norm()) - error) <= 1e-3 * error + 1e-15


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_derivative_of_the_projection(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, requires_grad=True)

    def projected(x: Tensor) -> Tensor:
        cut = truncate(x, rank=2)
        return cut.left @ cut.right

    assert torch.autograd.gradcheck(projected, (x,), rtol=1e-6, atol=1e-8)


def test_derivative_with_equal_singular_values_on_one_side() -> None:
    q, _ = torch.linalg.qr(torch.randn(6, 6))
    x = (q * torch.tensor([3.0, 3.0, 3.0, 1.0, 1.0, 1.0])).requires_grad_()

    def projected(x: Tensor) -> Tensor:
        cut = truncate(x, rank=3)
        return cut.left @ cut.right

    assert torch.autograd.gradcheck(projected, (x,), rtol=1e-6, atol=1e-8)


def test_no_derivative_where_the_cut_divides_equals() -> None:
    x = torch.eye(5, requires_grad=True)
    cut = truncate(x, rank=3)
    with pytest.raises(ValueError, match="both sides of the cut at rank 3"):
        (cut.left @ cut.right).sum().backward()


def test_keeping_everything_is_the_identity_for_derivatives() -> None:
    x = torch.eye(4, requires_grad=True)
    cut = truncate(x)
    weight = torch.randn(4, 4)
    ((cut.left @ cut.right) * weight).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, weight)


def test_zero_matrix() -> None:
    cut = truncate(torch.zeros(3, 4), tolerance=0.1)
    assert cut.left.shape == (3, 1)
    assert cut.weight == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "at least 1. Got 0"),
        ({"tolerance": -1.0}, "at least zero. Got -1.0"),
        ({"scale": float("nan")}, r"truncate\(scale=...\)` must be a finite number"),
        ({"method": "qr"}, "one of auto, svd, gram, randomized"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        truncate(torch.ones(2, 2), **arguments)  # type: ignore[arg-type]


def test_matrices_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"finite\. Got 1 NaN"):
        truncate(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match="2 axes"):
        truncate(torch.ones(2, 2, 2))
    with pytest.raises(ValueError, match="not be empty"):
        truncate(torch.ones(2, 0))
    with pytest.raises(TypeError, match="floating or complex"):
        truncate(torch.ones(2, 2, dtype=torch.int64))
