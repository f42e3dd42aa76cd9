"""Harmonics with e3nn's signature."""

from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor

from tensornet.interop.e3nn import SphericalHarmonics, spherical_harmonics

CHOICES = (
    0, 3, [1, 3, 2], [2], [0, 1, 2, 3, 4, 5], "0e+1o+2e", "2x0e+1e+2e", o3.Irreps("1o+3o"), 11,
    [2, 2, 0],
)  # fmt: skip


def assert_same(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    """Differ by less than the tolerance, times the size of the numbers."""
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= tolerance * float(a.abs().max())


@pytest.mark.parametrize("normalization", ["integral", "component", "norm"])
@pytest.mark.parametrize("normalize", [True, False])
def test_like_e3nn(normalize: bool, normalization: str) -> None:
    x = torch.randn(7, 2, 3)
    for l in CHOICES:
        module = SphericalHarmonics(l, normalize, normalization)
        theirs = o3.SphericalHarmonics(l, normalize, normalization)
        assert module.irreps_out == theirs.irreps_out
        assert module.irreps_in == theirs.irreps_in
        expected = theirs(x)
        assert_same(expected, module(x))
        assert_same(expected, spherical_harmonics(l, x, normalize, normalization))


def test_beyond_e3nn() -> None:
    x = torch.nn.functional.normalize(torch.randn(20, 3), dim=-1)
    y = spherical_harmonics(16, x, True, "component")
    assert y.shape == (20, 33)
    # the addition theorem: sums over orders are Legendre polynomials of the angle between
    cosine = x @ x.T
    legendre = [torch.ones_like(cosine), cosine]
    for l in range(1, 16):
        legendre.append(((2 * l + 1) * cosine * legendre[l] - l * legendre[l - 1]) / (l + 1))
    assert_same(33 * legendre[16], y @ y.T, 1e-11)
    assert_same(y * 8.0**16, spherical_harmonics(16, 8 * x, False, "component"), 1e-11)


def test_gradients_of_solid_harmonics_at_zero() -> None:
    zero = torch.zeros(1, 3)

    def slopes(function: Any) -> Tensor:
        made: Tensor = torch.autograd.functional.jacobian(
            lambda x: function([0, 1, 2], x, False), zero
        )
        return made

    assert_same(slopes(o3.spherical_harmonics), slopes(spherical_harmonics))


def test_gradients() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    for normalize in (True, False):

        def of(x: Tensor, normalize: bool = normalize) -> Tensor:
            return spherical_harmonics([1, 3], x, normalize)

        assert torch.autograd.gradcheck(of, x, rtol=1e-6, atol=1e-8)
        assert torch.autograd.gradgradcheck(of, x, rtol=1e-6, atol=1e-8)


def test_zero_vectors_and_no_vectors() -> None:
    assert_same(
        torch.tensor([[0.5 / torch.pi**0.5, 0.0, 0.0, 0.0]]),
        spherical_harmonics([0, 1], torch.zeros(1, 3), True),
    )
    for normalize in (True, False):
        assert spherical_harmonics("1o", torch.zeros(0, 3), normalize).shape == (0, 3)


def test_bad_arguments() -> None:
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"normalization=.* one of component, integral, norm"):
        spherical_harmonics(1, x, True, "none")
    with pytest.raises(ValueError, match="parity -1 at degree 1"):
        SphericalHarmonics("0e+1e", True, irreps_in="1o")
    with pytest.raises(ValueError, match="parity 1 at degree 2"):
        spherical_harmonics("2o", x, True)
    with pytest.raises(ValueError, match=r"irreps_in=.* must be 1o or 1e\. Got 2e\."):
        SphericalHarmonics("1o", True, irreps_in="2e")
    with pytest.raises(ValueError, match=r"irreps_out=.* must be at least 0\. Got -1\."):
        spherical_harmonics([0, -1], x, True)
    with pytest.raises(ValueError, match="must name a degree"):
        spherical_harmonics([], x, True)
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., 3\)"):
        spherical_harmonics(1, x[:, 1:], True)
    for normalize in (True, False):
        with pytest.raises(TypeError, match=r"SphericalHarmonics\(x=.* floating"):
            spherical_harmonics(1, torch.ones(2, 3, dtype=torch.int64), normalize)
