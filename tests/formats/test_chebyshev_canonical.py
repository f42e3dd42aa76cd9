"""Sums of separable terms and of Gaussians in Chebyshev-Tucker form, and radial kernels."""

import math

import pytest
import torch
from torch import Tensor

from tensornet.formats import exponential_sum, from_separable, gaussian_sum

BOX = ((-1.0, 1.0), (-0.5, 1.5), (0.0, 2.0))


def inside(n: int) -> Tensor:
    ends = torch.tensor(BOX)
    return ends[:, 0] + (ends[:, 1] - ends[:, 0]) * torch.rand(n, 3)


def gaussians(n: int) -> tuple[Tensor, Tensor, Tensor]:
    centers = inside(n)
    centers[0] = torch.tensor([1.5, 0.0, 0.0])  # outside of the box
    return torch.randn(n), 20 * torch.rand(n), centers


def potential(x: Tensor, weights: Tensor, exponents: Tensor, centers: Tensor) -> Tensor:
    return torch.exp(-exponents * (x[:, None] - centers).square().sum(2)) @ weights


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-10])
def test_gaussians_to_the_tolerance(tolerance: float) -> None:
    terms, x = gaussians(40), inside(1000).requires_grad_()
    found = gaussian_sum(*terms, BOX, tolerance=tolerance)
    expected = potential(x, *terms)
    top = float(expected.detach().abs().max())
    assert float((found.value.value(x) - expected).detach().abs().max()) < 5 * tolerance * top
    assert found.truncation_error <= tolerance
    assert found.relative_error < 5 * tolerance
    assert all(r <= 40 for r in found.value.ranks)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    error = (found.value.gradient(x.detach()) - slope).abs().max() / slope.abs().max()
    assert float(error) < 200 * tolerance


def test_ranks_follow_the_tolerance() -> None:
    terms = gaussians(60)
    found = [gaussian_sum(*terms, box=BOX, tolerance=t) for t in (1e-2, 1e-5, 1e-8)]
    ranks = [max(each.value.ranks) for each in found]
    assert ranks == sorted(set(ranks))


def test_integral_is_that_of_error_functions() -> None:
    weights, exponents, centers = gaussians(7)
    found = gaussian_sum(weights, exponents, centers, BOX, tolerance=1e-11)
    expected = weights.clone()
    for k, (low, high) in enumerate(BOX):
        s = exponents.sqrt()
        ends = torch.erf(s * (high - centers[:, k])) - torch.erf(s * (low - centers[:, k]))
        expected = expected * math.sqrt(math.pi) / 2 / s * ends
    torch.testing.assert_close(found.value.integral(), expected.sum(), rtol=1e-9, atol=1e-10)


def test_derivatives_in_weights_and_centers() -> None:
    terms, x = gaussians(4), inside(5)
    args = [t.requires_grad_() for t in terms]
    value = gaussian_sum(args[0], args[1], args[2], BOX, tolerance=1e-12, degrees=40).value
    got = torch.autograd.grad(value.value(x).sum(), args)
    expected = torch.autograd.grad(potential(x, args[0], args[1], args[2]).sum(), args)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_degree_given_and_found() -> None:
    terms = gaussians(10)
    found = gaussian_sum(*terms, BOX, tolerance=1e-9)
    assert found.converged
    assert max(found.value.shape) < 65
    coarse = gaussian_sum(*terms, BOX, tolerance=1e-9, degrees=(8, 9, 10))
    assert coarse.value.shape == (9, 10, 11)
    assert not coarse.converged
    assert coarse.interpolation_error > 1e-6 > coarse.truncation_error
    assert "above the tolerance" in coarse.message


def test_separable_terms_of_any_kind() -> None:
    def side(x: Tensor) -> Tensor:
        return torch.stack([x.cos(), x.exp(), x**3], 1)

    found = from_separable([side, side], BOX[:2], tolerance=1e-11)
    x = inside(50)[:, :2]
    expected = (side(x[:, 0]) * side(x[:, 1])).sum(1)
    torch.testing.assert_close(found.value.value(x), expected, rtol=1e-9, atol=1e-9)
    assert found.value.ranks == (3, 3)
    assert found.converged


