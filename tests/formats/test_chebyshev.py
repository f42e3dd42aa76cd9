"""Chebyshev series of one variable against numpy.polynomial.chebyshev."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from numpy.polynomial import chebyshev as oracle
from torch import Tensor

from tensornet.formats import chebyshev
from tensornet.formats.chebyshev_chop import chop


def close(got: Tensor, expected: npt.ArrayLike, atol: float = 1e-12) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected), rtol=1e-12, atol=atol)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 17, 65])
def test_coefficients_are_those_of_numpy(m: int) -> None:
    x = chebyshev.points(m)
    y = torch.exp(x) * torch.cos(5 * x)
    expected = np.linalg.solve(oracle.chebvander(x.numpy(), m - 1), y.numpy())
    close(chebyshev.to_coefficients(y), expected)
    close(chebyshev.to_values(chebyshev.to_coefficients(y)), y.numpy())


@pytest.mark.parametrize(("m", "r"), [(1, 1), (2, 3), (3, 1), (65, 24), (128, 2)])
def test_evaluation_is_that_of_numpy(m: int, r: int) -> None:
    x, c = 2 * torch.rand(3000) - 1, torch.randn(m, r)
    x[:2] = torch.tensor([-1.0, 1.0])
    close(chebyshev.evaluate(x, c), oracle.chebval(x.numpy(), c.numpy()).T, atol=1e-11)


@pytest.mark.parametrize("m", [1, 2, 3, 8, 31])
def test_calculus_is_that_of_numpy(m: int) -> None:
    c = torch.randn(m, 2)
    expected = oracle.chebder(c.numpy()) if m > 1 else np.zeros((1, 2))
    close(chebyshev.derivative(c), expected)
    ends = oracle.chebval(1.0, oracle.chebint(c.numpy(), lbnd=-1))
    close(chebyshev.integral(c), ends)
    vector = chebyshev.derivative(c[:, 0])
    close(vector, expected[:, 0])


def test_products_are_those_of_numpy() -> None:
    a, b = torch.randn(6, 2), torch.randn(3, 2)
    for i in range(2):
        for j in range(2):
            expected = oracle.chebmul(a[:, i].numpy(), b[:, j].numpy())
            close(chebyshev.product(a, b)[:, i, j], expected)


def test_points_are_nested_and_end_at_the_ends() -> None:
    fine, coarse = chebyshev.points(33, 0.1, 0.7), chebyshev.points(17, 0.1, 0.7)
    torch.testing.assert_close(fine[::2], coarse, rtol=0, atol=1e-16)
    assert (float(fine[0]), float(fine[-1])) == (0.7, 0.1)
    with pytest.raises(ValueError, match="at least 1"):
        chebyshev.points(0)


def test_restriction_keeps_the_polynomial() -> None:
    c, t = torch.randn(9, 2), 2 * torch.rand(20) - 1
    part = chebyshev.restrict(c, -0.2, 0.7)
    expected = chebyshev.evaluate(0.25 + 0.45 * t, c)
    torch.testing.assert_close(chebyshev.evaluate(t, part), expected, rtol=1e-12, atol=1e-12)


def test_derivatives_of_every_order() -> None:
    x, c = 2 * torch.rand(4) - 1, torch.randn(5, 2)
    args = (x.requires_grad_(), c.requires_grad_())
    assert torch.autograd.gradcheck(chebyshev.evaluate, args, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(chebyshev.evaluate, args, rtol=1e-6, atol=1e-8)
    for function in (chebyshev.derivative, chebyshev.integral):
        assert torch.autograd.gradcheck(function, (args[1],), rtol=1e-6, atol=1e-8)


def test_parseval() -> None:
    """The mean square over Gauss-Chebyshev nodes is the norm of the weighted coefficients."""
    c = torch.randn(12, 1)
    nodes = torch.cos(torch.pi * (2 * torch.arange(13) + 1) / 26)
    mean = chebyshev.evaluate(nodes, c).square().mean()
    norm = chebyshev.weighted(c, 2**0.5).square().sum() / 2
    torch.testing.assert_close(mean, norm)


def test_gaussians_at_six_and_a_half_points_per_width() -> None:
    """The number of coefficients that `gaussian_sum` names."""
    sigma = torch.tensor([0.1, 0.1, 0.2])
    centers = torch.tensor([0.7, 0.0, -1.2])
    nodes = chebyshev.points(65)[:, None]
    c = chebyshev.to_coefficients(torch.exp(-0.5 * ((nodes - centers) / sigma) ** 2))
    x = torch.linspace(-1, 1, 301)
    expected = torch.exp(-0.5 * ((x[:, None] - centers) / sigma) ** 2)
    error = float((chebyshev.evaluate(x, c) - expected).abs().max())
    assert error < 2e-9
    assert float((chebyshev.evaluate(x, c[:33]) - expected).abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("function", "tolerance", "low", "high"),
    [
        (lambda x: torch.exp(x), 1e-15, 13, 17),
        (lambda x: 1 / (1 + 25 * x * x), 1e-15, 160, 195),
        (lambda x: 1 / (1 + 25 * x * x), 1e-6, 60, 85),
        (lambda x: torch.exp(x) + 1e-11 * torch.sin(1e4 * x.cos()), 1e-15, 8, 20),
        (lambda x: 0 * x, 1e-15, 1, 1),
    ],
)
def test_chop_ends_at_the_plateau(function, tolerance: float, low: int, high: int) -> None:  # type: ignore[no-untyped-def]
    c = chebyshev.to_coefficients(function(chebyshev.points(257)))
    assert low <= chop(c, tolerance) <= high


def test_chop_says_that_a_series_is_not_resolved() -> None:
    for m in (9, 33, 65):
        c = chebyshev.to_coefficients(torch.abs(chebyshev.points(m) - 0.1))
        assert chop(c, 1e-12) == m
