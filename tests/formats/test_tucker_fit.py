"""Computing Tucker formats of dense tensors: optimality, tolerances, certificates, derivatives."""

import itertools
import math

import e3nn.o3
import pytest
import torch
from tensorly.decomposition import tucker as tensorly_tucker
from tensorly.tucker_tensor import tucker_to_tensor
from torch import Tensor

from tensornet.formats import Tucker, tucker
from tensornet.formats.tucker import largest_ranks
from tensornet.formats.tucker_fit import METHODS
from tensornet.formats.tucker_truncation import best_order
from tensornet.linalg.mode_product import unfolded


def low_rank(
    shape: tuple[int, ...],
    ranks: tuple[int, ...],
    noise: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    factors = [torch.randn(d, r, dtype=dtype) for d, r in zip(shape, ranks, strict=True)]
    x = Tucker(torch.randn(ranks, dtype=dtype), tuple(factors)).to_dense()
    other = torch.randn_like(x)
    noisy: Tensor = x / x.norm() + noise * other / other.norm()
    return noisy


def hilbert(d: int) -> Tensor:
    i = torch.linspace(0, 1, d)
    return 1 / (1 + i[:, None, None] + i[:, None] + i)


def true_error(x: Tensor, value: Tucker) -> float:
    return float((value.to_dense() - x).norm() / x.norm())


def tails(x: Tensor, ranks: tuple[int, ...]) -> list[float]:
    """Relative norms of what the best approximation of each unfolding drops."""
    values = [torch.linalg.svdvals(unfolded(x, k)) for k in range(x.ndim)]
    return [float(v[r:].norm() / x.norm()) for v, r in zip(values, ranks, strict=True)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.float32])
def test_exact_ranks_are_recovered(dtype: torch.dtype, method: str) -> None:
    x = low_rank((12, 3, 15, 7), (3, 2, 4, 2), dtype=dtype)
    accuracy = 100 * torch.finfo(dtype).eps
    for wanted in ({"ranks": (3, 2, 4, 2)}, {"tolerance": 1e-3}, {}):
        if method == "gram" and (not wanted or dtype == torch.float32):
            continue  # blind below the square root of round-off
        found = tucker(x, method=method, **wanted)
        assert found.value.ranks == (3, 2, 4, 2)
        assert found.value.dtype == dtype
        assert found.converged
        assert true_error(x, found.value) < accuracy
        for factor in found.value.factors:
            eye = torch.eye(factor.shape[1], dtype=dtype)
            assert torch.allclose(factor.mH @ factor, eye, atol=accuracy)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ranks", [(2, 2, 2), (5, 1, 3), (1, 1, 1), (6, 7, 8)])
def test_close_to_the_best_of_these_ranks(ranks: tuple[int, ...], method: str) -> None:
    x = torch.randn(6, 7, 8)
    found = tucker(x, ranks=ranks, method=method)
    error, best = true_error(x, found.value), tails(x, ranks)
    assert all(r <= most for r, most in zip(found.value.ranks, ranks, strict=True))
    assert max(best) - 1e-14 <= error
    if found.value.ranks == ranks and method != "randomized":
        assert error <= math.hypot(*best) + 1e-14
    assert abs(found.relative_error - error) <= 1e-8 * error + 1e-14


def test_as_good_as_tensorly() -> None:
    for x in (low_rank((30, 30, 30), (4, 4, 4), 1e-3), hilbert(30)):
        theirs = tucker_to_tensor(tensorly_tucker(x, rank=[4] * 3, tol=1e-6))
        bar = float((theirs - x).norm() / x.norm())
        assert true_error(x, tucker(x, ranks=4).value) <= 1.001 * bar
        assert true_error(x, tucker(x, ranks=4, sweeps=2).value) <= 1.00001 * bar


