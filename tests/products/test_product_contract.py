"""What every product promises, for every product."""

import itertools
import math
from collections.abc import Callable

import e3nn.o3
import pytest
import torch
from torch import Tensor

from tensornet import so3
from tensornet.products import (
    AlignedProduct,
    ClebschGordanProduct,
    CPProduct,
    EdgeProduct,
    GauntProduct,
    MatrixProduct,
    PathRankProduct,
    Product,
)
from tensornet.products.coupling import block, even_part

Make = Callable[..., Product]
ONE_CHANNEL = (EdgeProduct,)
MAKERS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "sparse": (ClebschGordanProduct, ("none", "shared", "separable", "path")),
    "edge": (EdgeProduct, ("none", "shared", "separable", "path")),
    "cp": (
        lambda l_max, path_weights, odd_paths: CPProduct(
            l_max, path_weights=path_weights, odd_paths=odd_paths
        ),
        ("none", "shared", "separable"),
    ),
    "gaunt": (
        lambda l_max, path_weights, odd_paths: GauntProduct(
            l_max, odd_paths=odd_paths, path_weights=path_weights
        ),
        ("none", "shared", "separable"),
    ),
    "gaunt_grid": (
        lambda l_max, path_weights, odd_paths: GauntProduct(
            l_max, "grid", odd_paths, path_weights=path_weights
        ),
        ("none", "shared", "separable"),
    ),
    "gaunt_separable": (
        lambda l_max, path_weights, odd_paths: GauntProduct(
            l_max, "separable", odd_paths, path_weights=path_weights
        ),
        ("separable",),
    ),
    "gaunt_fourier": (
        lambda l_max, path_weights, odd_paths: GauntProduct(
            l_max, "fourier", odd_paths, path_weights=path_weights
        ),
        ("separable",),
    ),
    "matrix": (MatrixProduct, ("none", "shared", "separable")),
}
CASES = [
    pytest.param(make, l_max, weights, odd, id=f"{name}-{l_max}-{weights}-{'SO3' if odd else 'O3'}")
    for name, (make, modes) in MAKERS.items()
    for l_max in (0, 1, 2)
    for weights in modes
    for odd in (True, False)
]


def inputs(product: Product, n: int = 4, channels: int = 3) -> tuple[Tensor, Tensor, Tensor | None]:
    x1, x2 = torch.randn(n, product.dim, channels), torch.randn(n, product.dim, 1)
    if product.path_weights == "none":
        return x1, x2, None
    return x1, x2, torch.randn(n, *product.weight_shape(channels))


def definition(product: Product, x1: Tensor, x2: Tensor, w: Tensor | None) -> Tensor:
    """Sum over all degrees of the dense target, each with its weight."""
    target, mode, degrees = product.target(), product.path_weights, range(product.l_max + 1)
    found = product.paths() if mode == "path" else itertools.product(degrees, repeat=3)
    out = torch.zeros_like(x1)
    for p, (a, b, c) in enumerate(found):
        path = a, b, c
        only = torch.zeros_like(target)
        only[block(path)] = target[block(path)]
        part = torch.einsum("ijk,nic,njc->nkc", only, x1, x2.expand_as(x1))
        if w is not None:
            pair = w[:, 0, path[0]] * w[:, 1, path[2]] if mode == "separable" else w
            part = part * (w[:, p] if mode == "path" else pair)[:, None]
        out = out + part
    return out


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize(("make", "l_max", "weights", "odd"), CASES)
def test_agrees_with_the_definition(
    make: Make, l_max: int, weights: str, odd: bool, alike: bool
) -> None:
    product = make(l_max, path_weights=weights, odd_paths=odd)
    x1, x2, w = inputs(product)
    if not alike and isinstance(product, ONE_CHANNEL):
        pytest.skip("for second inputs of one channel")
    x2 = x2 if alike else torch.randn_like(x1)
    expected = definition(product, x1, x2, w)
    torch.testing.assert_close(product(x1, x2, w), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("make", "l_max", "weights", "odd"), CASES)
