import e3nn.o3
import pytest
import torch
from torch import nn

from tensornet import so3
from tensornet.layers import EquivariantLinear, EquivariantNorm, GatedLinear

MODULES = [
    pytest.param(lambda l: EquivariantLinear(l, 4, 3), id="linear"),
    pytest.param(lambda l: EquivariantLinear(l, 4, 3, shared=True), id="linear-shared"),
    pytest.param(lambda l: GatedLinear(l, 4, 3), id="gated"),
    pytest.param(lambda l: EquivariantNorm(l, 4), id="rms"),
    pytest.param(lambda l: EquivariantNorm(l, 4, "layer"), id="layer"),
]


def shake(module: nn.Module) -> nn.Module:
    """Move all parameters off their special starting values."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p))
    return module


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("l_max", [0, 1, 3])
def test_equivariant(make: type, l_max: int) -> None:
    module = shake(make(l_max))
    x = torch.randn(5, so3.dim(l_max), 4)
    D = so3.wigner_d(l_max, -e3nn.o3.rand_matrix())
    torch.testing.assert_close(module(D @ x), D @ module(x), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("make", MODULES)
def test_gradients_to_second_order(make: type) -> None:
    module = shake(make(1))
    x = torch.randn(2, 4, 4, requires_grad=True)
    assert torch.autograd.gradcheck(module, x, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(module, x, rtol=1e-6, atol=1e-8)


def test_linear_agrees_with_e3nn() -> None:
    l_max, c_in, c_out = 2, 4, 3
    module = shake(EquivariantLinear(l_max, c_in, c_out))
    assert isinstance(module, EquivariantLinear)
    assert module.bias is not None
    irreps_in = e3nn.o3.Irreps([(c_in, (l, 1)) for l in range(l_max + 1)])
    irreps_out = e3nn.o3.Irreps([(c_out, (l, 1)) for l in range(l_max + 1)])
    peer = e3nn.o3.Linear(irreps_in, irreps_out, biases=True)
    with torch.no_grad():
        peer.weight.copy_(module.weight.flatten() * c_in**0.5)  # e3nn divides by the fan-in
        peer.bias.copy_(module.bias)
    x = torch.randn(5, so3.dim(l_max), c_in)

    def flat(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, l * l : (l + 1) ** 2].mT.flatten(1) for l in range(l_max + 1)], -1)

    torch.testing.assert_close(flat(module(x)), peer(flat(x)), rtol=1e-12, atol=1e-12)


def test_norm_brings_to_unit_size() -> None:
    x = 30 * torch.randn(6, 9, 200)
    out = EquivariantNorm(2, 200)(x)
    sizes = torch.stack([out[:, l * l : (l + 1) ** 2].square().mean((1, 2)) for l in range(3)])
    torch.testing.assert_close(sizes.mean(0), torch.ones(6), rtol=1e-6, atol=0)
    each = EquivariantNorm(2, 200, "layer")(x)
    for l in range(3):
        part = each[:, l * l : (l + 1) ** 2].square().mean((1, 2))
        torch.testing.assert_close(part, torch.ones(6), rtol=1e-6, atol=0)
    torch.testing.assert_close(each[:, 0].mean(-1), torch.zeros(6), rtol=0, atol=1e-10)


def test_a_vanishing_vector_stays_small_under_rms() -> None:
    x = torch.cat([torch.ones(1, 1, 8), torch.full((1, 3, 8), 1e-4)], 1)
    small = EquivariantNorm(1, 8)(x).detach()[0, 1:].abs().max()
    blown_up = EquivariantNorm(1, 8, "layer", epsilon=1e-12)(x).detach()[0, 1:].abs().max()
    assert small < 1e-3
    assert blown_up > 0.5


@pytest.mark.parametrize("make", MODULES)
def test_any_batch(make: type) -> None:
    module = shake(make(1))
    x = torch.randn(2, 5, 4, 4)
    expected = torch.stack([module(part) for part in x])
    torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(module(x[0, 0]), expected[0, 0])
    assert module(x[:, :0]).shape == expected[:, :0].shape


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("shape", [(5, 1, 4), (5, 4, 1), (5, 9, 4), (4,)])
def test_sizes_are_not_broadcast(make: type, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(x=...\)` must have shape \(\.\.\., 4, 4\)"):
        make(1)(torch.randn(shape))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="one of rms, layer"):
        EquivariantNorm(1, 4, "batch")
    with pytest.raises(ValueError, match="at least 1"):
        EquivariantLinear(1, 0, 4)
    with pytest.raises(ValueError, match=r"EquivariantNorm\(l_max=.* at least 0"):
        EquivariantNorm(-1, 4)
    with pytest.raises(ValueError, match=r"EquivariantNorm\(epsilon=.* at least zero"):
        EquivariantNorm(1, 4, epsilon=-1.0)