@pytest.mark.parametrize("r", range(1, 15, 2))
def test_auto_sees_what_gram_matrices_cannot(r: int) -> None:
    x = hilbert(40)
    accurate = true_error(x, tucker(x, ranks=r, method="svd").value)
    found = tucker(x, ranks=r)
    assert true_error(x, found.value) <= 1.001 * accurate + 1e-15
    assert found.relative_error == pytest.approx(true_error(x, found.value), rel=1e-4, abs=1e-15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sweeps", [0, 1])
def test_tolerance_is_kept(sweeps: int, method: str) -> None:
    x = hilbert(24) + 0.1 * hilbert(24).square().mT
    before: tuple[int, ...] = (0, 0, 0)
    for exponent in range(1, 14):
        tolerance = 10.0**-exponent
        if method == "gram" and exponent > 6:
            break
        found = tucker(x, tolerance=tolerance, method=method, sweeps=sweeps)
        error = true_error(x, found.value)
        assert error <= tolerance
        assert found.converged
        assert 0.5 <= (error + 1e-15) / (found.relative_error + 1e-15) <= 1.0001
        assert all(a <= b for a, b in zip(before, found.value.ranks, strict=True))
        before = found.value.ranks


def test_no_rank_beyond_need() -> None:
    """A mode keeps a direction only if dropping it would use up more than its share."""
    x = hilbert(24)
    for tolerance in (1e-2, 1e-4, 1e-8, 1e-11):
        ranks = tucker(x, tolerance=tolerance).value.ranks
        for k, r in enumerate(ranks):
            fewer = tails(x, tuple(r - 1 for r in ranks))[k]
            assert fewer > 0.99 * tolerance / math.sqrt(3)


def test_unused_tolerance_is_passed_on() -> None:
    """The first two modes drop nothing, so that the last one may drop all that is allowed."""
    x = torch.zeros(1, 2, 4)
    x[0, 0, 0], x[0, 1, 1] = 1.0, 0.09
    assert tucker(x, tolerance=0.095 / float(x.norm())).value.ranks == (1, 1, 1)
    assert tucker(x, tolerance=0.085 / float(x.norm())).value.ranks == (1, 2, 2)


def test_sweeps_only_improve() -> None:
    x = torch.randn(8, 9, 7)
    errors = [tucker(x, ranks=(3, 2, 3), sweeps=s).relative_error for s in (0, 1, 2, 5, 20)]
    assert all(b <= a + 1e-13 for a, b in itertools.pairwise(errors))
    assert errors[-1] < errors[0] - 1e-4
    assert true_error(x, tucker(x, ranks=(3, 2, 3), sweeps=5).value) == pytest.approx(errors[3])


def test_ranks_and_tolerance_together() -> None:
    x = hilbert(20)
    capped = tucker(x, ranks=2, tolerance=1e-9)
    assert capped.value.ranks == (2, 2, 2)
    assert not capped.converged
    assert "above the tolerance 1.0e-09: allow higher ranks" in capped.message
    loose = tucker(x, ranks=8, tolerance=1e-2)
    assert max(loose.value.ranks) <= 3
    assert loose.converged


def test_order_of_modes_does_not_matter() -> None:
    x = low_rank((9, 14, 11), (3, 4, 2), 1e-4)
    for axes in itertools.permutations(range(3)):
        ranks = tuple((3, 4, 2)[a] for a in axes)
        found = tucker(x.permute(axes), ranks=ranks)
        back = found.value.to_dense().permute([axes.index(k) for k in range(3)])
        expected = tucker(x, ranks=(3, 4, 2)).value.to_dense()
        assert torch.allclose(back, expected, atol=1e-7)


def test_best_order_costs_least() -> None:
    def cost(order: tuple[int, ...], shape: tuple[int, ...], ranks: tuple[int, ...]) -> float:
        entries, total = float(math.prod(shape)), 0.0
        for k in order:
            total += entries * (shape[k] + ranks[k])
            entries *= ranks[k] / shape[k]
        return total

    for shape, ranks in (((10, 40, 25, 8), (5, 3, 20, 7)), ((9, 9, 30, 50), (1, 8, 3, 30))):
        costs = {order: cost(order, shape, ranks) for order in itertools.permutations(range(4))}
        assert costs[best_order(shape, ranks)] == min(costs.values())


def test_same_call_same_bits() -> None:
    x = torch.randn(300, 6, 60)
    for method in METHODS:
        first, second = (tucker(x, ranks=3, method=method).value for _ in range(2))
        assert torch.equal(first.core, second.core)


def test_large_modes_are_drawn_and_certified() -> None:
    x = low_rank((400, 30, 30), (4, 4, 4), 1e-3)
    found = tucker(x, ranks=4)
    exact = tucker(x, ranks=4, method="svd")
    assert true_error(x, found.value) <= 1.001 * true_error(x, exact.value)
    assert found.relative_error == pytest.approx(true_error(x, found.value), rel=1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float64, 1e-200),
        (torch.float64, 1e200),
        (torch.float32, 1e-25),
        (torch.float32, 1e25),
    ],
)
def test_any_scale(dtype: torch.dtype, scale: float) -> None:
    x = low_rank((8, 9, 7), (2, 3, 2), 1e-2)
    usual = tucker(x, ranks=(2, 3, 2))
    found = tucker((scale * x).to(dtype), ranks=(2, 3, 2))
    assert found.relative_error == pytest.approx(usual.relative_error, rel=1e-3)
    back = found.value.to_dense().to(torch.float64) / scale
    assert torch.allclose(back, usual.value.to_dense(), atol=1e-5)
    tracked = (scale * x).to(dtype).requires_grad_()
    value = tucker(tracked, ranks=(2, 3, 2)).value.to_dense()
    assert torch.allclose(value.to(torch.float64) / scale, back, atol=1e-5)
    value.sum().backward()
    assert tracked.grad is not None
    assert 0.1 < float(tracked.grad.norm()) < 100


