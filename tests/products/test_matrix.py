"""Laws of the matrix product."""

import math

import pytest
import torch

from tensornet.products import MatrixProduct, coupling
from tensornet.products.coupling import block, even_part
from tensornet.testing.products import assert_product_contract


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("weights", ["none", "shared", "separable"])
@pytest.mark.parametrize("l_max", [0, 1, 2])
def test_contract(l_max: int, weights: str, odd: bool) -> None:
    assert_product_contract(MatrixProduct(l_max, weights, odd_paths=odd))


@pytest.mark.parametrize("l_max", range(9))
def test_exact_at_every_degree(l_max: int) -> None:
    x, y = torch.randn(2, (l_max + 1) ** 2, 3), torch.randn(2, (l_max + 1) ** 2, 3)
    for odd in (True, False):
        product = MatrixProduct(l_max, odd_paths=odd)
        target = coupling("matrix", l_max) if odd else even_part(coupling("matrix", l_max))
        assert float((product.to_dense() - target).norm() / target.norm()) < 1e-14
        expected = torch.einsum("ijk,nic,njc->nkc", target, x, y)
        assert float((product(x, y) - expected).norm() / expected.norm()) < 1e-13


@pytest.mark.parametrize("l_max", range(9))
def test_basis_is_orthonormal_and_as_sparse_as_known(l_max: int) -> None:
    product = MatrixProduct(l_max)
    eye = torch.eye(product.dim)
    torch.testing.assert_close(product.basis.mT @ product.basis, eye, rtol=0, atol=1e-14)
    nonzero = {2: 20, 3: 74, 4: 111, 5: 249, 6: 328, 8: 761}
    if l_max in nonzero:
        assert int((product.basis != 0).sum()) == nonzero[l_max]


def test_associative_where_nothing_is_cut() -> None:
    """At even degrees the matrices are all matrices, and those associate."""
    product = MatrixProduct(4)
    x, y, z = (torch.randn(3, 25, 2) for _ in range(3))
    left, right = product(product(x, y), z), product(x, product(y, z))
    torch.testing.assert_close(left, right, rtol=0, atol=1e-11)


def test_as_many_multiplications_as_published() -> None:
    for l_max, published in {2: 87, 3: 347, 4: 458, 5: 1090, 6: 1327, 8: 3012}.items():
        assert MatrixProduct(l_max).cost(1, 1).multiplies == published


def test_paths_that_vanish() -> None:
    def vanishing(l_max: int) -> set[tuple[int, ...]]:
        product = MatrixProduct(l_max)
        tensor = product.to_dense()
        return {tuple(sorted(p)) for p in product.paths() if tensor[block(p)].norm() < 1e-10}

    assert [vanishing(l_max) for l_max in (2, 3, 4)] == [set()] * 3
    assert vanishing(5) == vanishing(6) == {(3, 5, 5)}
    assert vanishing(7) == vanishing(8) == {(5, 6, 7)}


def test_float32_and_back() -> None:
    product = MatrixProduct(5).float()
    x, y = torch.randn(6, 36, 3), torch.randn(6, 36, 1)
    expected = torch.einsum("ijk,nic,njb->nkc", product.target(), x, y)
    out = product(x.float(), y.float())
    assert out.dtype == torch.float32
    assert float((out - expected).norm() / expected.norm()) < 2e-6
    out = product.double()(x, y)
    assert float((out - expected).norm() / expected.norm()) < 1e-13


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="has no paths"):
        MatrixProduct(2, "path")
    with pytest.raises(ValueError, match="must have shape"):
        MatrixProduct(2)(torch.randn(3, 4, 2), torch.randn(3, 9, 1))
    assert math.isnan(MatrixProduct(1)(torch.full((4, 1), math.nan), torch.ones(4, 1))[0])
