"""The Tucker format's own laws; what all formats share is in the contract of formats."""

import pytest
import tensorly
import torch
from tensorly.tucker_tensor import tucker_to_tensor
from torch import Tensor

from tensornet.formats import Tucker
from tensornet.formats.tucker import largest_ranks

DTYPES = [torch.float64, torch.complex128]


def draw(
    shape: tuple[int, ...] = (5, 4, 6),
    ranks: tuple[int, ...] = (2, 3, 2),
    dtype: torch.dtype = torch.float64,
) -> Tucker:
    factors = [torch.randn(d, r, dtype=dtype) for d, r in zip(shape, ranks, strict=True)]
    return Tucker(torch.randn(ranks, dtype=dtype), tuple(factors))


@pytest.mark.parametrize("dtype", DTYPES)
def test_is_its_definition(dtype: torch.dtype) -> None:
    x = draw(dtype=dtype)
    expected = torch.einsum("abc,ia,jb,kc->ijk", x.core, *x.factors)
    assert torch.allclose(x.to_dense(), expected, atol=1e-12)
    assert (x.shape, x.ranks, x.n_parameters) == ((5, 4, 6), (2, 3, 2), 12 + 10 + 12 + 12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_any_order(order: int, dtype: torch.dtype) -> None:
    x = draw((3, 4, 2, 3)[:order], (2, 3, 4, 1)[:order], dtype)
    y = draw((3, 4, 2, 3)[:order], (1, 2, 1, 2)[:order], dtype)
    dense, other = x.to_dense(), y.to_dense()
    assert torch.allclose((x + y).to_dense(), dense + other, atol=1e-12)
    assert torch.allclose((x * y).to_dense(), dense * other, atol=1e-12)
    assert torch.allclose(x.inner(y), torch.vdot(dense.flatten(), other.flatten()), atol=1e-11)
    assert torch.allclose(x.inner(other), x.inner(y), atol=1e-11)
    assert torch.allclose(x.norm(), torch.linalg.vector_norm(dense), atol=1e-12)
    rounded = x.round()
    assert torch.allclose(rounded.to_dense(), dense, atol=1e-12)
    assert all(r <= top for r, top in zip(rounded.ranks, largest_ranks(x.shape), strict=True))


def test_entries_and_slices() -> None:
    x = draw((5, 4, 6, 3), (2, 3, 2, 2))
    dense = x.to_dense()
    for index in (
        (1,), (slice(1, 4), ..., 2), (..., -1, slice(None, None, 2)), (0, slice(2), 4, slice(1, 2)),
        (slice(None), 3), (...,), (torch.tensor(2), ..., 1),
    ):  # fmt: skip
        found = x[index]
        assert found.shape == dense[index].shape
        assert torch.allclose(found.to_dense(), dense[index], atol=1e-12)
    assert torch.allclose(x[1, 2, 3, -1], dense[1, 2, 3, 2], atol=1e-12)
    many = tuple(torch.randint(-d, d, (2, 7)) for d in x.shape)
    assert torch.allclose(x[many], dense[many], atol=1e-12)
    assert x[many].shape == (2, 7)


def test_norm_of_a_small_difference() -> None:
    x = draw()
    shift = 1e-12 * x.core / x.core.norm()
    expected = float(Tucker(shift, x.factors).norm())
    found = float((Tucker(x.core + shift, x.factors) - x).norm())
    assert abs(found / expected - 1) < 1e-2
    assert float((x - x).norm()) < 1e-14 * float(x.norm())


def test_derivative_of_the_norm_with_dependent_columns() -> None:
    def norm(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return Tucker(core, (torch.cat([a, a], 1), b)).norm()

    parts = [torch.randn(s, requires_grad=True) for s in ((4, 3), (5, 2), (2, 3))]
    assert torch.autograd.gradcheck(norm, parts, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(norm, parts, rtol=1e-6, atol=1e-8)
    zero = Tucker(torch.zeros(2, 2, requires_grad=True), (torch.ones(3, 2), torch.ones(3, 2)))
    zero.norm().backward()
    assert zero.core.grad is not None
    assert torch.equal(zero.core.grad, torch.zeros(2, 2))


def test_mode_product() -> None:
    x, matrix = draw(), torch.randn(7, 4)
    found = x.mode_product(matrix, 1)
    assert torch.allclose(found.to_dense(), torch.einsum("ijk,mj->imk", x.to_dense(), matrix))
    assert torch.equal(x.mode_product(matrix, -2).factors[1], found.factors[1])
    with pytest.raises(ValueError, match=r"shape \(r, 5\), with the size of mode 0"):
        x.mode_product(matrix, 0)
    with pytest.raises(ValueError, match=r"mode of a tensor of order 3\. Got 3"):
        x.mode_product(matrix, 3)
    with pytest.raises(TypeError, match=r"dtype torch.float64 of `core`. Got torch.float32"):
        x.mode_product(matrix.float(), 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-9, 1e-13])
def test_rounding_keeps_the_tolerance(tolerance: float, dtype: torch.dtype) -> None:
    terms = [draw((21, 20, 19), (2, 2, 2), dtype) * 10.0 ** (-2 * k) for k in range(7)]
    x = sum(terms[1:], start=terms[0])
    cut = x.round(tolerance=tolerance)
    error = float((cut.to_dense() - x.to_dense()).norm() / x.norm())
    assert error <= 1.0001 * tolerance + 1e-15
    assert max(cut.ranks) <= 14
    again = cut.round(tolerance=1e-3 * tolerance)
    assert torch.allclose(again.to_dense(), cut.to_dense(), atol=float(2e-3 * tolerance * x.norm()))
    for factor in cut.factors:
        eye = torch.eye(factor.shape[1], dtype=dtype)
        assert torch.allclose(factor.mH @ factor, eye, atol=1e-13)


def test_rounding_undoes_sums_and_repeats_itself() -> None:
    x = draw()
    twice = (x + x).round()
    assert twice.ranks == x.ranks
    assert torch.allclose(twice.to_dense(), 2 * x.to_dense(), atol=1e-12)
    once = x.round(max_rank=2)
    assert torch.allclose(once.round(max_rank=2).to_dense(), once.to_dense(), atol=1e-12)
    zero = Tucker(torch.zeros_like(x.core), x.factors).round()
    assert zero.ranks == (1, 1, 1)
    assert float(zero.norm()) == 0


def test_derivative_of_rounding_with_dependent_columns() -> None:
    def rounded(core: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return Tucker(core, (a, torch.cat([b, b], 1), c)).round(max_rank=2).to_dense()

    shapes = ((3, 4, 2), (5, 3), (4, 2), (3, 2))
    parts = [torch.randn(s, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(rounded, parts, rtol=1e-6, atol=1e-8, fast_mode=True)


def test_numbers_scale_and_promote() -> None:
    x = draw()
    assert torch.allclose((x * 2j).to_dense(), x.to_dense() * 2j)
    assert (x * 2j).dtype == torch.complex128
    single = x.to(torch.float32)
    assert (single * torch.tensor(2.0, dtype=torch.float64)).dtype == torch.float32
    with pytest.raises(TypeError):
        x * [1.0]  # type: ignore[operator]


@pytest.mark.parametrize("backend", ["pytorch", "numpy"])
def test_tensorly_both_ways(backend: str) -> None:
    x = draw()
    before = tensorly.get_backend()
    tensorly.set_backend(backend)
    try:
        theirs = x.to_tensorly()
        assert torch.allclose(torch.as_tensor(tucker_to_tensor(theirs)), x.to_dense(), atol=1e-12)
        back = Tucker.from_tensorly(theirs)
    finally:
        tensorly.set_backend(before)
    assert all(torch.equal(a, b) for a, b in zip(back.factors, x.factors, strict=True))
    assert torch.equal(back.core, x.core)


def test_wrong_parts_are_refused() -> None:
    core, factor = torch.ones(2, 2), torch.ones(3, 2)
    with pytest.raises(ValueError, match="one axis per factor, and at least one"):
        Tucker(core, (factor,))
    with pytest.raises(ValueError, match="one axis per factor, and at least one"):
        Tucker(torch.ones(()), ())
    with pytest.raises(ValueError, match=r"factors\[1\].*shape \(d1, 2\).*Got \(3, 1\)"):
        Tucker(core, (factor, torch.ones(3, 1)))
    with pytest.raises(ValueError, match=r"factors\[0\].*must not be empty"):
        Tucker(core, (torch.ones(0, 2), factor))
    with pytest.raises(TypeError, match=r"dtype torch.float64 of `core`. Got torch.float32"):
        Tucker(core, (factor, factor.float()))
    with pytest.raises(TypeError, match="floating or complex"):
        Tucker(core.long(), (factor.long(), factor.long()))
    x = Tucker(core, (factor, factor))
    with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
        x.inner(torch.ones(3, 4))
    with pytest.raises(ValueError, match="must be at least 1"):
        x.round(max_rank=0)
    with pytest.raises(ValueError, match="finite number of at least zero"):
        x.round(tolerance=-1.0)
    with pytest.raises(ValueError, match=r"Tucker.round\(core=...\)` must be finite"):
        Tucker(core * torch.nan, (factor, factor)).round()
