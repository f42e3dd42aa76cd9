"""Fits of CP: exact cases, laws, noise, and what has no answer."""

import pytest
import torch
from torch import Tensor

from tensornet.formats import CP, cp
from tensornet.formats.cp_data import Known, Whole
from tensornet.products.coupling import coupling, even_part
from tensornet.so3 import wigner_3j


def random_cp(shape: tuple[int, ...], rank: int) -> CP:
    return CP(tuple(torch.randn(d, rank) for d in shape))


def noisy(x: Tensor, noise: float) -> Tensor:
    extra = torch.randn_like(x)
    return x + extra * (noise * float(x.norm() / extra.norm()))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def collinear(size: int, rank: int, cosine: float) -> Tensor:
    gram = torch.full((rank, rank), cosine) + (1 - cosine) * torch.eye(rank)
    root = torch.linalg.cholesky(gram)
    bases = [torch.linalg.qr(torch.randn(size, rank)).Q for _ in range(3)]
    return CP(tuple(Q @ root.mT for Q in bases)).to_dense()


@pytest.mark.parametrize("method", ["auto", "als", "lm", "gevd"])
def test_finds_an_exact_rank(method: str) -> None:
    x = random_cp((4, 5, 6), 3).to_dense()
    result = cp(x, 3, method=method, tolerance=1e-9, max_iterations=2000)
    assert result.converged, result.message
    measured = float((result.value.to_dense() - x).norm() / x.norm())
    assert measured == pytest.approx(result.relative_error, rel=1e-3, abs=1e-15)
    assert measured <= 1e-9


def test_order_four_matrices_and_strides() -> None:
    x = random_cp((3, 2, 4, 3), 2).to_dense()
    assert cp(x, 2, tolerance=1e-9).relative_error < 1e-9
    assert cp(x.permute(3, 1, 0, 2), 2, tolerance=1e-9).relative_error < 1e-9
    assert cp(torch.randn(5, 4), 4, tolerance=1e-9).relative_error < 1e-9


def test_error_is_the_best_at_rank_one_of_a_matrix() -> None:
    """Eckart-Young: the certified error equals that of the truncated SVD."""
    matrix = torch.randn(6, 5)
    s = torch.linalg.svdvals(matrix)
    expected = float(s[1:].norm() / s.norm())
    result = cp(matrix, 1, max_iterations=3000)
    assert result.relative_error == pytest.approx(expected, rel=1e-9)
    assert result.converged
    assert "no longer falls: a higher rank" in result.message


def test_collinear_terms_without_noise_are_exact() -> None:
    result = cp(collinear(20, 6, 0.9), 6, method="gevd", tolerance=1e-11)
    assert result.converged
    assert result.relative_error < 1e-11


def test_collinear_terms_with_noise_reach_its_floor() -> None:
    """Where alternating least squares stalls at 4e-3."""
    x = noisy(collinear(20, 6, 0.9), 1e-4)
    result = cp(x, 6)
    assert result.relative_error < 1.0e-4
    assert result.converged
    assert result.n_iterations < 200


def test_noise_does_not_burn_iterations() -> None:
    x = noisy(random_cp((20, 21, 22), 3).to_dense(), 1e-3)
    for method in ("auto", "als", "lm"):
        result = cp(x, 3, method=method, tolerance=1e-12)
        assert result.relative_error < 1.0e-3
        assert result.n_iterations < 100, method
        assert result.converged
        assert "no longer falls" in result.message


def test_fit_is_stationary_on_the_whole_tensor() -> None:
    """Compression to the rank cuts a random tensor badly; the fit must go on outside of it."""
    x = torch.randn(9, 8, 7)
    result = cp(x, 2, tolerance=0.0)
    factors = [f.clone().requires_grad_() for f in result.value.factors]
    loss = (CP(tuple(factors)).to_dense() - x).square().sum()
    gradients = torch.autograd.grad(loss, factors)
    assert max(float(g.norm()) for g in gradients) < 2e-2 * float(x.norm())
    plain = cp(x, 2, method="als", max_iterations=3000, tolerance=0.0)
    assert result.relative_error < plain.relative_error * 1.02


