"""From sums of outer products to the Tucker format, against the route over the dense tensor."""

import pytest
import torch
from torch import Tensor

from tensornet.formats import CP, tucker
from tensornet.formats import tucker_canonical as canonical


def draw(shape: tuple[int, ...], rank: int, decay: float = 1.0) -> CP:
    factors = tuple(torch.randn(d, rank) for d in shape)
    return CP(factors, torch.randn(rank) * decay ** torch.arange(float(rank)))


def gaussians(n_centres: int, m: int) -> CP:
    """Charges of both signs, each a sum of three Gaussians, on a Chebyshev grid."""
    x = torch.cos(torch.pi * (torch.arange(m) + 0.5) / m)
    centres = 1.4 * torch.rand(n_centres, 3) - 0.7
    widths = torch.tensor([1.0, 2.0, 4.0])
    factors = [
        torch.exp(-((widths * (x[:, None, None] - centres[None, :, k, None])) ** 2)).flatten(1)
        for k in range(3)
    ]
    charges = torch.where(torch.rand(n_centres) < 0.5, -1.0, 1.0)
    return CP(tuple(factors), charges.repeat_interleave(3))


def true_error(x: Tensor, value: object) -> float:
    return float((value.to_dense() - x).norm() / x.norm())  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(7, 9, 8), (12, 5), (4, 3, 5, 4), (6,)], ids=str)
@pytest.mark.parametrize("rank", [1, 3, 40])
@pytest.mark.parametrize("wanted", [{"ranks": 2}, {"tolerance": 0.2}, {"tolerance": 1e-9}, {}])
def test_as_good_as_the_dense_route(
    shape: tuple[int, ...], rank: int, wanted: dict[str, float]
) -> None:
    x = draw(shape, rank)
    dense = x.to_dense()
    if len(shape) == 1 and "ranks" in wanted:
        wanted = {"ranks": 1}
    found = tucker(x, **wanted)  # type: ignore[arg-type]
    over = tucker(dense, **wanted)  # type: ignore[arg-type]
    error = true_error(dense, found.value)
    assert error <= 1.3 * over.relative_error + 1e-13
    assert error <= wanted.get("tolerance", 1.0)
    assert max(found.value.ranks) <= max(over.value.ranks) + 1
    assert 0.5 <= (error + 2e-14) / (found.relative_error + 2e-14) <= 1.0001
    for factor in found.value.factors:
        assert torch.allclose(factor.mT @ factor, torch.eye(factor.shape[1]), atol=1e-13)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
def test_tolerance_is_kept_with_charges_of_both_signs(tolerance: float) -> None:
    x = gaussians(60, 30)
    dense = x.to_dense()
    found = tucker(x, tolerance=tolerance)
    error = true_error(dense, found.value)
    assert error <= tolerance
    assert found.converged
    assert 0.5 <= error / found.relative_error <= 1.0001
    best = tucker(dense, tolerance=tolerance).value.ranks
    assert all(r <= b + 1 for r, b in zip(found.value.ranks, best, strict=True))


def test_weights_matter() -> None:
    """A large weight on a short column, and a small one on a long column, say the same term."""
    x = draw((8, 9, 7), 5)
    assert x.weights is not None
    scaled = CP(
        (x.factors[0] * 1e6, x.factors[1] * torch.logspace(-9, 9, 5), x.factors[2]),
        x.weights / torch.logspace(-9, 9, 5) / 1e6,
    )
    a, b = (tucker(y, tolerance=1e-3) for y in (x, scaled))
    assert a.value.ranks == b.value.ranks
    assert torch.allclose(a.value.to_dense(), b.value.to_dense(), atol=1e-9)
    plain = CP(tuple(f * (x.weights if k == 0 else 1) for k, f in enumerate(x.factors)))
    assert torch.allclose(tucker(plain).value.to_dense(), x.to_dense(), atol=1e-11)


def test_no_overflow_between_factors() -> None:
    x = draw((4, 5, 6), 3)
    large = CP((x.factors[0] * 1e200, x.factors[1] * 1e150, x.factors[2] * 1e-300), x.weights)
    found = tucker(large, tolerance=1e-10).value
    expected = x.to_dense()
    assert torch.allclose(found.to_dense() / 1e50, expected, rtol=1e-9, atol=1e-9)


