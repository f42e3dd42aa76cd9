import pytest
import torch

from tensornet.products import GauntPower, coupling, gaunt_polynomials
from tensornet.so3 import dim


@pytest.mark.parametrize(("l_max", "order", "l_out"), [(0, 3, 0), (1, 4, 1), (2, 3, 1), (3, 2, 3)])
def test_is_the_power_on_the_grid(l_max: int, order: int, l_out: int) -> None:
    x, weight = torch.randn(5, dim(l_max), 3), torch.randn(order, l_max + 1, 3)
    want = GauntPower(l_max, order)(x, weight=weight)[:, : dim(l_out)]
    monomials, at_k, values = gaunt_polynomials(l_max, order, l_out)
    rows = torch.cat([x, torch.ones(5, 1, 3)], 1)[:, monomials].prod(2)
    power = (monomials < dim(l_max)).sum(1) - 1
    degree = at_k.double().sqrt().long()
    terms = rows * values[:, None] * weight[power, degree]
    got = torch.zeros(5, dim(l_out), 3).index_add(1, at_k, terms)
    assert (got - want).abs().max() <= 1e-12 * want.abs().max()


def test_squares_are_the_gaunt_coupling() -> None:
    monomials, at_k, values = gaunt_polynomials(2, 2)
    square = monomials[:, 1] < 9
    dense = torch.zeros(9, 9, 9)
    dense[monomials[square, 0], monomials[square, 1], at_k[square]] = values[square]
    want = coupling("gaunt", 2)
    upper = torch.triu(torch.full((9, 9), 2.0), 1) + torch.eye(9)
    torch.testing.assert_close(dense, want * upper[:, :, None], rtol=0, atol=1e-14)


def test_outputs_above_the_inputs() -> None:
    monomials, at_k, values = gaunt_polynomials(1, 2, 2)
    want = coupling("gaunt", 2)[:4, :4]
    rows = torch.randn(4)
    terms = torch.cat([rows, torch.ones(1)])[monomials].prod(1) * values
    got = torch.zeros(9).index_add(0, at_k, terms)
    linear = torch.nn.functional.pad(rows, (0, 5))
    torch.testing.assert_close(got, torch.einsum("i,j,ijk->k", rows, rows, want) + linear)


def test_refuses_what_would_not_fit() -> None:
    with pytest.raises(ValueError, match="at most 200,000 products"):
        gaunt_polynomials(8, 4)
    with pytest.raises(ValueError, match=r"order=...\)` must be at least 1"):
        gaunt_polynomials(1, 0)
    with pytest.raises(ValueError, match=r"l_out=...\)` must be at least 0"):
        gaunt_polynomials(1, 1, -1)
