"""Laws of Gaunt products, in every method."""

import copy
import math

import pytest
import torch

from tensornet import so3
from tensornet.products import GauntProduct
from tensornet.products.coupling import coupling
from tensornet.products.gaunt import METHODS
from tensornet.testing.products import assert_equivariant, assert_product_contract

WAYS = [m for m in METHODS if m != "auto"]


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("l_max", [0, 1, 2])
def test_contract(l_max: int, method: str, odd: bool) -> None:
    weights = ("none", "shared", "separable")[(l_max + METHODS.index(method)) % 3]
    assert_product_contract(GauntProduct(l_max, method, odd, path_weights=weights))


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("method", WAYS)
@pytest.mark.parametrize("l_max", [*range(9)])
def test_exact_at_every_degree(l_max: int, method: str, odd: bool) -> None:
    product = GauntProduct(l_max, method, odd)
    target = product.target()
    assert float((product.to_dense() - target).norm() / target.norm()) < 1e-14
    x, y = torch.randn(2, product.dim, 3), torch.randn(2, product.dim, 3)
    expected = torch.einsum("ijk,nic,njc->nkc", target, x, y)
    assert float((product(x, y) - expected).norm() / expected.norm()) < 1e-13


@pytest.mark.parametrize("method", WAYS)
def test_multiplies_functions(method: str) -> None:
    """The product of functions of degrees one and two has degree three, so nothing is cut."""
    product = GauntProduct(3, method)
    x, y = torch.randn(16, 1), torch.randn(16, 1)
    x[4:], y[9:] = 0, 0
    Y = so3.spherical_harmonics(torch.randn(30, 3), 3, normalization="integral")
    torch.testing.assert_close(Y @ product(x, y), (Y @ x) * (Y @ y), rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", WAYS)
def test_bracket_is_antisymmetric(method: str) -> None:
    product = GauntProduct(3, method, odd_paths=True)
    x, y = torch.randn(5, 16, 2), torch.randn(5, 16, 2)
    even = GauntProduct(3, method)(x, y)
    torch.testing.assert_close((product(x, y) + product(y, x)) / 2, even, rtol=0, atol=1e-12)
    odd = torch.einsum("ijk,nic,njc->nkc", coupling("poisson", 3), x, y)
    torch.testing.assert_close((product(x, y) - product(y, x)) / 2, odd, rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", WAYS)
def test_float32_and_back(method: str) -> None:
    product = GauntProduct(4, method, odd_paths=True).float()
    target = product.target()
    x, y = torch.randn(6, 25, 3), torch.randn(6, 25, 1)
    expected = torch.einsum("ijk,nic,njb->nkc", target, x, y)
    out = product(x.float(), y.float())
    assert out.dtype == torch.float32
    assert float((out - expected).norm() / expected.norm()) < 2e-6
    out = product.double()(x, y)  # constants are the float64 ones again
    assert float((out - expected).norm() / expected.norm()) < 1e-13


def test_inversion_decides_what_is_odd() -> None:
    assert_equivariant(GauntProduct(2, "grid"), 2, inversion=True)
    with pytest.raises(AssertionError, match="inversion"):
        assert_equivariant(GauntProduct(2, "grid", odd_paths=True), 2, inversion=True)


def test_one_channel_and_many_may_take_other_methods() -> None:
    product = GauntProduct(4)
    assert len({*product.methods}) == 3, product.methods
    x, y = torch.randn(3, 25, 2), torch.randn(3, 25, 1)
    expected = product(x, y)
    other = product(x, y.expand(3, 25, 2))
    torch.testing.assert_close(expected, other, rtol=0, atol=1e-13)
    torch.testing.assert_close(expected[..., :1], product(x[..., :1], y), rtol=0, atol=1e-13)
    apart = product.multiply(x[..., :1], product.prepare(y), None)  # as layers do
    torch.testing.assert_close(expected[..., :1], apart, rtol=0, atol=1e-13)


def test_auto_multiplies_less_than_the_definition() -> None:
    auto, dense = GauntProduct(10), GauntProduct(10, "dense")
    assert 5 * auto.cost(10, 64).multiplies < dense.cost(10, 64).multiplies


def test_counts_of_the_sparse_method() -> None:
    """Two multiplications per number that is not zero."""
    assert int((coupling("gaunt", 1).abs() > 1e-12).sum()) == 10
    assert GauntProduct(1, "sparse").cost(3, 7).multiplies == 3 * 7 * 2 * 10


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_inputs_of_any_stride_and_copies(method: str, odd: bool) -> None:
    product = GauntProduct(2, method, odd)
    x, y = torch.randn(3, 5, 9).mT, torch.randn(4, 9, 6)[1:, :, ::6]
    expected = product(x.contiguous(), y.contiguous())
    torch.testing.assert_close(product(x, y), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(copy.deepcopy(product)(x, y), expected, rtol=0, atol=1e-13)
    assert not product.state_dict()
    out = product(x[0], y)  # batches broadcast
    torch.testing.assert_close(out[0], expected[0], rtol=0, atol=1e-13)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"method=...\)` must be one of"):
        GauntProduct(2, "lebedev")
    with pytest.raises(ValueError, match="has no paths"):
        GauntProduct(2, path_weights="path")
    with pytest.raises(ValueError, match="at least 0"):
        GauntProduct(-1)
    with pytest.raises(ValueError, match="must have shape"):
        GauntProduct(2)(torch.randn(3, 4, 2), torch.randn(3, 9, 1))
    assert math.isnan(GauntProduct(1, "fourier")(torch.full((4, 1), math.nan), torch.ones(4, 1))[0])
