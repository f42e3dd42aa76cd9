"""The class TensorTrain: laws that go beyond the contract of all formats."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import tensorly
import torch
from torch import Tensor

from tensornet.formats import CP, TensorTrain, Tucker, load, round_sum, round_train
from tensornet.testing import assert_format_contract


def random_train(
    shape: Sequence[int], rank: int, dtype: torch.dtype = torch.float64, log_scale: float = 0.3
) -> TensorTrain:
    ranks = [1, *[rank] * (len(shape) - 1), 1]
    cores = [
        torch.randn(a, d, b, dtype=dtype)
        for a, d, b in zip(ranks[:-1], shape, ranks[1:], strict=True)
    ]
    return TensorTrain(tuple(cores), torch.tensor(log_scale, dtype=cores[0].real.dtype))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4,), torch.float64), ((2, 3, 2), torch.float64), ((2, 3), torch.complex128)],
    ids=str,
)
def test_contract(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert_format_contract(random_train(shape, 2, dtype), random_train(shape, 3, dtype))


def test_dense_is_that_of_tensorly_and_back() -> None:
    x = random_train((3, 4, 2, 5), 3)
    theirs = x.to_tensorly()
    assert torch.allclose(tensorly.tt_to_tensor(theirs), x.to_dense(), rtol=1e-12)
    back = TensorTrain.from_tensorly(theirs)
    assert torch.allclose(back.to_dense(), x.to_dense(), rtol=1e-12)
    arrays = [core.numpy() for core in x.cores]
    again = TensorTrain.from_tensorly(arrays) * math.exp(0.3)
    assert torch.allclose(again.to_dense(), x.to_dense(), rtol=1e-12)


def test_norm_and_inner_stay_in_range() -> None:
    """A train of twos: every entry is 2^order, the norm 2^order 10^(order/2)."""
    order = 400
    x = TensorTrain(tuple(torch.full((1, 10, 1), 2.0) for _ in range(order)))
    exact = order * math.log(2) + order / 2 * math.log(10)
    assert float(x.log_norm()) == pytest.approx(exact, rel=1e-14)
    sign, logarithm = x.log_inner(-3 * x)
    assert float(sign) == -1
    assert float(logarithm) == pytest.approx(2 * exact + math.log(3), rel=1e-14)
    assert x.norm() == math.inf
    scaled = TensorTrain(x.cores, torch.tensor(-exact))
    assert float(scaled.norm()) == pytest.approx(1, rel=1e-10)
    assert float(scaled.inner(scaled)) == pytest.approx(1, rel=1e-10)
    zeros = torch.zeros(3, order, dtype=torch.int64)
    entries = scaled.evaluate(zeros).log10()
    assert torch.allclose(entries, torch.tensor(-order / 2.0), rtol=1e-12)
    assert float(scaled.sum().log10()) == pytest.approx(order / 2, rel=1e-12)
    rounded = x.round(tolerance=1e-8)
    assert float(rounded.log_norm()) == pytest.approx(exact, rel=1e-14)


def test_order_two_thousand_with_ranks() -> None:
    x = random_train((2,) * 2000, 3)
    norm = float(x.log_norm())
    assert math.isfinite(norm)
    assert norm == pytest.approx(float(x.log_inner(x)[1]) / 2, rel=1e-12)
    twice = (x + x).round(tolerance=1e-9)
    assert max(twice.ranks) == 3
    assert float((twice - 2 * x).log_norm()) - norm < math.log(1e-9)


def test_norm_of_a_difference_has_no_floor_at_the_root_of_round_off() -> None:
    x = random_train((4, 5, 3, 4), 4)
    small = random_train((4, 5, 3, 4), 2)
    small = small * (1e-12 * float(x.norm() / small.norm()))
    measured = float(((x + small) - x).norm() / x.norm())
    assert measured == pytest.approx(1e-12, rel=1e-2)
    grad = TensorTrain(tuple(c.clone().requires_grad_() for c in x.cores), x.log_scale)
    measured = float(((grad + small) - x).norm().detach() / x.norm())
    assert measured == pytest.approx(1e-12, rel=1e-2)


def test_norm_is_differentiable_twice_and_zero_at_zero() -> None:
    cores = [core.requires_grad_() for core in random_train((2, 3, 2), 2).cores]
    assert torch.autograd.gradgradcheck(
        lambda *cores: TensorTrain(cores).norm(), cores, rtol=1e-6, atol=1e-8
    )
    zero = TensorTrain(tuple(torch.zeros(1, 2, 1, requires_grad=True) for _ in range(3)))
    zero.norm().backward()
    assert all(not core.grad.any() for core in zero.cores if core.grad is not None)
    assert float(zero.log_norm().detach()) == -math.inf


def test_sum_over_modes() -> None:
    x = random_train((3, 4, 2, 5), 3)
    dense = x.to_dense()
    assert torch.allclose(x.sum(), dense.sum())
    assert torch.allclose(x.sum(1).to_dense(), dense.sum(1))
    assert torch.allclose(x.sum((0, -1)).to_dense(), dense.sum((0, 3)))
    assert torch.allclose(x.sum((1, 2, 3)).to_dense(), dense.sum((1, 2, 3)))
    with pytest.raises(IndexError, match=r"order 4\. Got 4"):
        x.sum(4)


def test_indexing_mixes_numbers_and_slices() -> None:
    x = random_train((3, 4, 2, 5), 3)
    dense = x.to_dense()
    cases: list[tuple[Any, ...]] = [
        (1, slice(None), 0), (Ellipsis, 2), (0, Ellipsis, slice(1, 4, 2)), (-1, 2, 1, -2)
    ]  # fmt: skip
    for index in cases:
        got = x[index]
        got = got.to_dense() if isinstance(got, TensorTrain) else got
        assert torch.allclose(got, dense[index])


@pytest.mark.parametrize("n", [7, 5000])
def test_many_entries(n: int) -> None:
    x = random_train((3, 4, 2, 5), 3)
    indices = torch.stack([torch.randint(-d, d, (n,)) for d in x.shape], -1)
    expected = x.to_dense()[tuple(indices.unbind(-1))]
    assert torch.allclose(x.evaluate(indices), expected, rtol=1e-12, atol=1e-12)
    assert x.evaluate(indices.reshape(1, n, 4)).shape == (1, n)


@pytest.mark.parametrize("center", [0, 2, -1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_orthogonalize(center: int, dtype: torch.dtype) -> None:
    x = random_train((3, 4, 2, 5), 4, dtype)
    y = x.orthogonalize(center)
    assert torch.allclose(y.to_dense(), x.to_dense(), rtol=1e-11, atol=1e-11)
    for k, core in enumerate(y.cores):
        if k < center % 4:
            flat = core.flatten(0, 1)
            assert torch.allclose(flat.mH @ flat, torch.eye(flat.shape[1], dtype=dtype), atol=1e-13)
        if k > center % 4:
            flat = core.flatten(1, 2)
            assert torch.allclose(flat @ flat.mH, torch.eye(len(flat), dtype=dtype), atol=1e-13)
    norm = y.cores[center].norm() * y.log_scale.exp()
    assert torch.allclose(norm, x.norm())


def test_reverse_conj_and_dense_inner() -> None:
    x, y = (random_train((3, 4, 2), 3, torch.complex128) for _ in range(2))
    turned = x.to_dense().permute(2, 1, 0)
    assert torch.allclose(x.reverse().to_dense(), turned, rtol=1e-11, atol=1e-11)
    assert torch.equal(x.conj().to_dense(), x.to_dense().conj())
    assert torch.allclose(x.inner(y.to_dense()), x.inner(y), rtol=1e-12)
    assert torch.allclose(x.inner(y), y.inner(x).conj(), rtol=1e-12)
    phase, logarithm = x.log_inner(y)
    assert torch.allclose(phase * logarithm.exp(), x.inner(y), rtol=1e-12)


def test_from_cp_and_tucker() -> None:
    factors = tuple(torch.randn(d, 3) for d in (2, 3, 4))
    cp = CP(factors, torch.tensor([1.0, -2.0, 0.5]))
    assert torch.allclose(TensorTrain.from_cp(cp).to_dense(), cp.to_dense())
    assert TensorTrain.from_cp(cp).ranks == (1, 3, 3, 1)
    tucker = Tucker(torch.randn(2, 3, 2), tuple(torch.randn(5, r) for r in (2, 3, 2)))
    assert torch.allclose(TensorTrain.from_tucker(tucker).to_dense(), tucker.to_dense())


def test_other_kinds_are_refused() -> None:
    x, cp = random_train((2, 3), 2), CP((torch.ones(2, 1),))
    with pytest.raises(TypeError, match=r"from_tucker\(x=...\)` must be a Tucker. Got CP"):
        TensorTrain.from_tucker(cp)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"from_cp\(x=...\)` must be a CP. Got TensorTrain"):
        TensorTrain.from_cp(x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"round_train\(x=...\)` must be a TensorTrain. Got Tensor"):
        round_train(x.to_dense())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"round_sum\(trains\[1\]=...\)` must be a TensorTrain"):
        round_sum([x, cp])  # type: ignore[list-item]


def test_scale_has_derivatives_and_factors_too() -> None:
    x = random_train((2, 3), 2)

    def scaled(factor: Tensor, log_scale: Tensor) -> Tensor:
        dense: Tensor = (TensorTrain(x.cores, log_scale) * factor).to_dense()
        return dense

    for factor in (-0.7, 0.0):
        args = (torch.tensor(factor, requires_grad=True), torch.tensor(0.1, requires_grad=True))
        assert torch.autograd.gradcheck(scaled, args, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_single_precision_stays_so(default: torch.dtype) -> None:
    torch.set_default_dtype(default)
    x = random_train((3, 4, 2), 2, torch.float32)
    for y in (x + x, 3 * x, x * x, x.round(tolerance=1e-3), x.orthogonalize(1), x[1], x.sum(0)):
        assert {part.dtype for part in y.parts().values()} == {torch.float32}
    assert x.norm().dtype == x.inner(x).dtype == x.to_dense().dtype == torch.float32
    assert x.to(torch.complex128).log_scale.dtype == torch.float64
    double = random_train((3, 4, 2), 2)
    assert double.round(tolerance=1e-9).to_dense().dtype == torch.float64
    assert torch.allclose(double.round(tolerance=1e-9).to_dense(), double.to_dense(), rtol=1e-7)


def test_cores_that_make_no_chain() -> None:
    one = torch.ones(1, 2, 1)
    with pytest.raises(ValueError, match="one core per mode"):
        TensorTrain(())
    with pytest.raises(ValueError, match=r"cores\[1\].*with r1 = 1 as in `cores\[0\]`"):
        TensorTrain((one, torch.ones(2, 2, 1)))
    with pytest.raises(ValueError, match=r"shape \(1, d, 1\)"):
        TensorTrain((torch.ones(1, 2, 3),))
    with pytest.raises(ValueError, match="not be empty"):
        TensorTrain((one, torch.ones(1, 0, 1)))
    with pytest.raises(TypeError, match="float64"):
        TensorTrain((one, one.float()))
    with pytest.raises(TypeError, match="floating or complex"):
        TensorTrain((torch.ones(1, 2, 1, dtype=torch.int64),))
    with pytest.raises(TypeError, match="log_scale"):
        TensorTrain((one,), torch.tensor(0.0, dtype=torch.float32))
    with pytest.raises(ValueError, match="without axes"):
        TensorTrain((one,), torch.zeros(1))


def test_indices_that_make_no_sense() -> None:
    x = random_train((3, 4), 2)
    with pytest.raises(ValueError, match=r"Got \(5, 3\)"):
        x.evaluate(torch.zeros(5, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="must not change the dtype"):
        x * 1j
    with pytest.raises(IndexError, match="order 2"):
        x.orthogonalize(2)


def test_complex_double_survives_a_file(tmp_path: Any) -> None:
    x = random_train((2, 3), 2, torch.complex128)
    x.save(tmp_path / "x.safetensors")
    y = load(tmp_path / "x.safetensors")
    assert torch.equal(y.to_dense(), x.to_dense())
