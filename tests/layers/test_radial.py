import math

import pytest
import torch
from scipy.special import spherical_jn
from torch import Tensor

from tensornet.layers import BesselBasis, GaussianBasis, polynomial_envelope


@pytest.mark.parametrize("power", [1, 2, 6, 9])
def test_envelope_is_the_polynomial_with_a_fourfold_zero(power: int) -> None:
    p = power
    a, b = (p + 1) * (p + 2) * (p + 3) / 6, p * (p + 2) * (p + 3) / 2
    c, d = p * (p + 1) * (p + 3) / 2, p * (p + 1) * (p + 2) / 6
    x = torch.linspace(0, 1, 101)
    expected = 1 - x**p * (a - x * (b - x * (c - x * d)))
    torch.testing.assert_close(polynomial_envelope(x, p), expected, rtol=0, atol=1e-12)
    assert not polynomial_envelope(torch.tensor([1.0, 1.5, 1e30]), p).any()


def test_three_derivatives_vanish_at_the_cutoff() -> None:
    x = torch.tensor(1 - 1e-9, requires_grad=True)
    y = polynomial_envelope(x)
    for _ in range(3):
        (y,) = torch.autograd.grad(y, x, create_graph=True)
        assert y.detach().abs() < 1e-5


def test_what_is_not_a_number_stays_so() -> None:
    x = torch.tensor([0.5, torch.nan, 1.0, torch.inf])
    out = polynomial_envelope(x)
    assert out.isnan().tolist() == [False, True, False, False]
    assert out[2:].tolist() == [0.0, 0.0]


def test_keeps_its_digits_in_float32() -> None:
    x = torch.linspace(0.9, 1, 200)
    low = polynomial_envelope(x.float()).double()
    torch.testing.assert_close(low, polynomial_envelope(x.float().double()), rtol=2e-6, atol=1e-30)


def test_bessel_is_scipys() -> None:
    x = torch.rand(20) + 1e-3
    for k, column in enumerate(BesselBasis(5)(x).T, start=1):
        expected = math.sqrt(2) * k * math.pi * spherical_jn(0, k * math.pi * x.numpy())
        torch.testing.assert_close(column, torch.from_numpy(expected), rtol=1e-11, atol=1e-12)


def test_bessel_functions_are_orthonormal_in_a_ball() -> None:
    x = torch.linspace(0, 1, 20001)[1:]
    values = BesselBasis(4)(x)
    gram = torch.trapezoid(values[:, :, None] * values[:, None] * x[:, None, None] ** 2, x, dim=0)
    torch.testing.assert_close(gram, torch.eye(4), rtol=0, atol=1e-6)


def test_bessel_functions_that_decay_have_slopes_of_one_size() -> None:
    x = torch.linspace(0, 1, 20001)[1:].requires_grad_()
    plain, decayed = BesselBasis(4)(x), BesselBasis(4, 1.0)(x)
    ratio = (decayed / plain)[100]
    expected = 1 / torch.arange(1, 5)
    torch.testing.assert_close(ratio / ratio[0], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(ratio.square().sum(), torch.tensor(4.0), rtol=1e-12, atol=0)
    for column in (x[:, None] * decayed).T:  # a sine: its largest slope is at the origin
        (slope,) = torch.autograd.grad(column.sum(), x, retain_graph=True)
        assert float(slope.abs().max()) == pytest.approx(
            math.pi * math.sqrt(2) * float(ratio[0].detach()), rel=1e-6
        )


@pytest.mark.parametrize("basis", [BesselBasis(4), BesselBasis(4, 1.0), GaussianBasis(4)])
def test_gradients_to_second_order(basis: torch.nn.Module) -> None:
    basis = basis.double()
    x = torch.tensor([0.1, 0.5, 0.95], requires_grad=True)

    def function(x: Tensor) -> Tensor:
        out: Tensor = basis(x) * polynomial_envelope(x)[:, None]
        return out

    assert torch.autograd.gradcheck(function, x, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(function, x, rtol=1e-6, atol=1e-8)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BesselBasis(0)
    with pytest.raises(ValueError, match="must be a finite number of at least zero"):
        BesselBasis(3, -1.0)
    with pytest.raises(ValueError, match="at least 1"):
        polynomial_envelope(torch.ones(1), 0)
