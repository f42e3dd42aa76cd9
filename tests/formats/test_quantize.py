"""Quantized trains: published ranks, and the way back."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tensornet.formats import TTMatrix, dequantize, quantize, quantize_matrix, tensor_train

# Largest ranks at 1e-4, 1e-8 and 1e-12 of functions on 2^14 points of [0, 1).
TABLE: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, int, int]]] = {
    "exponential": (lambda t: torch.exp(2 * t), (1, 1, 1)),
    "sine": (lambda t: torch.sin(37 * t), (2, 2, 2)),
    "square": (lambda t: t**2, (3, 3, 3)),
    "fifth power": (lambda t: t**5, (4, 6, 6)),
    "step at a third": (lambda t: (t < 1 / 3).double(), (2, 2, 2)),
    "inverse": (lambda t: 1 / (1 + t), (3, 4, 6)),
    "root": (lambda t: t.sqrt(), (4, 6, 8)),
    "bell": (lambda t: torch.exp(-100 * (t - 0.5) ** 2), (5, 8, 11)),
    "chirp": (lambda t: torch.sin(50 * t**2), (8, 11, 14)),
}


@pytest.mark.parametrize("name", TABLE)
def test_published_ranks(name: str) -> None:
    function, ranks = TABLE[name]
    values = function(torch.arange(2**14) / 2**14)
    for tolerance, rank in zip((1e-4, 1e-8, 1e-12), ranks, strict=True):
        found = quantize(values, tolerance=tolerance)
        assert max(found.value.ranks) == rank
        assert found.relative_error <= tolerance


def test_of_a_train_is_that_of_its_dense_tensor() -> None:
    x = torch.randn(8, 4, 2, 16)
    train = tensor_train(x, ranks=(4, 5, 3)).value
    found = quantize(train, tolerance=1e-12)
    assert found.value.shape == (2,) * 10
    assert torch.allclose(found.value.to_dense(), train.to_dense().reshape((2,) * 10))
    assert found.value.ranks == quantize(train.to_dense(), tolerance=1e-12).value.ranks
    back = dequantize(found.value, (8, 4, 2, 16))
    assert torch.allclose(back.to_dense(), train.to_dense())
    threes = quantize(torch.randn(9, 27), base=3).value
    assert threes.shape == (3,) * 5


def test_laplacian_and_its_inverse() -> None:
    n = 2**7
    off = torch.diag(torch.ones(n - 1), 1)
    L = 2 * torch.eye(n) - off - off.mT
    quantized = quantize_matrix(TTMatrix((L[None, :, :, None],)), tolerance=1e-12)
    assert quantized.ranks == (1, 3, 3, 3, 3, 3, 3, 1)
    assert torch.allclose(quantized.to_matrix(), L, atol=1e-12)
    inverse = TTMatrix((torch.linalg.inv(L)[None, :, :, None],))
    assert quantize_matrix(inverse, tolerance=1e-10).ranks == (1, 4, 5, 5, 5, 5, 4, 1)
    values = torch.sin(torch.arange(n) / n)
    product = quantized.apply(quantize(values, tolerance=1e-13).value, tolerance=1e-9)
    assert torch.allclose(dequantize(product, (n,)).to_dense(), L @ values, atol=1e-10)


def test_derivative() -> None:
    x = torch.randn(4, 2, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: dequantize(quantize(x).value, (4, 2)).to_dense(), (x,), rtol=1e-6, atol=1e-8
    )


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"powers of 2\. Got 6"):
        quantize(torch.ones(6))
    with pytest.raises(ValueError, match=r"quantize\(x=...\)` must not be empty"):
        quantize(torch.ones(0))
    with pytest.raises(TypeError, match=r"must be a torch.Tensor\. Got list"):
        quantize([1.0, 2.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"quantize_matrix\(A=...\)` must .* powers of 2\. Got 3"):
        quantize_matrix(TTMatrix.identity((3,)))
    with pytest.raises(ValueError, match=r"at least 2\. Got 1"):
        quantize(torch.ones(4), base=1)
    train = quantize(torch.ones(8)).value
    with pytest.raises(ValueError, match=r"must join modes of \(2, 2, 2\). Got \(3,\)"):
        dequantize(train, (3,))
    with pytest.raises(ValueError, match="join all modes"):
        dequantize(train, (2, 2))
    with pytest.raises(TypeError, match=r"must be a TensorTrain\. Got Tensor"):
        dequantize(torch.ones(4), (2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="square cores"):
        quantize_matrix(TTMatrix((torch.ones(1, 4, 2, 1),)))
