"""Rounding of trains and of sums: minimal ranks, certified errors, derivatives."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet.formats import TensorTrain, round_sum, round_train, tensor_train
from tensornet.linalg.truncation import METHODS


def random_train(
    shape: Sequence[int], ranks: Sequence[int], dtype: torch.dtype = torch.float64
) -> TensorTrain:
    pairs = zip([1, *ranks], shape, [*ranks, 1], strict=True)
    return TensorTrain(
        tuple(torch.randn(a, d, b, dtype=dtype) / (a * d) ** 0.5 for a, d, b in pairs)
    )


def inflated(x: TensorTrain, times: int) -> TensorTrain:
    """The same direction with `times` the ranks, in another gauge."""
    total = x
    for _ in range(times - 1):
        total = total + x * float(torch.rand(()) + 0.1)
    cores = list(total.cores)
    for k in range(len(cores) - 1):
        r = cores[k].shape[2]
        turn = torch.linalg.qr(torch.randn(r, r, dtype=x.dtype)).Q
        cores[k] = cores[k] @ turn
        cores[k + 1] = torch.einsum("ba,bdc->adc", turn.conj(), cores[k + 1])
    return TensorTrain(tuple(cores), total.log_scale)


def decaying() -> TensorTrain:
    """A train whose singular values fall off like those of 1/(1 + sum x)."""
    grid = torch.linspace(0, 1, 7)
    axes = [grid.reshape([-1 if i == k else 1 for i in range(5)]) for k in range(5)]
    return tensor_train(1 / (1 + sum(axes[1:], axes[0])), tolerance=1e-15).value


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_finds_the_ranks(method: str, dtype: torch.dtype) -> None:
    ranks = (3, 6, 8, 5)
    x = inflated(random_train((4, 5, 4, 6, 5), ranks, dtype), 7)
    found = round_train(x, tolerance=1e-6 if method == "gram" else 1e-10, method=method)
    assert found.value.ranks == (1, *ranks, 1)
    assert float((found.value - x).norm() / x.norm()) < 1e-12
    assert found.converged
    assert found.relative_error < 1e-12


@pytest.mark.parametrize("method", ["auto", "svd", "randomized"])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-8, 1e-11])
def test_error_is_certified(method: str, tolerance: float) -> None:
    x = inflated(decaying(), 3)
    found = round_train(x, tolerance=tolerance, method=method)
    true = float((found.value - x).norm() / x.norm())
    assert true <= tolerance
    if method == "svd":
        assert true == pytest.approx(found.relative_error, rel=1e-3)
    else:
        assert true <= 1.0001 * found.relative_error
    exact = tensor_train(x.to_dense(), tolerance=tolerance, method="svd").value.ranks
    assert all(a <= b + 1 for a, b in zip(found.value.ranks, exact, strict=True))


def test_large_ranks_are_sketched_and_fall_back() -> None:
    """What `auto` does beyond rank 48: low ranks by a sketch, full ones by QR."""
    small = random_train((6,) * 7, (6,) * 6)
    x = inflated(small, 10)
    found = round_train(x, tolerance=1e-9)
    assert found.value.ranks == small.ranks
    assert float((found.value - x).norm() / x.norm()) < 1e-12
    wide = random_train((6,) * 6, (6, 36, 60, 36, 6))
    kept = round_train(wide, tolerance=1e-9)
    assert kept.value.ranks == wide.ranks
    assert float((kept.value - wide).norm() / wide.norm()) < 1e-12


def test_estimate_of_a_sketch_bounds_the_error() -> None:
    """Twenty seeds, a rank below the needed one: the bound holds, and is no more than loose."""
    x = decaying()
    ratios = []
    for seed in range(20):
        found = round_train(x, max_rank=2, method="randomized", seed=seed)
        true = float((found.value - x).norm() / x.norm())
        best = round_train(x, max_rank=2, method="svd").relative_error
        assert (1 - 1e-12) * best <= true <= 1.5 * best
        ratios.append(true / found.relative_error)
    assert max(ratios) <= 1.0001
    assert min(ratios) >= 0.5


def test_idempotent_and_no_growth() -> None:
    x = inflated(decaying(), 2)
    once = x.round(tolerance=1e-5)
    assert once.round(tolerance=1e-5).ranks == once.ranks
    assert (once + once).round(tolerance=1e-9).ranks == once.ranks


def test_rank_one_is_the_mean_field() -> None:
    x = random_train((3, 4, 5), (3, 4))
    for method in METHODS:
        assert x.round(max_rank=1, method=method).ranks == (1, 1, 1, 1)
    assert random_train((5,), ()).round(max_rank=1).ranks == (1, 1)


def several(n: int, rank: int) -> list[TensorTrain]:
    """Trains that share all cores but one: their sum has the rank of one."""
    base = random_train((5,) * 6, (rank,) * 5)
    trains = []
    for _ in range(n):
        cores = list(base.cores)
        cores[3] = torch.randn_like(cores[3])
        trains.append(TensorTrain(tuple(cores)) * float(torch.rand(()) + 0.5))
    return trains


@pytest.mark.parametrize("method", METHODS)
def test_sum_without_forming_it(method: str) -> None:
    trains = several(6, 5)
    weights = torch.randn(6)
    expected = sum(
        (w * x.to_dense() for w, x in zip(weights, trains, strict=True)), torch.zeros((5,) * 6)
    )
    found = round_sum(trains, weights, tolerance=1e-6 if method == "gram" else 1e-9, method=method)
    assert found.value.ranks == (1, 5, 5, 5, 5, 5, 1)
    assert float((found.value.to_dense() - expected).norm() / expected.norm()) < 1e-12


def test_sum_of_different_ranks_and_sizes() -> None:
    a, b = random_train((3, 4, 5), (2, 3)), random_train((3, 4, 5), (3, 1)) * 1e-3
    expected = a.to_dense() - 2 * b.to_dense()
    for method in ("auto", "randomized"):
        got = round_sum([a, b], [1, -2.0], tolerance=1e-12, method=method).value
        assert torch.allclose(got.to_dense(), expected, rtol=1e-9, atol=1e-12)
    far = [a * 1e-200, a * 1e200]
    assert torch.allclose(round_sum(far, tolerance=1e-9).value.log_norm(), far[1].log_norm())


def test_what_cancels() -> None:
    x = inflated(decaying(), 2)
    found = round_sum([x, x], [1.0, -1.0], tolerance=1e-8)
    assert float(found.value.norm() / x.norm()) < 1e-14
    zero = round_train(x * 0.0, tolerance=1e-8)
    assert zero.value.ranks == (1,) * 6
    assert zero.relative_error == 0


def dense_of_rounded(max_rank: int | None, tolerance: float) -> Any:
    def function(*cores: Tensor) -> Tensor:
        return TensorTrain(cores).round(max_rank=max_rank, tolerance=tolerance).to_dense()

    return function


def test_derivative_of_a_truncation() -> None:
    cores = [core.requires_grad_() for core in random_train((3, 2, 3), (3, 3)).cores]
    assert torch.autograd.gradcheck(dense_of_rounded(2, 0.0), cores, rtol=1e-6, atol=1e-8)


def test_derivative_where_ranks_are_redundant() -> None:
    """x + x has singular orthogonal factors: differentiating through QR gives NaN there."""
    x = random_train((2, 3, 2), (2, 2))
    cores = [core.requires_grad_() for core in (x + x).cores]
    rounded = TensorTrain(tuple(cores)).round(tolerance=1e-9)
    assert rounded.ranks == x.ranks
    weight = torch.randn(2, 3, 2)
    got = torch.autograd.grad((rounded.to_dense() * weight).sum(), cores)
    plain = torch.autograd.grad((TensorTrain(tuple(cores)).to_dense() * weight).sum(), cores)
    for a, b in zip(got, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


def test_arguments_that_make_no_sense() -> None:
    x = random_train((3, 4), (2,))
    with pytest.raises(ValueError, match=r"at least 1\. Got 0"):
        x.round(max_rank=0)
    with pytest.raises(ValueError, match="at least zero"):
        x.round(tolerance=-1.0)
    with pytest.raises(ValueError, match="one of auto"):
        x.round(method="qr")
    bad = TensorTrain((x.cores[0] * torch.nan, x.cores[1]))
    for method in METHODS:
        with pytest.raises(ValueError, match=r"`round_train\(x.cores\[0\]=...\)` must be finite"):
            bad.round(tolerance=1e-3, method=method)
    with pytest.raises(ValueError, match="one train at least"):
        round_sum([])
    with pytest.raises(ValueError, match="each of 2 trains"):
        round_sum([x, x], [1.0])
    with pytest.raises(ValueError, match=r"weights\[1\]=...\)` must be finite. Got nan"):
        round_sum([x, x], [1.0, torch.nan])
    with pytest.raises(ValueError, match="one shape"):
        round_sum([x, x[:, :2]])