def test_weights_give_the_dtype_where_the_box_does_not() -> None:
    torch.set_default_dtype(torch.float32)
    side = lambda x: x[:, None]  # noqa: E731
    double = torch.ones(1, dtype=torch.float64)
    assert from_separable([side] * 2, BOX[:2], weights=double).value.dtype == torch.float64
    assert from_separable([side] * 2, BOX[:2]).value.dtype == torch.float32
    with pytest.raises(TypeError, match=r"sides\[0\]=...\)` must have the dtype torch.float32 of"):
        from_separable([lambda x: x[:, None].double()], BOX[:1])


def test_bad_terms() -> None:
    weights, exponents, centers = gaussians(3)
    with pytest.raises(ValueError, match=r"shape \(r, 3\), as the box"):
        gaussian_sum(weights, exponents, centers[:, :2], BOX)
    with pytest.raises(ValueError, match=r"gaussian_sum\(exponents=...\)` must be finite"):
        gaussian_sum(weights, exponents / 0, centers, BOX)
    with pytest.raises(ValueError, match=r"gaussian_sum\(weights=...\)` must be finite"):
        gaussian_sum(weights / 0, exponents, centers, BOX)
    with pytest.raises(ValueError, match=r"shape \(r\), with r = 3"):
        gaussian_sum(weights, exponents[:2], centers, BOX)
    with pytest.raises(ValueError, match="one function per side"):
        from_separable([torch.cos], BOX)
    with pytest.raises(ValueError, match=r"sides\[0\]=...\)` must give values of shape \(1, r\)"):
        from_separable([torch.cos], BOX[:1])
    with pytest.raises(ValueError, match="3 numbers"):
        gaussian_sum(weights, exponents, centers, BOX, degrees=(3, 4))


@pytest.mark.parametrize(
    ("kind", "screening", "power", "most"),
    [("coulomb", 0.0, 1, 30), ("yukawa", 3.0, 1, 30), ("dispersion", 0.0, 6, 48)],
)
def test_radial_kernels(kind: str, screening: float, power: int, most: int) -> None:
    s = exponential_sum(kind, 0.02, 2.0, tolerance=1e-7, screening=screening)
    r = 0.02 + 1.98 * torch.rand(2000) ** 2
    expected = torch.exp(-screening * r) / r**power
    error = float(((s.value(r) - expected) * r**power).abs().max())
    assert error < 1.05e-7
    assert error == pytest.approx(s.error, rel=0.2)
    assert len(s.weights) <= most
    assert bool((s.exponents.diff() > 0).all())


def test_coulomb_needs_no_more_terms_than_known() -> None:
    for n, most in ((256, 29), (1024, 35), (4096, 40)):
        assert len(exponential_sum("coulomb", 1 / n, 3**0.5, tolerance=1e-7).weights) <= most


def test_split_and_spread() -> None:
    s = exponential_sum("coulomb", 0.01, 2.0, tolerance=1e-5)
    smooth, sharp = s.split(30.0)
    r = torch.rand(20) + 0.1
    torch.testing.assert_close(smooth.value(r) + sharp.value(r), s.value(r))
    assert float(smooth.exponents.max()) <= 30 < float(sharp.exponents.min())
    charges, centers, x = torch.tensor([1.0, -2.0]), inside(2), inside(9)
    distances = (x[:, None] - centers).norm(dim=2)
    torch.testing.assert_close(
        potential(x, *smooth.about(charges, centers)), smooth.value(distances) @ charges
    )


def test_kernels_out_of_reach() -> None:
    with pytest.raises(ValueError, match="one of coulomb, yukawa, dispersion"):
        exponential_sum("slater", 0.1, 1.0)
    with pytest.raises(ValueError, match="0 < r_min < r_max"):
        exponential_sum("coulomb", 1.0, 0.1)
    with pytest.raises(ValueError, match="at least 1e-13"):
        exponential_sum("coulomb", 0.1, 1.0, tolerance=1e-14)
    with pytest.raises(ValueError, match="must be zero for coulomb"):
        exponential_sum("coulomb", 0.1, 1.0, screening=1.0)
