"""Laws of the sparse Clebsch-Gordan product."""

import pytest
import torch

from tensornet import so3
from tensornet.products import ClebschGordanProduct
from tensornet.products.coupling import block, coupling
from tensornet.testing.products import assert_product_contract


@pytest.mark.parametrize("weights", ["none", "shared", "separable", "path"])
def test_contract(weights: str) -> None:
    assert_product_contract(ClebschGordanProduct(1, weights))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("weights", ["shared", "separable", "path"])
def test_weights_of_a_layer_are_those_of_every_sample(weights: str, channels: int) -> None:
    product = ClebschGordanProduct(2, weights)
    x, y = torch.randn(2, 4, 9, 3), torch.randn(2, 4, 9, channels)
    w = torch.randn(product.weight_shape(3), requires_grad=True)
    out = product(x, y, w)
    each = w.detach().expand(2, 4, *w.shape).contiguous().requires_grad_()
    torch.testing.assert_close(out, product(x, y, each), rtol=0, atol=1e-13)
    (slope,) = torch.autograd.grad(out.square().sum(), w)
    (slopes,) = torch.autograd.grad(product(x, y, each).square().sum(), each)
    torch.testing.assert_close(slope, slopes.sum((0, 1)), rtol=1e-12, atol=1e-12)


def test_batches_broadcast_and_may_be_missing_or_empty() -> None:
    product = ClebschGordanProduct(1, "path")
    x, y, w = torch.randn(5, 1, 4, 3), torch.randn(2, 4, 3), torch.randn(5, 1, 5, 3)
    out = product(x, y, w)
    assert out.shape == (5, 2, 4, 3)
    torch.testing.assert_close(out[3, 1], product(x[3, 0], y[1], w[3, 0]), rtol=0, atol=1e-14)
    assert product(x[:0], y, w[:0]).shape == (0, 2, 4, 3)


@pytest.mark.parametrize("channels", [1, 2])
def test_high_degrees_path_by_path(channels: int) -> None:
    l_max = 6
    product = ClebschGordanProduct(l_max, "path")
    x, y = torch.randn(2, 49, 2), torch.randn(2, 49, channels)
    w = torch.randn(len(product.paths()), 2)
    target, expected = coupling("clebsch_gordan", l_max), torch.zeros(2, 49, 2)
    for weight, path in zip(w, product.paths(), strict=True):
        i, j, k = block(path)
        pairs = x[:, i, None] * y[:, None, j]
        expected[:, k] += weight * torch.einsum("ijk,nijc->nkc", target[i, j, k], pairs)
    torch.testing.assert_close(product(x, y, w), expected, rtol=0, atol=1e-12)
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    D = so3.wigner_d(l_max, turn * torch.linalg.det(turn).sign())
    turned = product(D @ x, D @ y, w)
    torch.testing.assert_close(turned, D @ product(x, y, w), rtol=0, atol=1e-11)


def test_stores_only_what_is_not_zero() -> None:
    product = ClebschGordanProduct(4)
    assert len(product.values) == 2052
    torch.testing.assert_close(product.to_dense(), product.target(), rtol=0, atol=1e-15)
    assert len(ClebschGordanProduct(4, "path", odd_paths=False).values) == 1158


def test_cost_of_paths_is_that_of_their_blocks() -> None:
    """Each number of the coupling once, then cells that are not zero and weighted columns."""
    product = ClebschGordanProduct(1, "path", odd_paths=False)
    cells, columns = 1 + 3 + 3 + 3, 1 + 1 + 3 + 3
    assert product.cost(7, 5).multiplies == 7 * (10 + 5 * (cells + columns))
    assert ClebschGordanProduct(1).cost(7, 5).multiplies == 7 * (4**3 + 5 * 4**2)
