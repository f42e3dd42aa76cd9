import pytest
import tensorly
import torch

from tensornet.formats import CP, cp
from tensornet.products.coupling import coupling, even_part


def random_cp(shape: tuple[int, ...], rank: int, seed: int = 20260) -> CP:
    g = torch.Generator().manual_seed(seed)
    return CP(tuple(torch.randn(d, rank, generator=g) for d in shape))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5), (2, 3, 4, 5)])
def test_dense_and_norm_agree_with_tensorly(shape: tuple[int, ...]) -> None:
    tensorly.set_backend("pytorch")
    weights = torch.rand(3)
    value = CP(random_cp(shape, 3).factors, weights)
    if len(shape) > 1:
        expected = tensorly.cp_to_tensor((weights, list(value.factors)))
        torch.testing.assert_close(value.to_dense(), expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(value.norm(), value.to_dense().norm(), rtol=1e-12, atol=0)
    assert value.shape == shape
    assert value.order == len(shape)
    assert value.rank == 3
    assert value.n_parameters == 3 * sum(shape) + 3


@pytest.mark.parametrize("method", ["auto", "als", "lm"])
def test_finds_an_exact_rank(method: str) -> None:
    x = random_cp((4, 5, 6), 3).to_dense()
    result = cp(x, 3, method=method, tolerance=1e-9, max_iterations=2000)
    assert result.converged, result.message
    measured = float((result.value.to_dense() - x).norm() / x.norm())
    assert measured == pytest.approx(result.relative_error, rel=1e-3, abs=1e-15)
    assert measured <= 1e-9


def test_order_four_and_matrices() -> None:
    x = random_cp((3, 2, 4, 3), 2).to_dense()
    assert cp(x, 2, tolerance=1e-9).converged
    matrix = torch.randn(5, 4)
    assert cp(matrix, 4, tolerance=1e-9).converged


def test_error_is_the_best_at_rank_one_of_a_matrix() -> None:
    """Eckart-Young: the certified error equals that of the truncated SVD."""
    matrix = torch.randn(6, 5)
    s = torch.linalg.svdvals(matrix)
    expected = float(s[1:].norm() / s.norm())
    result = cp(matrix, 1, max_iterations=3000)
    assert result.relative_error == pytest.approx(expected, rel=1e-6)
    assert result.converged
    assert "no longer falls: a higher rank" in result.message


@pytest.mark.parametrize(("l_max", "odd", "rank"), [(1, True, 8), (1, False, 6), (2, False, 18)])
def test_exact_ranks_of_couplings(l_max: int, odd: bool, rank: int) -> None:
    x = coupling("clebsch_gordan", l_max)
    x = x if odd else even_part(x)
    errors = (
        cp(x, rank, tolerance=1e-14, max_iterations=300, seed=s).relative_error for s in range(4)
    )
    assert any(error < 1e-13 for error in errors)
    below = cp(x, rank - 2, tolerance=1e-14, method="als", max_iterations=200)
    assert below.relative_error > 1e-2


def test_same_seed_same_factors_and_dtype_kept() -> None:
    x = random_cp((3, 4, 5), 2).to_dense()
    a, b = cp(x, 2, seed=7).value, cp(x, 2, seed=7).value
    assert all(torch.equal(f, g) for f, g in zip(a.factors, b.factors, strict=True))
    single = cp(x.float(), 2)
    assert single.value.factors[0].dtype == torch.float32
    assert single.relative_error < 1e-6


def test_zero_tensor() -> None:
    result = cp(torch.zeros(2, 3, 4), 2)
    assert result.converged
    assert not result.value.to_dense().any()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="finite"):
        cp(torch.full((2, 2, 2), torch.nan), 1)
    with pytest.raises(ValueError, match="at least 2 axes"):
        cp(torch.ones(3), 1)
    with pytest.raises(ValueError, match="at least 1"):
        cp(torch.ones(2, 2), 0)
    with pytest.raises(ValueError, match="method"):
        cp(torch.ones(2, 2), 1, method="magic")
    with pytest.raises(ValueError, match=r"r = 2 as in `factors\[0\]`"):
        CP((torch.ones(3, 2), torch.ones(3, 4)))
    with pytest.raises(ValueError, match="weights"):
        CP((torch.ones(3, 2), torch.ones(3, 2)), torch.ones(3))
