"""The CP format: its operations against the dense tensor."""

from typing import Any

import pytest
import tensorly
import torch
from torch import Tensor

from tensornet.formats import CP, cp, load


def random_cp(shape: tuple[int, ...], rank: int, weights: bool = False) -> CP:
    factors = tuple(torch.randn(d, rank) for d in shape)
    return CP(factors, torch.randn(rank) if weights else None)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5), (2, 3, 4, 5)])
def test_dense_and_norm_agree_with_tensorly(shape: tuple[int, ...]) -> None:
    value = random_cp(shape, 3, weights=True)
    if len(shape) > 1:
        expected = tensorly.cp_to_tensor((value.weights, list(value.factors)))
        close(value.to_dense(), expected)
    close(value.norm(), value.to_dense().norm())
    assert value.shape == shape
    assert value.order == len(shape)
    assert value.rank == 3
    assert value.ranks == (3,)
    assert value.n_parameters == 3 * sum(shape) + 3


def test_tensorly_both_ways() -> None:
    value = random_cp((3, 4, 5), 2, weights=True)
    there = value.to_tensorly()
    assert type(there).__name__ == "CPTensor"
    close(CP.from_tensorly(there).to_dense(), value.to_dense())
    arrays = (None, [f.numpy() for f in value.factors])
    close(CP.from_tensorly(arrays).to_dense(), CP(value.factors).to_dense())


def test_inner_norm_and_entries_of_complex_values() -> None:
    a, b = (
        CP(
            tuple(torch.randn(d, 2, dtype=torch.complex128) for d in (3, 4, 2)),
            torch.randn(2, dtype=torch.complex128),
        )
        for _ in range(2)
    )
    x, y = a.to_dense(), b.to_dense()
    close(a.inner(b), (x.conj() * y).sum())
    close(a.inner(y), (x.conj() * y).sum())
    close(a.norm(), torch.linalg.vector_norm(x))
    close((a * b).to_dense(), x * y)
    close((a * 2j).to_dense(), 2j * x)
    assert not a.norm().is_complex()


def test_indexing_as_dense() -> None:
    value = random_cp((4, 5, 6), 3, weights=True)
    x = value.to_dense()
    close(value[1, -1, 2], x[1, -1, 2])
    assert value[1, 2, 3].ndim == 0
    indices: list[Any] = [
        (slice(1, 3),),
        (0,),
        (..., 2),
        (slice(None), 3, slice(0, 6, 2)),
        (..., 1, 2),
    ]
    for index in indices:
        close(value[index].to_dense(), x[index])
    rows = tuple(torch.randint(0, d, (2, 7)) for d in x.shape)
    close(value[rows], x[rows])


def test_norm_of_a_difference_has_all_digits() -> None:
    value = random_cp((30, 20, 10), 3)
    moved = CP((value.factors[0] + 1e-11, *value.factors[1:]))
    expected = float((moved.to_dense() - value.to_dense()).norm())
    assert float((moved - value).norm()) == pytest.approx(expected, rel=1e-3)
    assert float((value - value).norm()) < 1e-13 * float(value.norm())


def test_norm_of_zero_has_a_derivative() -> None:
    zero = CP((torch.zeros(2, 1, requires_grad=True), torch.ones(3, 1)))
    zero.norm().backward()
    assert zero.factors[0].grad is not None
    assert torch.equal(zero.factors[0].grad, torch.zeros(2, 1))


@pytest.mark.parametrize("size", [1e60, 1e200])
def test_rounding_joins_terms_of_any_length_if_they_are_equal(size: float) -> None:
    large, small = size * torch.ones(2, 2), torch.eye(2) / size
    assert torch.equal(CP((large, small)).round().to_dense(), torch.ones(2, 2))
    equal = CP((large, torch.ones(2, 2) / size)).round()
    assert equal.rank == 1
    close(equal.to_dense(), torch.full((2, 2), 2.0))


def test_rounding_joins_equal_terms_exactly() -> None:
    value = random_cp((4, 5, 6), 3, weights=True)
    twice = (value + 0.5 * value - 2 * value).round()
    assert twice.rank == 3
    close(twice.to_dense(), -0.5 * value.to_dense())
    assert (value - value).round().rank <= 3
    vector = random_cp((5,), 3, weights=True)
    assert vector.round().rank == 1
    close(vector.round().to_dense(), vector.to_dense())


def test_rounding_finds_the_rank_again() -> None:
    small = random_cp((5, 6, 7), 2)
    noise = random_cp((5, 6, 7), 2)
    value = small + noise * (1e-7 * float(small.norm() / noise.norm()))
    rounded = value.round(tolerance=1e-5)
    assert rounded.rank == 2
    assert float((rounded - value).norm() / value.norm()) < 1e-5
    assert value.round(max_rank=3).rank == 3
    assert value.round(max_rank=1, tolerance=1e-9).rank == 1
    with pytest.raises(NotImplementedError, match="gradients"):
        CP(tuple(f.requires_grad_() for f in value.factors)).round(max_rank=1)


def test_derivatives_of_norm_and_inner() -> None:
    a, b = random_cp((3, 2, 4), 2), random_cp((3, 2, 4), 3)
    inputs = tuple(f.requires_grad_() for f in (*a.factors, *b.factors))

    def function(*f: Tensor) -> tuple[Tensor, Tensor]:
        left, right = CP(f[:3]), CP(f[3:])
        return (left * right - left * left).norm(), left.inner(right)

    assert torch.autograd.gradcheck(function, inputs, rtol=1e-6, atol=1e-8)


def test_files(tmp_path: pytest.TempPathFactory) -> None:
    for value in (random_cp((3, 4), 2), random_cp((3, 4), 2, weights=True)):
        path = f"{tmp_path}/value.safetensors"
        value.save(path)
        again = load(path)
        assert isinstance(again, CP)
        assert (again.weights is None) == (value.weights is None)
        assert torch.equal(again.to_dense(), value.to_dense())


def test_bad_parts() -> None:
    with pytest.raises(ValueError, match=r"r = 2 as in `factors\[0\]`"):
        CP((torch.ones(3, 2), torch.ones(3, 4)))
    with pytest.raises(ValueError, match="weights"):
        CP((torch.ones(3, 2), torch.ones(3, 2)), torch.ones(3))
    with pytest.raises(TypeError, match="dtype"):
        CP((torch.ones(3, 2), torch.ones(3, 2).float()))
    with pytest.raises(TypeError, match="floating"):
        CP((torch.ones(3, 2, dtype=torch.int64),))
    with pytest.raises(ValueError, match="at least one column"):
        CP((torch.ones(3, 0),))
    with pytest.raises(ValueError, match="Got none"):
        CP(())
    with pytest.raises(ValueError, match=r"round\(weights=...\)` must be finite"):
        CP((torch.ones(3, 2),) * 2, torch.tensor([1.0, torch.nan])).round()


def test_same_seed_same_factors() -> None:
    x = torch.randn(3, 3, 3)
    a, b = cp(x, 4, seed=7).value, cp(x, 4, seed=7).value
    assert all(torch.equal(f, g) for f, g in zip(a.factors, b.factors, strict=True))