@pytest.mark.parametrize(
    ("degrees", "rank"),
    [((1, 1, 0), 3), ((1, 1, 1), 5), ((1, 1, 2), 6), ((2, 2, 0), 5), ((1, 2, 2), 8)],
)
def test_ranks_of_wigner_3j(degrees: tuple[int, int, int], rank: int) -> None:
    x = wigner_3j(*degrees)
    assert cp(x, rank, tolerance=1e-12).relative_error < 1e-12
    assert cp(x, rank - 1, max_iterations=100).relative_error > 1e-2


def matrix_multiplication() -> Tensor:
    x = torch.zeros(2, 2, 2, 2, 2, 2)
    for i, j, k in torch.cartesian_prod(*[torch.arange(2)] * 3).tolist():
        x[i, j, j, k, k, i] = 1
    return x.reshape(4, 4, 4)


def test_strassen() -> None:
    x = matrix_multiplication()
    errors = [cp(x, 7, tolerance=1e-13, seed=s).relative_error for s in range(5)]
    assert sum(e < 1e-12 for e in errors) >= 4
    assert cp(x, 6, max_iterations=100).relative_error > 0.1


@pytest.mark.parametrize(("l_max", "odd", "rank"), [(1, True, 8), (1, False, 6), (2, True, 30)])
def test_exact_ranks_of_couplings(l_max: int, odd: bool, rank: int) -> None:
    x = coupling("clebsch_gordan", l_max)
    x = x if odd else even_part(x)
    assert cp(x, rank, tolerance=1e-13, max_iterations=300).relative_error < 1e-12
    below = cp(x, rank - 2, tolerance=1e-13, method="als", max_iterations=200)
    assert below.relative_error > 1e-2


def w_state() -> Tensor:
    x = torch.zeros(2, 2, 2)
    x[0, 0, 1] = x[0, 1, 0] = x[1, 0, 0] = 1
    return x


@pytest.mark.parametrize("method", ["auto", "als", "lm"])
def test_degenerate_tensor_is_said(method: str) -> None:
    """The W state has rank three and border rank two: no best approximation of rank two."""
    result = cp(w_state(), 2, method=method, max_iterations=300)
    assert not result.converged
    assert "Degenerate: the largest term is" in result.message
    assert cp(w_state(), 3, tolerance=1e-12).relative_error < 1e-12


def test_bounded_terms() -> None:
    x = w_state()
    result = cp(x, 2, max_term_norm=3.0, max_iterations=100)
    sizes = torch.stack([f.norm(dim=0) for f in result.value.factors]).prod(0) / x.norm()
    assert 1.0 < float(sizes.max()) <= 3.0
    assert 1e-3 < result.relative_error < 0.2
    free = random_cp((4, 5, 6), 2).to_dense()
    assert cp(free, 2, max_term_norm=100.0).relative_error < 1e-8


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_missing_entries_are_recovered(noise: float) -> None:
    exact = random_cp((9, 10, 11), 3).to_dense()
    mask = torch.rand(exact.shape) < 0.5
    x = torch.where(mask, noisy(exact, noise), torch.nan)
    result = cp(x, 3, mask=mask, tolerance=1e-10)
    found = result.value.to_dense()
    known = float((found - x)[mask].norm() / x[mask].norm())
    assert known == pytest.approx(result.relative_error, rel=1e-3, abs=1e-14)
    assert float((found - exact).norm() / exact.norm()) < max(1e-9, 1.2 * noise)
    assert result.converged
    everything = cp(exact, 3, mask=torch.ones_like(mask), tolerance=1e-10)
    assert everything.relative_error < 1e-10