def test_half_precision() -> None:
    x = low_rank((6, 7, 8), (2, 2, 2)).to(torch.bfloat16)
    found = tucker(x, ranks=2)
    assert found.value.dtype == torch.bfloat16
    error = (found.value.to(torch.float32).to_dense() - x.float()).norm() / x.float().norm()
    assert found.relative_error == pytest.approx(float(error), rel=1e-5)
    assert found.relative_error < 0.03
    twice = (found.value + found.value).round(tolerance=0.02)
    assert (twice.dtype, twice.ranks) == (torch.bfloat16, (2, 2, 2))
    assert float(found.value.norm()) == pytest.approx(1.0, abs=0.02)


def test_zero_vector_and_strided() -> None:
    zero = tucker(torch.zeros(3, 4, 5))
    assert (zero.value.ranks, zero.relative_error) == ((1, 1, 1), 0.0)
    assert torch.equal(tucker(torch.zeros(3, 4), ranks=2).value.to_dense(), torch.zeros(3, 4))
    vector = torch.randn(5)
    assert torch.allclose(tucker(vector).value.to_dense(), vector)
    x = torch.randn(8, 6, 10).permute(2, 0, 1)[::2]
    assert torch.allclose(tucker(x).value.to_dense(), x, atol=1e-13)
    one = torch.randn(1, 1, 1)
    assert torch.allclose(tucker(one, ranks=1).value.to_dense(), one)


@pytest.mark.parametrize("sweeps", [0, 2])
@pytest.mark.parametrize("ranks", [(2, 3, 2), (3, 2, 1), (3, 4, 3)])
def test_derivative(ranks: tuple[int, ...], sweeps: int) -> None:
    x = torch.randn(3, 4, 3, requires_grad=True)

    def dense(x: Tensor) -> Tensor:
        return tucker(x, ranks=ranks, sweeps=sweeps).value.to_dense()

    assert torch.autograd.gradcheck(dense, (x,), rtol=1e-6, atol=1e-8, fast_mode=True)


def test_derivative_of_the_error_alone() -> None:
    """At the best approximation the derivative of the squared error is twice the residual."""
    x = torch.randn(4, 3, 4, requires_grad=True)
    value = tucker(x, ranks=(2, 2, 2), sweeps=40).value
    residual = x - value.to_dense()
    residual.square().sum().backward()
    assert torch.allclose(x.grad, 2 * residual, atol=1e-6)  # type: ignore[arg-type]


