import e3nn.o3
import pytest
import torch

from tensornet.layers import EdgeConvolution
from tensornet.so3 import dim, spherical_harmonics, wigner_d

DEGREES = [(0, 0, 0), (0, 2, 2), (1, 1, 1), (2, 1, 3), (1, 3, 0)]


def scene(layer: EdgeConvolution, edges: int = 9) -> list[torch.Tensor]:
    x = torch.randn(4, dim(layer.l_max), 3)
    vectors = torch.randn(edges, 3)
    weight = torch.randn(edges, len(layer.paths), 3)
    return [x, vectors, weight, torch.randint(4, (edges,)), torch.randint(4, (edges,))]


@pytest.mark.parametrize("degrees", DEGREES)
def test_agrees_with_e3nn(degrees: tuple[int, int, int]) -> None:
    layer = EdgeConvolution(*degrees)
    x, vectors, weight, sender, receiver = scene(layer)
    y = spherical_harmonics(vectors, layer.l_max_edge)
    first, second, third = (
        e3nn.o3.Irreps([(mul, (l, (-1) ** l)) for l in range(top + 1)])
        for mul, top in zip((3, 1, 3), degrees, strict=True)
    )
    instructions = [(*path, "uvu", True) for path in layer.paths]
    product = e3nn.o3.TensorProduct(
        first, second, third, instructions, shared_weights=False, internal_weights=False
    )

    def flat(x: torch.Tensor, l_max: int) -> torch.Tensor:
        return torch.cat([x[:, l * l : (l + 1) ** 2].mT.flatten(1) for l in range(l_max + 1)], 1)

    messages = product(flat(x, degrees[0])[sender], y, weight.flatten(1))
    want = torch.zeros(4, third.dim).index_add(0, receiver, messages)
    got = layer(x, y, weight, sender, receiver)
    torch.testing.assert_close(flat(got, degrees[2]), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("odd_paths", [False, True])
def test_equivariant(odd_paths: bool) -> None:
    layer = EdgeConvolution(2, 2, 1, odd_paths=odd_paths)
    x, vectors, weight, sender, receiver = scene(layer)
    rotation = e3nn.o3.rand_matrix()
    matrix = rotation if odd_paths else -rotation
    turned = vectors @ matrix.T
    before = layer(x, spherical_harmonics(vectors, 2), weight, sender, receiver)
    after = layer(wigner_d(2, matrix) @ x, spherical_harmonics(turned, 2), weight, sender, receiver)
    torch.testing.assert_close(after, wigner_d(1, matrix) @ before, rtol=1e-12, atol=1e-12)


def test_keeps_white_features_white() -> None:
    layer = EdgeConvolution(2)
    n = 20_000
    x, y = torch.randn(n, 9, 1), spherical_harmonics(torch.randn(n, 3), 2)
    each = torch.arange(n)
    out = layer(x, y, torch.randn(n, len(layer.paths), 1), each, each)
    size = out.square().mean(0)
    assert (size - 1).abs().max() < 0.1


def test_gradients_to_second_order_through_positions() -> None:
    layer = EdgeConvolution(1)
    x, vectors, weight, sender, receiver = scene(layer, edges=3)
    leaves = [t.requires_grad_() for t in (x[:, :, :1], vectors, weight[:, :, :1])]

    def energy(x: torch.Tensor, vectors: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = layer(x, spherical_harmonics(vectors, 1), weight, sender, receiver)
        return out.square().sum()

    assert torch.autograd.gradcheck(energy, leaves, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(energy, leaves, rtol=1e-6, atol=1e-8)


def test_receivers_of_their_own_and_no_edges() -> None:
    layer = EdgeConvolution(1)
    x, vectors, weight, sender, receiver = scene(layer)
    y = spherical_harmonics(vectors, 1)
    out = layer(x, y, weight, sender, receiver + 2, 7)
    torch.testing.assert_close(out[2:6], layer(x, y, weight, sender, receiver))
    assert torch.equal(out[[0, 1, 6]], torch.zeros(3, 4, 3))
    none = layer(x, y[:0], weight[:0], sender[:0], receiver[:0])
    assert torch.equal(none, torch.zeros(4, 4, 3))


def test_returns_to_exact_constants() -> None:
    layer = EdgeConvolution(2)
    exact = layer.values.clone()
    assert torch.equal(layer.float().double().values, exact)


def test_refuses_what_does_not_fit() -> None:
    layer = EdgeConvolution(1)
    x, vectors, weight, sender, receiver = scene(layer)
    y = spherical_harmonics(vectors, 1)
    with pytest.raises(ValueError, match=r"`EdgeConvolution\(x=...\)` must have shape"):
        layer(x[:, :3], y, weight, sender, receiver)
    with pytest.raises(ValueError, match=r"`EdgeConvolution\(weight=...\)` must have shape"):
        layer(x, y, weight[:, :2], sender, receiver)
    with pytest.raises(IndexError, match=r"sender=...\)` must be from 0 to 3"):
        layer(x, y, weight, sender + 4, receiver)
    with pytest.raises(ValueError, match=r"l_max_edge=...\)` must be at least 0"):
        EdgeConvolution(1, -1)
