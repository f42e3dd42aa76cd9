"""The edge convolution as models use it: coupling blocks, any order of edges, bad indices."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet import kernels
from tensornet.products import ClebschGordanProduct
from tensornet.products.coupling import block
from tensornet.so3 import spherical_harmonics

edge_convolution: Any = kernels.edge_convolution  # called with lists of arguments
edge_weights: Any = kernels.edge_weights
edge_harmonics: Any = kernels.edge_harmonics
NODES, EDGES, CHANNELS = 11, 70, 5


def blocks(product: ClebschGordanProduct) -> Tensor:
    parts = torch.zeros(len(product.paths()), *(product.dim,) * 3)
    for p, path in enumerate(product.paths()):
        parts[p][block(path)] = product.target()[block(path)]
    return parts


def scene(l_max: int, *, odd_paths: bool = True) -> tuple[ClebschGordanProduct, list[Any]]:
    """A product, and the arguments of the kernel for the same sum; node 3 has no edges."""
    product = ClebschGordanProduct(l_max, "path", odd_paths=odd_paths)
    receiver = torch.randint(NODES, (EDGES,))
    receiver[receiver == 3] = 4
    i, j, k, p, values = kernels.sparse_coupling(blocks(product))
    arguments = [
        torch.randn(NODES, product.dim, CHANNELS),
        spherical_harmonics(torch.randn(EDGES, 3), l_max),
        torch.randn(EDGES, len(product.paths()), CHANNELS),
        *(torch.randint(NODES, (EDGES,)), receiver, i, j, k, p, values, NODES, product.dim),
    ]
    return product, arguments


@pytest.mark.parametrize("odd_paths", [True, False])
@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 4])
def test_is_the_product_summed_at_receivers(l_max: int, odd_paths: bool) -> None:
    product, arguments = scene(l_max, odd_paths=odd_paths)
    x, y, w, sender, receiver = arguments[:5]
    messages = product(x[sender], y[..., None], w)
    want = torch.zeros(NODES, product.dim, CHANNELS).index_add(0, receiver, messages)
    got = edge_convolution(*arguments)
    assert torch.equal(got[3], torch.zeros(product.dim, CHANNELS))
    assert (got - want).abs().max() <= 1e-12 * want.abs().max()


def test_order_of_edges_and_threads() -> None:
    _, arguments = scene(2)
    x, y, w, sender, receiver, *rest = arguments
    got = edge_convolution(*arguments)
    assert torch.equal(edge_convolution(*arguments), got)
    order = kernels.receiver_order(receiver)
    ordered = [t[order] for t in (y, w, sender, receiver)]
    assert torch.equal(edge_convolution(x, *ordered, *rest), got)
    many = [t.repeat(40, *[1] * (t.ndim - 1)) for t in (y, w, sender, receiver)]
    g, *coupling = torch.randn_like(got), *rest[:5]
    calls: list[Callable[[], Tensor]] = [
        lambda: edge_convolution(x, *many, *rest),
        lambda: edge_weights(x, many[0], g, *many[2:], *coupling, w.shape[1]),
        lambda: edge_harmonics(x, many[1], g, *many[2:], *coupling, y.shape[1]),
    ]
    alone = [call() for call in calls]
    torch.set_num_threads(3)
    together = [call() for call in calls]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    ("place", "name"),
    [(3, "sender"), (4, "receiver"), (5, "at_i"), (6, "at_j"), (7, "at_k"), (8, "at_p")],
)
@pytest.mark.parametrize("bad", [-1, NODES])
def test_an_index_that_is_out_of_range_is_named(place: int, name: str, bad: int) -> None:
    _, arguments = scene(1)
    arguments[place] = arguments[place].clone()
    arguments[place][2] = bad
    with pytest.raises(IndexError, match=rf"`edge_convolution\({name}=...\)` must be from 0 to"):
        edge_convolution(*arguments)
    g = torch.randn(NODES, 4, CHANNELS)
    x, y, w, *rest = arguments[:10]
    with pytest.raises(IndexError, match=rf"`edge_weights\({name}=...\)` must be from 0 to"):
        edge_weights(x, y, g, *rest, w.shape[1])
    with pytest.raises(IndexError, match=rf"`edge_harmonics\({name}=...\)` must be from 0 to"):
        edge_harmonics(x, w, g, *rest, y.shape[1])


def test_force_training_through_positions() -> None:
    """Derivatives of forces, as a potential that is trained on them takes them."""
    _, arguments = scene(2)
    x, _, w, sender, receiver, *rest = arguments
    few = sender[:6] % 3, receiver[:6] % 3
    x, w = x[:3, :, :2].clone().requires_grad_(), w[:6, :, :1].repeat(1, 1, 2).requires_grad_()
    positions = torch.randn(6, 3, requires_grad=True)

    def forces(positions: Tensor, weight: Tensor) -> Tensor:
        y = spherical_harmonics(positions, 2)
        out = edge_convolution(x, y, weight, *few, *rest[:5], 3, rest[6])
        return torch.autograd.grad(out.square().sum(), positions, create_graph=True)[0]

    assert torch.autograd.gradcheck(forces, (positions, w), rtol=1e-6, atol=1e-8, fast_mode=True)


def test_whole_numbers_of_edges_may_be_zero() -> None:
    _, arguments = scene(1)
    arguments[1:5] = [t[:0] for t in arguments[1:5]]
    assert torch.equal(edge_convolution(*arguments), torch.zeros(NODES, 4, CHANNELS))