def test_cancelling_terms_keep_the_tolerance() -> None:
    """Two terms of a million times the norm of their sum."""
    a, b = draw((9, 8, 7), 4), draw((9, 8, 7), 1)
    assert a.weights is not None
    assert b.weights is not None
    factors = tuple(torch.cat([f, g, g], 1) for f, g in zip(a.factors, b.factors, strict=True))
    x = CP(factors, torch.cat([a.weights, 1e6 * b.weights, -1e6 * b.weights]))
    dense = a.to_dense()
    for tolerance in (1e-1, 1e-3, 1e-6):
        found = tucker(x, tolerance=tolerance)
        assert true_error(dense, found.value) <= 1.001 * tolerance
        assert found.converged


def test_many_terms_are_bounded_from_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "_MANY_TERMS", 10)
    monkeypatch.setattr(canonical, "_BLOCK", 500)
    x = gaussians(60, 20)
    dense = x.to_dense()
    for wanted in ({"tolerance": 1e-3}, {"tolerance": 1e-8}, {"ranks": 4}):
        found = tucker(x, **wanted)
        true, bound = true_error(dense, found.value), found.relative_error
        assert true <= 1.0001 * bound
        assert 0.5 * bound <= true or bound < 1e-13  # rounding
    low = CP(tuple(f.repeat(1, 20) for f in draw((30, 30, 30), 2).factors))
    found = tucker(low, tolerance=1e-4)
    assert found.value.ranks == (2, 2, 2)
    assert true_error(low.to_dense(), found.value) <= found.relative_error <= 1e-4


def test_sweeps_improve() -> None:
    x = draw((8, 9, 7), 30)
    errors = [tucker(x, ranks=(3, 2, 3), sweeps=s).relative_error for s in (0, 1, 10)]
    assert errors[2] < errors[1] < errors[0]
    value = tucker(x, ranks=(3, 2, 3), sweeps=10).value
    assert true_error(x.to_dense(), value) == pytest.approx(errors[2])


@pytest.mark.parametrize("sweeps", [0, 1])
@pytest.mark.parametrize("dependent", [False, True])
def test_derivative(dependent: bool, sweeps: int) -> None:
    def dense(a: Tensor, b: Tensor, c: Tensor, w: Tensor) -> Tensor:
        a = torch.cat([a, a], 1) if dependent else a
        return tucker(CP((a, b, c), w), ranks=(2, 3, 2), sweeps=sweeps).value.to_dense()

    shapes = ((4, 2 if dependent else 4), (5, 4), (3, 4), (4,))
    parts = [torch.randn(s, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(dense, parts, rtol=1e-6, atol=1e-8, fast_mode=True)


def test_derivative_is_that_of_the_dense_route() -> None:
    x = draw((6, 5, 7), 9)
    assert x.weights is not None
    weights = torch.randn(6, 5, 7)
    leaves = [part.detach().requires_grad_() for part in (*x.factors, x.weights)]
    value = CP(tuple(leaves[:-1]), leaves[-1])
    over = (tucker(value, ranks=3).value.to_dense() * weights).sum()
    dense = (tucker(value.to_dense(), ranks=3).value.to_dense() * weights).sum()
    pairs = zip(torch.autograd.grad(over, leaves), torch.autograd.grad(dense, leaves), strict=True)
    assert torch.allclose(over, dense, atol=1e-10)
    for one, other in pairs:
        assert torch.allclose(one, other, rtol=1e-7, atol=1e-8)


def test_single_precision_and_zero() -> None:
    x = CP(tuple(torch.randn(d, 3, dtype=torch.float32) for d in (6, 7, 8)))
    found = tucker(x, tolerance=1e-3)
    assert found.value.dtype == torch.float32
    assert true_error(x.to_dense(), found.value) <= 1e-3
    zero = tucker(CP(tuple(torch.zeros(d, 2) for d in (3, 4))))
    assert (zero.value.ranks, zero.relative_error) == ((1, 1), 0.0)
    assert torch.equal(zero.value.to_dense(), torch.zeros(3, 4))


def test_wrong_values() -> None:
    x = draw((3, 4, 5), 2)
    with pytest.raises(ValueError, match=r"ranks=...\)` must be at most 5"):
        tucker(x, ranks=6)
    bad = tuple(f.clone() for f in x.factors)
    bad[1][0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"x.factors\[1\]=...\)` must be finite"):
        tucker(CP(bad, x.weights))
