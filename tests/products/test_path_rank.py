"""The knob from Gaunt to Clebsch-Gordan: exact at the rank of the weights, equivariant at all."""

import pytest
import torch

from tensornet.products import (
    ClebschGordanProduct,
    GauntProduct,
    PathRankProduct,
    path_scales,
)
from tensornet.products.coupling import block, coupling, even_part, paths
from tensornet.testing.products import assert_product_contract

COUNTED = {1: [5, 5], 2: [11, 15, 15], 3: [17, 31, 34, 34], 4: [23, 46, 62, 65, 65]}


def weights(l_max: int, *, odd: bool = True, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(len(paths(l_max, odd_paths=odd)), generator=rng)


@pytest.mark.parametrize("l_max", COUNTED)
def test_expressivity_of_copies(l_max: int) -> None:
    found = [PathRankProduct(l_max, s + 1).expressivity() for s in range(len(COUNTED[l_max]))]
    assert found == COUNTED[l_max]
    assert found[-1] == len(paths(l_max))
    assert PathRankProduct(l_max, 1).expressivity(2) == found[1]


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("l_max", [0, 1, 2])
def test_contract(l_max: int, odd: bool) -> None:
    mode = ("none", "shared", "separable")[l_max]
    assert_product_contract(PathRankProduct(l_max, odd_paths=odd, path_weights=mode))


@pytest.mark.parametrize("l_max", [1, 2, 3, 4])
def test_any_weights_are_met_at_a_rank_of_the_degree(l_max: int) -> None:
    wanted = weights(l_max)
    product = PathRankProduct(l_max, weights=wanted)
    assert product.path_rank <= l_max
    assert product.certificate().approximation < 1e-12
    dense = ClebschGordanProduct(l_max, "path")
    x, y = torch.randn(3, product.dim, 2), torch.randn(3, product.dim, 2)
    expected = dense(x, y, wanted[:, None])
    torch.testing.assert_close(product(x, y), expected, rtol=1e-10, atol=1e-10)


def test_a_low_rank_is_inexact_but_equivariant() -> None:
    errors = []
    for rank in (1, 2, 3):
        certificate = PathRankProduct(4, rank).certificate()
        assert certificate.equivariance < 1e-12
        errors.append(certificate.approximation)
    assert errors[0] > 3 * errors[1] > 1e-3
    assert errors[2] < 1e-12
    assert errors[0] == pytest.approx(0.0691, abs=1e-3)


def test_scales_are_those_of_gaunt_products() -> None:
    l_max, wanted = 2, weights(2, odd=False)
    (even,) = path_scales(l_max, wanted, odd_paths=False)
    product = GauntProduct(l_max, "dense")
    degree = product.degrees
    x, y = torch.randn(3, 9, 2), torch.randn(3, 9, 2)
    out = sum(
        c[degree, None] * product(a[degree, None] * x, b[degree, None] * y) for a, b, c in even
    )
    expected = ClebschGordanProduct(l_max, "path", odd_paths=False)(x, y, wanted[:, None])
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


def test_gaunt_and_poisson_need_one_copy() -> None:
    both = coupling("gaunt", 3) + coupling("poisson", 3)
    full = coupling("clebsch_gordan", 3)
    parts = [(full[block(path)], both[block(path)]) for path in paths(3)]
    wanted = torch.stack([(a * b).sum() / a.square().sum() for a, b in parts])
    product = PathRankProduct(3, weights=wanted)
    assert product.path_rank == 1
    torch.testing.assert_close(product.to_dense(), both, rtol=0, atol=1e-12)
    even = PathRankProduct(3, weights=wanted[[sum(p) % 2 == 0 for p in paths(3)]], odd_paths=False)
    torch.testing.assert_close(even.to_dense(), even_part(both), rtol=0, atol=1e-12)


def test_no_weight_no_product() -> None:
    product = PathRankProduct(1, weights=torch.zeros(5))
    assert not product.to_dense().any()
    certificate = product.certificate()
    assert certificate.approximation == certificate.equivariance == certificate.parity == 0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"path_rank=...\)` must be at least 1"):
        PathRankProduct(2, 0)
    with pytest.raises(ValueError, match=r"must have shape \(15,\)"):
        PathRankProduct(2, weights=torch.ones(3))
    with pytest.raises(ValueError, match="weighed by `weights`"):
        PathRankProduct(2, path_weights="path")
    with pytest.raises(ValueError, match="copies"):
        PathRankProduct(1).expressivity(0)
    for bad in (torch.full((5,), torch.nan), torch.tensor([1.0, 1.0, torch.inf, 1.0, 1.0])):
        for call in (lambda w: path_scales(1, w, 1), lambda w: PathRankProduct(1, 1, weights=w)):
            with pytest.raises(ValueError, match=r"weights=...\)` must be finite"):
                call(bad)
    with pytest.raises(TypeError, match=r"torch\.Tensor"):
        PathRankProduct(1, weights=[1.0] * 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"path_scales\(weights=...\)` must have shape \(5,\)"):
        path_scales(1, torch.ones(3))
    with pytest.raises(ValueError, match=r"path_scales\(path_rank=...\)` must be at least 1"):
        path_scales(1, torch.ones(5), 0)
    with pytest.raises(ValueError, match=r"path_scales\(tolerance=...\)"):
        path_scales(1, torch.ones(5), tolerance=-1.0)