def test_constraints_by_tensorly() -> None:
    x = CP(tuple(torch.rand(d, 2) for d in (5, 6, 7))).to_dense()
    result = cp(x, 2, constraints={"non_negative": True}, max_iterations=500)
    assert all(bool((f >= 0).all()) for f in result.value.factors)
    assert result.relative_error < 1e-2
    simplex = cp(x, 2, constraints={"l2_square_reg": 1e-3}, max_iterations=10)
    assert simplex.relative_error < 0.2
    with pytest.raises(ValueError, match="constraints"):
        cp(x, 2, constraints={"non_negative": True}, mask=x > 0)


def test_single_precision_is_kept() -> None:
    x = random_cp((3, 4, 5), 2).to_dense().float()
    result = cp(x, 2)
    assert result.value.dtype == torch.float32
    assert result.converged
    assert 0 < result.relative_error < 1e-6


def test_zero_tensor_and_tiny_and_huge_ones() -> None:
    result = cp(torch.zeros(2, 3, 4), 2)
    assert result.converged
    assert not result.value.to_dense().any()
    x = random_cp((3, 4, 5), 2).to_dense()
    for scale in (1e-200, 1e200):
        assert cp(scale * x, 2).relative_error < 1e-8


def test_bad_input() -> None:
    x = torch.ones(2, 2, 2)
    with pytest.raises(ValueError, match="finite"):
        cp(torch.full((2, 2, 2), torch.nan), 1)
    with pytest.raises(ValueError, match="at least 2 axes"):
        cp(torch.ones(3), 1)
    with pytest.raises(ValueError, match="empty"):
        cp(torch.ones(3, 0), 1)
    with pytest.raises(ValueError, match="at least 1"):
        cp(x, 0)
    with pytest.raises(ValueError, match=r"at most 4, at which every .* exact\. Got 5"):
        cp(x, 5)
    with pytest.raises(ValueError, match="method"):
        cp(x, 1, method="magic")
    with pytest.raises(ValueError, match="two modes of at least rank = 3"):
        cp(x, 3, method="gevd")
    with pytest.raises(ValueError, match="tolerance"):
        cp(x, 1, tolerance=-1.0)
    with pytest.raises(ValueError, match="max_term_norm"):
        cp(x, 1, max_term_norm=0.0)
    with pytest.raises(TypeError, match="real"):
        cp(x.to(torch.complex128), 1)
    with pytest.raises(TypeError, match="floating"):
        cp(x.long(), 1)
    with pytest.raises(NotImplementedError, match="require grad"):
        cp(x.clone().requires_grad_(), 1)
    with pytest.raises(TypeError, match="boolean"):
        cp(x, 1, mask=x)
    with pytest.raises(ValueError, match="as `x`"):
        cp(x, 1, mask=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="index 1 of mode 0"):
        cp(x, 1, mask=torch.tensor([True, False])[:, None, None].expand(2, 2, 2))
    with pytest.raises(TypeError, match="Got list"):
        cp([[1.0]], 1, mask=torch.ones(1, 1, dtype=torch.bool))  # type: ignore[arg-type]


def test_structured_systems_are_those_of_the_jacobian() -> None:
    factors = [torch.randn(d, 3) for d in (4, 5, 2, 3)]
    x = torch.randn(4, 5, 2, 3)

    def value(*f: Tensor) -> Tensor:
        return CP(f).to_dense().flatten()

    blocks = torch.autograd.functional.jacobian(value, tuple(factors))
    J = torch.cat([block.flatten(1) for block in blocks], 1)
    mask = torch.rand(x.shape) < 0.6
    whole, known = Whole(x), Known(x, mask)
    rows = J[mask.flatten()]
    close(whole.outer(factors), J @ J.mT)
    close(whole.normal(factors).tril(), (J.mT @ J).tril())
    close(known.normal(factors).tril(), (rows.mT @ rows).tril())
    pulled = torch.cat([p.flatten() for p in whole.pulled(x, factors)])
    close(pulled, J.mT @ x.flatten())
    pulled = torch.cat([p.flatten() for p in known.pulled(x[mask], factors)])
    close(pulled, rows.mT @ x[mask])
