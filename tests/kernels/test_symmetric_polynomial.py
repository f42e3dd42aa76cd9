"""Sparse polynomials: against dense symmetric tensors, and what the contract does not ask."""

import math
from collections.abc import Callable
from itertools import combinations_with_replacement, permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tensornet import kernels
from tensornet.kernels import (
    polynomial_curvature,
    polynomial_gradient,
    polynomial_slope,
    symmetric_polynomial,
)
from tensornet.kernels.contraction import turned_polynomial, turned_slope
from tensornet.kernels.contraction.plan import plan

OFFERS = ("reference", "numba_cpu")
ALL = (symmetric_polynomial, polynomial_slope, polynomial_gradient, polynomial_curvature)


def close(x: Tensor, want: Tensor) -> None:
    assert x.shape == want.shape
    assert float((x - want).abs().max() / want.abs().max()) < 1e-13


def symmetric(d: int, order: int, k: int) -> Tensor:  # (k, d, ..., d)
    dense = torch.randn(k, *[d] * order)
    orders = permutations(range(1, order + 1))
    return sum(dense.permute(0, *p) for p in orders) / math.factorial(order)  # type: ignore[return-value]


def as_polynomial(dense: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Monomials, components and coefficients of a symmetric tensor."""
    k, d, order = len(dense), dense.shape[1], dense.ndim - 1
    words = torch.tensor(list(combinations_with_replacement(range(d), order)))
    multiplicity = [len(set(permutations(word))) for word in words.tolist()]
    values = dense[:, *words.T] * torch.tensor(multiplicity)
    return words.repeat(k, 1), torch.arange(k).repeat_interleave(len(words)), values.flatten()


def inputs(n: int, d: int, c: int, s: int, t: int, q: int, k: int) -> dict[str, Any]:
    return {
        "x": torch.randn(n, d, c), "coefficients": torch.randn(s, t, c),
        "species": torch.randint(s, (n,)), "monomials": torch.randint(d + 1, (t, q)),
        "at_k": torch.randint(k, (t,)), "k": k,
    }  # fmt: skip


def call(kernel: kernels.Kernel[Any, Any], given: dict[str, Any]) -> tuple[Tensor, ...]:
    more = {"g": torch.randn(len(given["x"]), given["k"], given["coefficients"].shape[2])}
    more["h"] = torch.randn_like(given["x"])
    found = kernel(**{name: {**given, **more}[name] for name in kernel._signature.parameters})
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("offer", OFFERS)
def test_is_a_symmetric_tensor_contracted_with_copies_of_a_vector(order: int, offer: str) -> None:
    dense, x = symmetric(5, order, 3), torch.randn(9, 5, 18)
    monomials, at_k, values = as_polynomial(dense)
    want = dense.expand(9, 18, *dense.shape)
    for _ in range(order):
        want = torch.einsum("nc...i,nic->nc...", want, x)
    zero = torch.zeros(9, dtype=torch.int64)
    with kernels.use(offer):
        coefficients = values[None, :, None].expand(1, -1, 18)
        close(symmetric_polynomial(x, coefficients, zero, monomials, at_k, 3), want.mT)


@pytest.mark.parametrize("offer", OFFERS)
def test_an_index_past_the_components_means_one(offer: str) -> None:
    x, zero = torch.tensor([[[2.0], [3.0]]]), torch.tensor([0])
    monomials = torch.tensor([[2, 2, 2], [2, 1, 2], [0, 2, 1], [1, 0, 1], [1, 2, 2]])
    coefficients = torch.tensor([[[1.0], [10.0], [100.0], [1000.0], [10000.0]]])
    with kernels.use(offer):
        found = symmetric_polynomial(x, coefficients, zero, monomials, torch.zeros(5).long(), 1)
    assert found.item() == 1 + 30 + 600 + 18000 + 30000


@pytest.mark.parametrize("offer", OFFERS)
def test_any_order_of_indices_and_of_monomials(offer: str) -> None:
    given = inputs(6, 4, 17, 2, 50, 4, 3)
    order = torch.randperm(50)
    turned = given["monomials"][order].flip(1)
    other = {
        **given, "coefficients": given["coefficients"][:, order],
        "monomials": turned, "at_k": given["at_k"][order],
    }  # fmt: skip
    with kernels.use(offer):
        close(symmetric_polynomial(**other), symmetric_polynomial(**given))


@pytest.mark.parametrize("kernel", [*ALL, turned_polynomial, turned_slope], ids=lambda k: k.name)
@pytest.mark.parametrize(
    ("argument", "bad", "most"),
    [("species", -1, 1), ("species", 2, 1), ("monomials", -1, 4), ("monomials", 5, 4),
     ("at_k", 3, 2), ("at_k", -2, 2)],
)  # fmt: skip
def test_an_index_that_is_out_of_range_is_named(
    kernel: kernels.Kernel[Any, Any], argument: str, bad: int, most: int
) -> None:
    given = inputs(6, 4, 3, 2, 20, 3, 3)
    if kernel in (turned_polynomial, turned_slope):
        given["x"] = given["x"].mT
    given[argument] = given[argument].clone()
    given[argument].view(-1)[3] = bad
    message = rf"`{kernel.name}\({argument}=...\)` must be from 0 to {most}. Got .*{bad}"
    with pytest.raises(IndexError, match=message):
        call(kernel, given)


def test_shapes_that_disagree_are_named() -> None:
    given = inputs(6, 4, 3, 2, 20, 3, 3)
    for argument, wrong in (
        ("coefficients", torch.randn(2, 19, 3)),
        ("species", torch.zeros(5, dtype=torch.int64)),
        ("at_k", torch.zeros(19, dtype=torch.int64)),
    ):
        with pytest.raises(ValueError, match=r"must have shape"):
            symmetric_polynomial(**{**given, argument: wrong})


@pytest.mark.parametrize("kernel", ALL, ids=lambda k: k.name)
def test_threads_change_nothing(kernel: kernels.Kernel[Any, Any]) -> None:
    given = inputs(301, 9, 35, 3, 120, 3, 4)
    state = torch.get_rng_state()
    alone = call(kernel, given)
    torch.set_num_threads(3)
    torch.set_rng_state(state)
    assert all(torch.equal(x, y) for x, y in zip(call(kernel, given), alone, strict=True))


@pytest.mark.parametrize("kernel", ALL, ids=lambda k: k.name)
def test_a_row_that_is_not_a_number_harms_no_other(kernel: kernels.Kernel[Any, Any]) -> None:
    given = inputs(7, 4, 5, 1, 30, 3, 3)
    given["x"][3] = torch.nan
    for result in call(kernel, given):
        if len(result) == 7:
            assert not result[[0, 1, 2, 4, 5, 6]].isnan().any()
            assert result[3].isnan().any()


def test_coefficients_of_a_species_without_rows_have_no_slope() -> None:
    given = inputs(7, 4, 20, 3, 30, 3, 3)
    given["species"] = torch.tensor([0, 2, 2, 0, 2, 0, 0])
    for kernel in (polynomial_gradient, polynomial_curvature):
        slope = call(kernel, given)[1]
        assert (slope[1] == 0).all()
        assert (slope[[0, 2]] != 0).any((1, 2)).all()


def test_factors_are_shared_and_their_products_are_the_monomials() -> None:
    monomials = torch.tensor(list(combinations_with_replacement(range(10), 4)))
    at_k = torch.randint(3, (len(monomials),))
    tables = plan("test", 9, 3, monomials, at_k)
    factors: dict[int, list[int]] = {0: [], **{i + 1: [i] for i in range(9)}}
    for number, left, right in tables.products.tolist():
        factors[number] = factors[left] + factors[right]
    terms = 0
    for left, k, first, last in tables.runs.tolist():
        for place in range(first, last):
            which = tables.order[place]
            word = sorted(factors[left] + factors[tables.rights[place]])
            assert word == [i for i in monomials[which].tolist() if i < 9]
            assert at_k[which] == k
            terms += 1
    assert terms == len(monomials)
    assert len(tables.products) <= 45  # not more than pairs
    assert len(tables.runs) < len(monomials) / 3


@pytest.mark.parametrize("offer", OFFERS)
def test_force_training(offer: str) -> None:
    given = inputs(3, 3, 2, 2, 9, 3, 2)
    rest = given["species"], given["monomials"], given["at_k"], 2

    def force(pos: Tensor, coefficients: Tensor) -> Tensor:
        x = torch.stack([pos, pos.sin(), pos * pos.cos()], 1)
        energy = symmetric_polynomial(x, coefficients, *rest).square().sum()
        return torch.autograd.grad(energy, pos, create_graph=True)[0]

    pos = torch.randn(3, 2, requires_grad=True)
    leaves = pos, given["coefficients"].requires_grad_()
    with kernels.use(offer):
        assert torch.autograd.gradcheck(force, leaves, rtol=1e-6, atol=1e-8)
        assert torch.autograd.gradgradcheck(force, leaves, rtol=1e-6, atol=1e-7)


def test_only_what_is_needed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forces of a model with frozen weights take no slope in the coefficients."""
    ran: list[str] = []

    def watched(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def runs(*args: Any) -> Any:
            ran.append(name)
            return run(*args)

        return runs

    for kernel in ALL:
        run = watched(kernel.name, kernel.offers["numba_cpu"].load())
        monkeypatch.setattr(kernel, "_chosen", {(torch.device("cpu"), torch.float64, None): run})
    given = inputs(5, 4, 2, 2, 9, 3, 2)
    symmetric_polynomial(**{**given, "x": given["x"].requires_grad_()}).sum().backward()
    assert ran == ["symmetric_polynomial", "polynomial_slope"]


def test_the_inner_loops_are_vectors() -> None:
    import numba

    from tensornet.kernels.contraction import cpu

    fresh = numba.njit(fastmath={"contract", "nsz"})(cpu._batch.py_func)
    whole, work = np.zeros(4, np.int64), np.zeros(4096, np.float32)
    fresh(1, whole[:0], whole[:0], whole[:0], work, (0, 64, 128, 192, 256, 512, 768, 1024), 1, 1)
    lines = "".join(fresh.inspect_asm().values()).splitlines()
    multiplied = [line for line in lines if "fmadd" in line or "fmla" in line]
    if not multiplied:
        pytest.skip("assembly: no fused multiply-add on this processor")
    assert len(multiplied) > 60
    assert not [line for line in multiplied if "ss\t" in line or "sd\t" in line]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_code_made_for_a_coupling(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and slopes, features either way, with a rest of channels and several species."""
    from tensornet.kernels.contraction import coupling

    monkeypatch.setattr(coupling, "_WORTH", 0)
    given = inputs(41, 17, 35, 3, 90, 4, 3)
    g, tight = torch.randn(41, 3, 35), 1e-5 if dtype == torch.float32 else 1e-13
    given["species"][given["species"] == 1] = 2
    at = given["species"], given["monomials"], given["at_k"]
    x, c = given["x"], given["coefficients"]
    with kernels.use("reference"):
        want = symmetric_polynomial(x, c, *at, 3), polynomial_slope(x, c, g, *at)
    x, c, g = x.to(dtype), c.to(dtype), g.to(dtype)
    turned = x.mT.contiguous()
    for value, slope in (
        (symmetric_polynomial(x, c, *at, 3), polynomial_slope(x, c, g, *at)),
        (turned_polynomial(turned, c, *at, 3), turned_slope(turned, c, g, *at).mT),
    ):
        for found, right in zip((value, slope), want, strict=True):
            assert float((found - right).abs().max() / right.abs().max()) < tight


def test_every_term_stands_in_one_part() -> None:
    from tensornet.kernels.contraction.straight import order, parts

    monomials = torch.tensor(list(combinations_with_replacement(range(10), 4)))
    tables = plan("test", 9, 3, monomials, torch.randint(3, (len(monomials),)))
    assert sorted(order(tables)) == list(range(len(monomials)))
    for part in parts(tables):
        for left, k, terms in part:
            for right, t in terms:
                runs = tables.runs[(tables.runs[:, 2] <= t) & (t < tables.runs[:, 3])]
                assert runs[:, :2].tolist() == [[left, k]]
                assert tables.rights[t] == right