def test_equivariant(make: Make, l_max: int, weights: str, odd: bool) -> None:
    product = make(l_max, path_weights=weights, odd_paths=odd)
    x1, x2, w = inputs(product)
    rotation = e3nn.o3.rand_matrix()
    for turn in (rotation,) if odd else (rotation, -rotation):
        D = so3.wigner_d(l_max, turn)
        torch.testing.assert_close(
            product(D @ x1, D @ x2, w), D @ product(x1, x2, w), rtol=1e-10, atol=1e-11
        )


@pytest.mark.parametrize(("make", "l_max", "weights", "odd"), CASES)
def test_gradients_to_second_order(make: Make, l_max: int, weights: str, odd: bool) -> None:
    if l_max == 2 and weights != "path":
        pytest.skip("degree one tells as much in less time")
    product = make(l_max, path_weights=weights, odd_paths=odd)
    args = [x for x in inputs(product, n=2, channels=1) if x is not None]
    args = [x.requires_grad_() for x in args]
    assert torch.autograd.gradcheck(product, args, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(product, args, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("make", "l_max", "weights", "odd"), CASES)
def test_bilinear_and_certified(make: Make, l_max: int, weights: str, odd: bool) -> None:
    product = make(l_max, path_weights=weights, odd_paths=odd)
    x1, x2, w = inputs(product)
    torch.testing.assert_close(product(2 * x1, x2, w), 2 * product(x1, x2, w))
    torch.testing.assert_close(product(x1, -3 * x2, w), -3 * product(x1, x2, w))
    certificate = product.certificate()
    assert certificate.approximation < 1e-12
    assert certificate.equivariance < 1e-12
    target = product.target()
    expected = float((target - even_part(target)).norm() / target.norm())
    assert certificate.parity == pytest.approx(expected, abs=1e-12)
    assert product.cost(10, 4).multiplies == 10 * product.cost(1, 4).multiplies


@pytest.mark.parametrize("make", [EdgeProduct, ClebschGordanProduct])
def test_path_weights_that_channels_share(make: Make) -> None:
    product = make(2, path_weights="path")
    x1, x2, _ = inputs(product)
    w = torch.randn(4, len(product.paths()), 1)
    torch.testing.assert_close(product(x1, x2, w), product(x1, x2, w.expand(-1, -1, 3)))


def test_agrees_with_e3nn() -> None:
    """Path by path, as `uvu` of e3nn with the normalisation of bare 3j symbols."""
    l_max, c = 2, 3
    product = EdgeProduct(l_max, "path")
    irreps = e3nn.o3.Irreps([(c, (l, 1)) for l in range(l_max + 1)])
    edge = e3nn.o3.Irreps([(1, (l, 1)) for l in range(l_max + 1)])
    instructions = [(a, b, k, "uvu", True, 1.0) for a, b, k in product.paths()]
    peer = e3nn.o3.TensorProduct(
        irreps, edge, irreps, instructions,
        irrep_normalization="none", path_normalization="none", shared_weights=False,
    )  # fmt: skip
    x1, x2, w = inputs(product, channels=c)
    assert w is not None
    parts = [x1[:, l * l : (l + 1) ** 2].mT.flatten(1) for l in range(l_max + 1)]
    out = peer(torch.cat(parts, -1), x2[..., 0], w.flatten(1))
    ours = product(x1, x2, w)
    parts = [ours[:, l * l : (l + 1) ** 2].mT.flatten(1) for l in range(l_max + 1)]
    torch.testing.assert_close(torch.cat(parts, -1), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rank", [5, 7])
def test_certificate_of_a_low_rank_is_the_mean_over_rotations(rank: int) -> None:
    product = CPProduct(1, rank)
    certificate = product.certificate()
    M = product.to_dense()
    squares = []
    for _ in range(1500):
        D = so3.wigner_d(1, e3nn.o3.rand_matrix())
        turned = torch.einsum("ijk,ia,jb,ck->abc", M, D, D, D.mT)
        squares.append(float((turned - M).square().sum()))
    measured = math.sqrt(sum(squares) / len(squares)) / float(M.norm())
    assert measured == pytest.approx(certificate.equivariance, rel=0.05)
    assert certificate.approximation > 1e-3


def test_paper_rank_costs_what_its_certificate_says() -> None:
    assert CPProduct(1, 7).certificate().approximation == pytest.approx(1.7e-2, abs=0.3e-2)


@pytest.mark.slow
@pytest.mark.parametrize("odd", [True, False])
def test_exact_at_degree_three(odd: bool) -> None:
    assert CPProduct(3, odd_paths=odd).certificate().approximation < 1e-12


def test_two_many_channel_operands_and_batches() -> None:
    for product in (ClebschGordanProduct(2), CPProduct(2)):
        x1, x2 = torch.randn(2, 5, 9, 4), torch.randn(2, 5, 9, 4)
        out = product(x1, x2)
        single = torch.cat([product(x1[..., c : c + 1], x2[..., c : c + 1]) for c in range(4)], -1)
        torch.testing.assert_close(out, single)
        assert product(x1[:0], x2[:0]).shape == (0, 5, 9, 4)


def test_bad_input() -> None:
    x, y = torch.randn(4, 9, 3), torch.randn(4, 9, 1)
    with pytest.raises(ValueError, match=r"x1=...\)` must have shape"):
        EdgeProduct(2)(x[:, :4], y)
    with pytest.raises(ValueError, match="1 channel"):
        EdgeProduct(2)(x, x)
    with pytest.raises(ValueError, match="no weight"):
        EdgeProduct(2)(x, y, torch.ones(4, 3))
    with pytest.raises(ValueError, match="end in shape"):
        EdgeProduct(2, "shared")(x, y, torch.ones(4, 2))
    with pytest.raises(ValueError, match="path_weights"):
        EdgeProduct(2, "some")
    with pytest.raises(ValueError, match="mixes the paths"):
        CPProduct(1, path_weights="path")
    with pytest.raises(ValueError, match="channel or the 3"):
        ClebschGordanProduct(2)(x, torch.randn(4, 9, 2))
    with pytest.raises(TypeError, match=r"EdgeProduct\(x1=.* torch.Tensor. Got list"):
        EdgeProduct(2)(x.tolist(), y)


PRODUCTS = (
    AlignedProduct, ClebschGordanProduct, CPProduct, EdgeProduct, GauntProduct, MatrixProduct,
    PathRankProduct,
)  # fmt: skip


@pytest.mark.parametrize("kind", PRODUCTS)
def test_names_what_does_not_fit(kind: Make) -> None:
    name = kind.__name__
    product, shared = kind(1).float(), kind(1, path_weights="shared")
    x, y = torch.randn(4, 4, 3), torch.randn(4, 4, 1)
    with pytest.raises(TypeError, match=rf"{name}\(x1=.* dtype torch.float32 of the product"):
        product(x, y)
    with pytest.raises(TypeError, match=rf"{name}\(x2=.* dtype torch.float32 of `x1`"):
        product(x.float(), y)
    with pytest.raises(TypeError, match="floating"):
        product(x.long(), y.long())
    with pytest.raises(ValueError, match=r"batches that broadcast\. Got \(4,\), \(3,\)"):
        product(x.float(), y[:3].float())
    with pytest.raises(ValueError, match=r"batches that broadcast\. Got \(4,\), \(4,\), \(2,\)"):
        shared(x, y, torch.ones(2, 3))


@pytest.mark.parametrize("kind", PRODUCTS)
def test_no_samples_and_no_channels(kind: Make) -> None:
    product = kind(1)
    x, y = torch.randn(5, 4, 3), torch.randn(5, 4, 1)
    assert product(x[:0], y[:0]).shape == (0, 4, 3)
    assert product(x[..., :0], y).shape == (5, 4, 0)


def test_devices_without_numbers_and_autocast() -> None:
    product = EdgeProduct(1, "shared").to("meta")
    x, y, w = (torch.ones(shape, device="meta") for shape in ((3, 4, 2), (3, 4, 1), (3, 2)))
    assert product(x, y, w).shape == (3, 4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = EdgeProduct(1).float()(torch.ones(3, 4, 2).float(), torch.ones(3, 4, 1).bfloat16())
    assert low.dtype == torch.bfloat16
