import e3nn.o3
import pytest
import torch

from tensornet.layers import DensityPowers
from tensornet.products import GauntPower
from tensornet.so3 import dim, wigner_d


def test_is_the_power_on_the_grid() -> None:
    layer = DensityPowers(2, 3, channels=3, n_elements=2, l_max_out=1)
    x, species = torch.randn(5, 9, 3), torch.tensor([0, 1, 1, 0, 1])
    by_power = layer.weight.detach().unflatten(1, (3, 2))
    weight = torch.nn.functional.pad(by_power, (0, 0, 0, 1))[species]
    want = GauntPower(2, 3)(x, weight=weight)[:, :4]
    torch.testing.assert_close(layer(x, species), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("l_max", "l_max_out"), [(0, 0), (1, 1), (2, 0), (3, 2)])
def test_equivariant(l_max: int, l_max_out: int) -> None:
    layer = DensityPowers(l_max, 3, channels=2, n_elements=1, l_max_out=l_max_out)
    x, species = torch.randn(4, dim(l_max), 2), torch.zeros(4, dtype=torch.int64)
    turn = -e3nn.o3.rand_matrix()
    got, want = layer(wigner_d(l_max, turn) @ x, species), layer(x, species)
    want = wigner_d(l_max_out, turn) @ want
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


def test_gradients_to_second_order() -> None:
    layer = DensityPowers(1, 3, channels=1, n_elements=2, l_max_out=1)
    x, species = torch.randn(3, 4, 1, requires_grad=True), torch.tensor([1, 0, 1])

    def value(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.func.functional_call(layer, {"weight": weight}, (x, species))
        return out

    inputs = (x, layer.weight.detach().requires_grad_())
    assert torch.autograd.gradcheck(value, inputs, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(value, inputs, rtol=1e-6, atol=1e-8)


def test_sizes_at_the_start() -> None:
    """White densities give results of about unit size, whatever the degree."""
    for l_max in (1, 3):
        layer = DensityPowers(l_max, 3, channels=64, n_elements=1)
        x, species = torch.randn(300, dim(l_max), 64), torch.zeros(300, dtype=torch.int64)
        out = layer(x, species).detach()
        assert 0.3 < float(out.square().mean().sqrt()) < 3


def test_refuses_what_does_not_fit() -> None:
    layer = DensityPowers(1, 2, channels=3, n_elements=2)
    with pytest.raises(ValueError, match=r"`DensityPowers\(x=...\)` must have shape"):
        layer(torch.randn(5, 9, 3), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(IndexError, match="species"):
        layer(torch.randn(5, 4, 3), torch.full((5,), 2))
    with pytest.raises(ValueError, match=r"channels=...\)` must be at least 1"):
        DensityPowers(1, 2, channels=0, n_elements=1)
    with pytest.raises(ValueError, match=r"`DensityPowers\(l_max=...\)` must be at least 0"):
        DensityPowers(-1, 2, channels=1, n_elements=1)
