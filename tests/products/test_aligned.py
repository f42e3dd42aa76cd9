"""The product where the edge is the axis: that with the matrix of the edge, and as smooth."""

import e3nn.o3
import pytest
import torch
from torch import Tensor

from tensornet import kernels, so3
from tensornet.kernels.aligned.tables import generators
from tensornet.products import AlignedProduct, EdgeProduct
from tensornet.so3 import spherical_harmonics

AXES = torch.eye(3).repeat(2, 1) * torch.tensor([1.0, 1, 1, -1, -1, -1])[:, None]


def inputs(l_max: int, mode: str, n: int, c: int) -> tuple[Tensor, Tensor, Tensor | None]:
    weight = EdgeProduct(l_max, mode).weight_shape(c)
    x, r = torch.randn(n, (l_max + 1) ** 2, c), torch.randn(n, 3)
    r[: len(AXES)] = AXES[:n]
    return x, r, torch.randn(n, *weight) if weight else None


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("mode", ["none", "shared", "separable"])
@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 6, 8])
def test_is_the_product_with_the_matrix_of_the_edge(l_max: int, mode: str, odd: bool) -> None:
    x, r, w = inputs(l_max, mode, 9, 3)
    y = spherical_harmonics(r, l_max)[..., None]
    product = AlignedProduct(l_max, mode, odd_paths=odd)
    want = EdgeProduct(l_max, mode, odd_paths=odd)(x, y, w)
    torch.testing.assert_close(product(x, y, w), want, rtol=1e-12, atol=1e-12)
    scales = torch.randn(9, 1, 1)
    torch.testing.assert_close(product(x, scales * y, w), scales * want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("l_max", [0, 1, 2, 4])
def test_weights_of_paths_that_samples_and_channels_share(l_max: int, odd: bool) -> None:
    product = AlignedProduct(l_max, "path", odd_paths=odd)
    exact = EdgeProduct(l_max, "path", odd_paths=odd)
    x, r, _ = inputs(l_max, "none", 7, 3)
    w = torch.randn(len(product.paths()), 1)
    found = []
    for p in (product, exact):
        leaves = [t.clone().requires_grad_() for t in (x, r, w)]
        out = p(leaves[0], spherical_harmonics(leaves[1], l_max)[..., None], leaves[2])
        slopes = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        total = torch.stack([s.sin().sum() for s in slopes]).sum()
        again = torch.autograd.grad(total, leaves)
        found.append([out, *slopes, *again])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(product.to_dense(), exact.to_dense(), rtol=0, atol=1e-13)
    assert product.expressivity() == len(product.paths())


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("l_max", [0, 1, 2, 4])
def test_certificate(l_max: int, odd: bool) -> None:
    product, exact = AlignedProduct(l_max, odd_paths=odd), EdgeProduct(l_max, odd_paths=odd)
    torch.testing.assert_close(product.to_dense(), exact.to_dense(), rtol=0, atol=1e-13)
    assert product.certificate().equivariance < 1e-12
    assert product.certificate().approximation < 1e-12
    if l_max == 4:
        assert product.cost(10, 64).multiplies < exact.cost(10, 64).multiplies


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_slopes_in_positions_are_those_of_the_matrix(l_max: int) -> None:
    """First and second derivatives, on the axes too, against torch through the harmonics."""
    found = []
    x, start, w = inputs(l_max, "shared", 9, 2)
    probe, turn = torch.randn_like(x), torch.randn_like(start)
    for product in (AlignedProduct(l_max, "shared"), EdgeProduct(l_max, "shared")):
        leaves = [t.clone().requires_grad_() for t in (x, start, w) if t is not None]
        out = product(leaves[0], spherical_harmonics(leaves[1], l_max)[..., None], leaves[2])
        slopes = torch.autograd.grad((out.sin() * probe).sum(), leaves, create_graph=True)
        again = torch.autograd.grad((slopes[1] * turn).sum() + slopes[0].sin().sum(), leaves)
        found.append([out, *slopes, *again])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("direction", [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.3, 0.2, -0.5]])
def test_derivatives_of_forces(direction: list[float]) -> None:
    product = AlignedProduct(2, "shared")
    x, _, w = inputs(2, "shared", 1, 1)
    assert w is not None
    x, w = x.requires_grad_(), w.requires_grad_()
    r = torch.tensor([direction], requires_grad=True)

    def forces(r: Tensor, x: Tensor, w: Tensor) -> Tensor:
        out = product(x, spherical_harmonics(r, 2)[..., None], w)
        return torch.autograd.grad(out.square().sum(), r, create_graph=True)[0]

    assert torch.autograd.gradcheck(forces, (r, x, w), rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(forces, (r, x, w), rtol=1e-5, atol=1e-7, fast_mode=True)
    hessian = torch.autograd.functional.jacobian(lambda r: forces(r, x, w), r)[0, :, 0]
    assert isinstance(hessian, Tensor)
    assert (hessian - hessian.mT).abs().max() < 1e-11 * hessian.abs().max()


def test_equivariant_in_both_precisions() -> None:
    rotation = e3nn.o3.rand_matrix()
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 5e-6)):
        product = AlignedProduct(5, "shared").to(dtype)
        x, r, w = inputs(5, "shared", 20, 65)
        assert w is not None
        D = so3.wigner_d(5, rotation)
        out = product(*_cast(dtype, x, r, w))
        turned = product(*_cast(dtype, D @ x, r @ rotation.mT, w)).double()
        want = D @ out.double()
        assert (turned - want).abs().max() < tolerance * want.abs().max()


def _cast(dtype: torch.dtype, x: Tensor, r: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.to(dtype), spherical_harmonics(r, 5).to(dtype)[..., None], w.to(dtype)


@pytest.mark.parametrize("l", [1, 2, 5])
def test_generators_turn_harmonics(l: int) -> None:
    for axis, generator in enumerate(torch.from_numpy(generators(l))):
        vector = torch.zeros(3)
        vector[axis] = 0.7
        rotation = e3nn.o3.axis_angle_to_matrix(vector / 0.7, torch.tensor(0.7))
        whole = so3.wigner_d(l, rotation)[l * l :, l * l :]
        torch.testing.assert_close(torch.linalg.matrix_exp(0.7 * generator), whole)


def test_refuses_what_it_cannot_do() -> None:
    x, y = torch.randn(3, 4, 2), torch.randn(3, 4, 1)
    for w in (torch.ones(5, 2), torch.ones(3, 5, 1)):
        with pytest.raises(ValueError, match=r"weight=...\)` must have shape \(5, 1\)"):
            AlignedProduct(1, "path")(x, y, w)
    with pytest.raises(ValueError, match=r"weight=...\)` must fit path_weights='path'"):
        AlignedProduct(1, "path")(x, y)
    with pytest.raises(ValueError, match="must have 1 channel"):
        AlignedProduct(1)(x, y.expand(-1, -1, 2))
    core, w = torch.randn(6), torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"x=...\)` must have \(l_max \+ 1\)² rows. Got 3"):
        kernels.aligned_product(x[:, :3], x[:, :3, 0], w, core)
    with pytest.raises(ValueError, match=r"core=...\)` must have 6 numbers for l_max 1. Got 5"):
        kernels.aligned_product(x, x[:, :3, 0], w, core[:5])
    with pytest.raises(ValueError, match=r"r=...\)` must have shape \(n, 3\). Got \(3, 2\)"):
        kernels.aligned_product(x, x[:, :2, 0], w, core)
    assert AlignedProduct(1)(x, torch.zeros(3, 4, 1)).isnan().all()
