"""Powers of functions on the sphere against chains of products that keep all degrees."""

import pytest
import torch
from torch import Tensor

from tensornet import so3
from tensornet.products import GauntPower, coupling
from tensornet.testing.products import assert_equivariant


def chain(factors: list[Tensor], l_max: int) -> Tensor:
    """Multiply with the coupling of a degree that holds everything, and cut at the end."""
    high = l_max * len(factors)
    G = coupling("gaunt", high)
    d, n = so3.dim(l_max), so3.dim(high)
    wide = [torch.cat([x, x.new_zeros(x.shape[0], n - d, x.shape[2])], 1) for x in factors]
    out = wide[0]
    for x in wide[1:]:
        out = torch.einsum("ijk,nic,njc->nkc", G, out, x)
    return out[:, :d]


CASES = [(0, 3), (1, 1), (1, 2), (1, 4), (2, 3), (3, 3)]


@pytest.mark.parametrize("method", ["auto", "grid", "separable", "polynomial"])
@pytest.mark.parametrize(("l_max", "order"), CASES)
def test_agrees_with_a_chain_of_products(l_max: int, order: int, method: str) -> None:
    power = GauntPower(l_max, order, method)
    factors = [torch.randn(3, power.dim, 2) for _ in range(order)]
    expected = chain(factors, l_max)
    assert float((power(*factors) - expected).norm() / expected.norm()) < 1e-13
    expected = chain(factors[:1] * order, l_max)
    assert float((power(factors[0]) - expected).norm() / expected.norm()) < 1e-13


@pytest.mark.parametrize("method", ["grid", "separable", "polynomial"])
@pytest.mark.parametrize("batch", [(), (4,)])
def test_weighted_sum_of_all_powers(batch: tuple[int, ...], method: str) -> None:
    power = GauntPower(2, 3, method)
    x, w = torch.randn(4, 9, 5), torch.randn(*batch, 3, 3, 5)
    each = w.expand(4, -1, -1, -1)
    expected = sum(
        chain([x] * (k + 1), 2) * each[:, k].index_select(1, power.degrees) for k in range(3)
    )
    torch.testing.assert_close(power(x, weight=w), expected, rtol=0, atol=1e-12)
    assert power(x[None], weight=w).shape == (1, 4, 9, 5)


def test_the_choice_is_by_cost() -> None:
    assert GauntPower(2, 3).method == "polynomial"
    assert GauntPower(3, 2, "polynomial").cost(1, 1).multiplies < 16**2 * 16
    assert GauntPower(5, 4).method == "grid"
    assert GauntPower(20, 2).method == "separable"
    several = [torch.randn(2, 9, 3) for _ in range(3)]
    assert torch.allclose(GauntPower(2, 3)(*several), GauntPower(2, 3, "grid")(*several))


@pytest.mark.parametrize("method", ["grid", "separable", "polynomial"])
def test_equivariant_and_differentiable(method: str) -> None:
    power = GauntPower(2, 3, method)
    assert_equivariant(power, 2, inversion=True)
    x = torch.randn(1, 9, 1, requires_grad=True)
    assert torch.autograd.gradcheck(power, [x], rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(power, [x], rtol=1e-6, atol=1e-8)


def test_float32_and_back() -> None:
    power = GauntPower(2, 3).float()
    x = torch.randn(4, 9, 2)
    expected = chain([x] * 3, 2)
    assert float((power(x.float()) - expected).norm() / expected.norm()) < 2e-6
    assert float((power.double()(x) - expected).norm() / expected.norm()) < 1e-13
    assert power(x[:0]).shape == (0, 9, 2)


def test_one_pass_is_cheaper_than_a_chain() -> None:
    for l_max in (1, 2, 3):
        dense = 2 * so3.dim(l_max) ** 2 * so3.dim(2 * l_max)
        assert GauntPower(l_max, 3).cost(1, 1).multiplies < dense


def test_bad_input() -> None:
    power = GauntPower(1, 3)
    x = torch.randn(2, 4, 3)
    with pytest.raises(ValueError, match="1 or 3 factors"):
        power(x, x)
    with pytest.raises(ValueError, match="one width"):
        power(x, x, x[..., :1])
    with pytest.raises(ValueError, match="must have shape"):
        power(x[:, :3])
    with pytest.raises(ValueError, match="one factor"):
        power(x, x, x, weight=torch.ones(2, 3, 2, 3))
    with pytest.raises(ValueError, match="end in shape"):
        power(x, weight=torch.ones(2, 2, 3))
    with pytest.raises(ValueError, match=r"method=...\)` must be one of"):
        GauntPower(1, 2, "fourier")
    with pytest.raises(ValueError, match="at least 1"):
        GauntPower(1, 0)