def test_derivative_complex() -> None:
    x = torch.randn(3, 3, 4, dtype=torch.complex128, requires_grad=True)

    def dense(x: Tensor) -> Tensor:
        return tucker(x, ranks=2).value.to_dense()

    assert torch.autograd.gradcheck(dense, (x,), rtol=1e-6, atol=1e-8, fast_mode=True)


@pytest.mark.parametrize("degrees", [(2, 2, 2), (1, 1, 1), (1, 2, 1)])
def test_derivative_where_all_singular_values_are_equal(degrees: tuple[int, int, int]) -> None:
    """Unfoldings of a coupling tensor have one singular value, as often as there are rows."""
    x = e3nn.o3.wigner_3j(*degrees).to(torch.float64).requires_grad_()

    def dense(x: Tensor) -> Tensor:
        return tucker(x, ranks=largest_ranks(x.shape)).value.to_dense()

    assert torch.autograd.gradcheck(dense, (x,), rtol=1e-6, atol=1e-8, fast_mode=True)
    weights = torch.randn(x.shape)
    (gradient,) = torch.autograd.grad((weights * dense(x)).sum(), x)
    assert torch.allclose(gradient, weights, atol=1e-10)  # nothing is dropped: the identity


def test_derivative_of_superdiagonal_tensors() -> None:
    x = torch.zeros(4, 4, 4)
    for i, value in enumerate((2.0, 2.0, 2.0, 0.5)):
        x[i, i, i] = value
    x.requires_grad_()

    def dense(x: Tensor) -> Tensor:
        return tucker(x, ranks=3).value.to_dense()

    assert torch.autograd.gradcheck(dense, (x,), rtol=1e-6, atol=1e-8, fast_mode=True)


def test_no_derivative_where_the_cut_divides_equals() -> None:
    x = e3nn.o3.wigner_3j(2, 2, 2).to(torch.float64).requires_grad_()
    value = tucker(x, ranks=3).value
    with pytest.raises(ValueError, match="both sides of the cut at rank 3"):
        value.to_dense().sum().backward()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ranks": 0}, ValueError, r"ranks=...\)` must be at least 1. Got 0"),
        ({"ranks": (2, 0, 2)}, ValueError, r"ranks\[1\]=...\)` must be at least 1. Got 0"),
        ({"ranks": (4, 4, 5)}, ValueError, r"ranks\[0\]=...\)` must be at most 3, .*Got 4"),
        ({"ranks": 11}, ValueError, r"must be at most 5, .* for a tensor of shape \(3, 4, 5\)"),
        ({"ranks": (2, 2)}, ValueError, "one number, or 3 of them"),
        ({"ranks": (2, 2, 1.5)}, TypeError, "must be a whole number. Got 1.5"),
        ({"tolerance": -1e-3}, ValueError, "finite number of at least zero"),
        ({"tolerance": float("nan")}, ValueError, "finite number of at least zero"),
        ({"method": "hosvd"}, ValueError, "must be one of auto, gram, svd, randomized"),
        ({"sweeps": -1}, ValueError, "must be at least 0"),
    ],
)
def test_wrong_arguments(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tucker(torch.randn(3, 4, 5), **arguments)  # type: ignore[arg-type]


def test_wrong_tensors() -> None:
    with pytest.raises(ValueError, match=r"must be finite\. Got 1 NaN or infinite of 8"):
        tucker(torch.tensor([1.0, float("nan"), 2, 3, 4, 5, 6, 7]).reshape(2, 2, 2))
    with pytest.raises(ValueError, match=r"must be finite\. Got 1 NaN or infinite of 2"):
        tucker(torch.tensor([1.0, float("inf")]))
    with pytest.raises(ValueError, match="must not be empty"):
        tucker(torch.zeros(2, 0, 3))
    with pytest.raises(ValueError, match="at least 1 axes"):
        tucker(torch.tensor(1.0))
    with pytest.raises(TypeError, match="floating or complex numbers"):
        tucker(torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"must be a torch.Tensor. Got list"):
        tucker([[1.0]])  # type: ignore[arg-type]
