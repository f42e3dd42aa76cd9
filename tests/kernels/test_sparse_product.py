"""The sparse product as models use it: couplings of harmonics, threads, bad indices."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet import kernels
from tensornet.kernels.sparse.plan import tables
from tensornet.products import ClebschGordanProduct
from tensornet.products.coupling import block

sparse_product: Any = kernels.sparse_product  # called with lists of arguments
sparse_slopes: Any = kernels.sparse_slopes
weighted_product: Any = kernels.weighted_product
weighted_slopes: Any = kernels.weighted_slopes


def scene(
    l_max: int, n: int, c: int, *, odd: bool = True
) -> tuple[ClebschGordanProduct, list[Any]]:
    """A product, and two inputs, a gradient, weights of samples."""
    product = ClebschGordanProduct(l_max, "path", odd_paths=odd)
    d, p = product.dim, len(product.paths())
    return product, [torch.randn(n, size, c) for size in (d, d, d, p)]


def at(product: ClebschGordanProduct, letters: str) -> list[Tensor]:
    return [getattr(product, f"at_{letter}") for letter in letters]


def close(got: Tensor, want: Tensor, tolerance: float = 1e-13) -> None:
    assert got.shape == want.shape
    assert float((got - want).abs().max()) <= tolerance * float(want.abs().max())


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("c", [1, 3, 8, 11, 40, 72])
@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
def test_is_the_dense_sum(l_max: int, c: int, odd: bool) -> None:
    product, (x, y, g, w) = scene(l_max, 5, c, odd=odd)
    target, out = product.target(), torch.zeros_like(x)
    blocks = [torch.zeros_like(target) for _ in product.paths()]
    for part, path in zip(blocks, product.paths(), strict=True):
        part[block(path)] = target[block(path)]
    parts = torch.stack([torch.einsum("ijk,nic,njc->nkc", part, x, y) for part in blocks], 1)
    places, v, d = at(product, "ijk"), product.values, product.dim
    close(sparse_product(x, y, *places, v, d), parts.sum(1))
    places = at(product, "ijkp")
    for weight in (w, w[:1]):
        out = (parts * weight[:, :, None]).sum(1)
        close(weighted_product(x, y, weight, *places, v, d), out)
    slope = torch.einsum("npkc,nkc->npc", parts, g)
    close(weighted_slopes(x, y, w, g, *places, v)[2], slope)
    close(weighted_slopes(x, y, w[:1], g, *places, v)[2], slope.sum(0, keepdim=True))


@pytest.mark.parametrize("shared", [True, False])
def test_slopes_are_those_of_the_reference(shared: bool) -> None:
    product, (x, y, g, w) = scene(3, 70, 5)
    w = w[:1] if shared else w
    arguments = x, y, w, g, *at(product, "ijkp"), product.values
    for got, want in zip(
        weighted_slopes(*arguments), kernels.weighted_slopes.reference(*arguments), strict=True
    ):
        close(got, want)
    few = x, y, g, *at(product, "ijk"), product.values
    for got, want in zip(sparse_slopes(*few), kernels.sparse_slopes.reference(*few), strict=True):
        close(got, want)


@pytest.mark.parametrize("needs", ["xyw", "x", "y", "w", "xw"])
@pytest.mark.parametrize("shared", [True, False])
def test_derivatives_in_some_arguments(shared: bool, needs: str) -> None:
    product, (x, y, _, w) = scene(1, 2, 1)
    given = {"x": x, "y": y, "w": w[:1] if shared else w}
    places = at(product, "ijkp")

    def run(*some: Tensor) -> Tensor:
        now = {**given, **dict(zip(needs, some, strict=True))}
        out: Tensor = weighted_product(*now.values(), *places, product.values, product.dim)
        return out

    leaves = [given[name].clone().requires_grad_() for name in needs]
    assert torch.autograd.gradcheck(run, leaves, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(run, leaves, rtol=1e-6, atol=1e-8)


def test_couplings_of_harmonics_need_half_the_terms() -> None:
    """Sums and differences of pairs: the reason for `units`, which no number would show."""
    product = ClebschGordanProduct(4, odd_paths=False)
    sizes = (product.dim,) * 3
    found = tables("sparse_product", "ijk", sizes, 64, *at(product, "ijk"), product.values)
    assert len(product.values) == 1158
    assert found.n_terms < 0.62 * 1158


def test_threads_change_nothing() -> None:
    product, (x, y, g, w) = scene(2, 300, 64)
    places, v = at(product, "ijkp"), product.values
    calls: list[Callable[[], Any]] = [
        lambda: (weighted_product(x, y, w, *places, v, product.dim),),
        lambda: weighted_slopes(x, y, w[:1], g, *places, v),
        lambda: sparse_slopes(x, y, g, *places[:3], v),
    ]
    alone = [call() for call in calls]
    torch.set_num_threads(3)
    together = [call() for call in calls]
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_numbers_changed_in_place_count() -> None:
    product, (x, y, _, _) = scene(1, 3, 2)
    places, v = at(product, "ijk"), product.values.clone()
    first = sparse_product(x, y, *places, v, product.dim)
    v.data.mul_(2)  # without a trace in the version of the tensor
    close(sparse_product(x, y, *places, v, product.dim), 2 * first)


@pytest.mark.parametrize("letter", ["i", "j", "k", "p"])
@pytest.mark.parametrize("bad", [-1, 9])
def test_an_index_that_is_out_of_range_is_named(letter: str, bad: int) -> None:
    product, (x, y, g, w) = scene(1, 3, 2)
    places = [t.clone() for t in at(product, "ijkp")]
    places["ijkp".index(letter)][2] = bad
    message = rf"\(at_{letter}=...\)` must be from 0 to"
    with pytest.raises(IndexError, match="`weighted_product" + message):
        weighted_product(x, y, w, *places, product.values, product.dim)
    with pytest.raises(IndexError, match="`weighted_slopes" + message):
        weighted_slopes(x, y, w, g, *places, product.values)
    if letter != "p":
        with pytest.raises(IndexError, match="`sparse_product" + message):
            sparse_product(x, y, *places[:3], product.values, product.dim)
        with pytest.raises(IndexError, match="`sparse_slopes" + message):
            sparse_slopes(x, y, g, *places[:3], product.values)


def test_weights_of_some_rows_are_refused() -> None:
    product, (x, y, g, w) = scene(1, 3, 2)
    places = at(product, "ijkp")
    with pytest.raises(ValueError, match=r"`weighted_product\(w=...\)` must have 1 row or the 3"):
        weighted_product(x, y, w[:2], *places, product.values, product.dim)
    with pytest.raises(ValueError, match=r"`weighted_slopes\(w=...\)` must have 1 row or the 3"):
        weighted_slopes(x, y, w[:2], g, *places, product.values)
