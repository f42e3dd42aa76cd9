"""All equivariant polynomials: how many, orthonormal, equivariant, and the layer made of them."""

from collections import Counter
from itertools import permutations

import pytest
import torch
from torch import Tensor

from tensornet.layers import SymmetricContraction
from tensornet.layers.contraction import Recent
from tensornet.so3 import wigner_d


def number(l_max: int, order: int, degree: int) -> int:
    """How often a degree of natural parity stands in the symmetric power, by counting weights."""
    states = [(l, m) for l in range(l_max + 1) for m in range(-l, l + 1)]
    full: Counter[tuple[int, int, int]] = Counter({(0, 0, 0): 1})  # factors, sum of m, of l
    for l, m in states:
        grown: Counter[tuple[int, int, int]] = Counter()
        for (used, total, odd), times in full.items():
            for q in range(order - used + 1):
                grown[used + q, total + q * m, (odd + q * l) % 2] += times
        full = grown
    return full[order, degree, degree % 2] - full[order, degree + 1, degree % 2]


def improper() -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3))
    turn: Tensor = -q * torch.linalg.det(q)
    return turn


def dense(layer: SymmetricContraction, path: int) -> Tensor:  # (k, d, ..., d)
    """The symmetric tensor of one basis polynomial."""
    (d, _), order = layer.shape, layer.paths[path][1]
    out = torch.zeros(layer.n_out, *[d] * order)
    rows = zip(layer.monomials.tolist(), layer.at_k.tolist(), layer.coupling[:, path], strict=True)
    for monomial, k, value in rows:
        word = [i for i in monomial if i < d]
        if value:
            assert len(word) == order
            orders = set(permutations(word))
            for places in orders:
                out[(k, *places)] = value / len(orders)
    return out


@pytest.mark.parametrize(
    ("l_max", "correlation", "l_max_out"), [(0, 3, 0), (1, 5, 2), (2, 4, 2), (3, 3, 3), (4, 2, 4)]
)
def test_the_basis_is_complete(l_max: int, correlation: int, l_max_out: int) -> None:
    paths = Counter(SymmetricContraction(l_max, correlation, 1, 1, l_max_out).paths)
    wanted = {
        (degree, order): number(l_max, order, degree)
        for degree in range(l_max_out + 1)
        for order in range(1, correlation + 1)
    }
    assert paths == {path: n for path, n in wanted.items() if n}


def test_the_count_is_that_of_power_spectrum_and_bispectrum() -> None:
    assert [number(3, order, 0) for order in (1, 2)] == [1, 4]
    triples = [
        (a, b, c)
        for a in range(4) for b in range(a, 4) for c in range(b, 4)
        if c <= a + b and (a + b + c) % 2 == 0
    ]  # fmt: skip
    assert number(3, 3, 0) == len(triples) == 8


@pytest.mark.parametrize(("l_max", "correlation"), [(2, 3), (3, 2), (1, 4)])
def test_the_basis_is_orthonormal(l_max: int, correlation: int) -> None:
    layer = SymmetricContraction(l_max, correlation, 1, 1, 2)
    for order in range(1, correlation + 1):
        mine = [path for path, (_, size) in enumerate(layer.paths) if size == order]
        flat = torch.stack([dense(layer, path).flatten() for path in mine])
        norms = torch.tensor([2.0 * layer.paths[path][0] + 1 for path in mine])
        assert (flat @ flat.mT - norms.diag()).abs().max() < 1e-13


@pytest.mark.parametrize(("l_max", "correlation", "l_max_out"), [(2, 3, 2), (3, 3, 1), (1, 4, 3)])
def test_equivariant(l_max: int, correlation: int, l_max_out: int) -> None:
    layer = SymmetricContraction(l_max, correlation, 3, 2, l_max_out)
    x, species = torch.randn(5, (l_max + 1) ** 2, 3), torch.tensor([0, 1, 1, 0, 1])
    q = improper()
    turned, want = (
        layer(wigner_d(l_max, q) @ x, species),
        wigner_d(l_max_out, q) @ layer(x, species),
    )
    assert (turned - want).abs().max() < 1e-12 * want.abs().max()
    assert want.abs().amax((0, 2)).min() > 0.01


def test_is_the_sum_of_its_basis() -> None:
    layer = SymmetricContraction(2, 3, 4, 3, 1)
    x, species = torch.randn(6, 9, 4), torch.tensor([2, 0, 2, 2, 0, 0])
    want = torch.zeros(6, 4, 4)
    for path in range(len(layer.paths)):
        part = dense(layer, path).expand(6, 4, *dense(layer, path).shape)
        for _ in range(layer.paths[path][1]):
            part = torch.einsum("nc...i,nic->nc...", part, x)
        want += part.mT * layer.weight[species, path][:, None]
    assert (layer(x, species) - want).abs().max() < 1e-12 * want.abs().max()


def test_forces_can_be_trained() -> None:
    layer = SymmetricContraction(1, 3, 2, 2)

    def slope(x: Tensor, weight: Tensor) -> Tensor:
        arguments = x, torch.tensor([1, 0, 1])
        out = torch.func.functional_call(layer, {"weight": weight}, arguments)
        return torch.autograd.grad(out.square().sum(), x, create_graph=True)[0]

    leaves = torch.randn(3, 4, 2, requires_grad=True), layer.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(slope, leaves, rtol=1e-6, atol=1e-8)


def test_a_step_of_training_moves_the_weights_of_elements_that_occur() -> None:
    layer = SymmetricContraction(2, 2, 3, 3)
    layer(torch.randn(4, 9, 3), torch.tensor([2, 0, 2, 0])).square().sum().backward()
    slope = layer.weight.grad
    assert slope is not None
    assert (slope[1] == 0).all()
    assert (slope[[0, 2]] != 0).any(-1).all()


def test_remembered_coefficients_follow_the_weights() -> None:
    layer = SymmetricContraction(1, 2, 2, 2)
    x, species = torch.randn(3, 4, 2), torch.tensor([0, 1, 1])
    with torch.no_grad():
        first = layer(x, species)
        assert torch.equal(layer(x, species), first)
        layer.weight.data.mul_(2)  # a change that autograd's counter does not see
        assert torch.equal(layer(x, species), 2 * first)
        alone = layer(x[:1], species[:1])
    assert torch.equal(alone, 2 * first[:1])
    assert layer(x, species).requires_grad


def test_recent_runs_once() -> None:
    runs = []
    recent, x = Recent(), torch.randn(3)

    def double(x: Tensor) -> Tensor:
        runs.append(1)
        return 2 * x

    assert torch.equal(recent(double, x), recent(double, x.clone()))
    assert len(runs) == 1
    assert recent(double, x.float()).dtype == torch.float32
    assert recent(double, x.clone().requires_grad_()).requires_grad
    assert len(runs) == 3


def test_no_atoms_and_an_element_without_atoms() -> None:
    layer = SymmetricContraction(2, 3, 5, 4, 1)
    nobody = torch.zeros(0, dtype=torch.int64)
    assert layer(torch.randn(0, 9, 5), nobody).shape == (0, 4, 5)
    x = torch.randn(2, 9, 5)
    both = layer(x, torch.tensor([1, 3]))
    assert torch.allclose(both[1:], layer(x[1:], torch.tensor([3])), rtol=1e-13)


def test_the_order_of_magnitude_is_kept() -> None:
    out = SymmetricContraction(3, 3, 64, 1, 2)(torch.randn(500, 16, 64), torch.zeros(500).long())
    assert 0.5 < float(out.detach().std()) < 3


def test_compiles_whole() -> None:
    layer = SymmetricContraction(1, 2, 3, 2)
    x, species = torch.randn(4, 4, 3, requires_grad=True), torch.tensor([0, 1, 0, 0])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    results = [f(x, species) for f in (compiled, layer)]
    slopes = [torch.autograd.grad(r.square().sum(), x)[0] for r in results]
    assert (slopes[0] - slopes[1]).abs().max() < 1e-13


def test_refusals() -> None:
    layer = SymmetricContraction(1, 2, 3, 2)
    x, species = torch.randn(4, 4, 3), torch.tensor([0, 1, 0, 0])
    with pytest.raises(
        ValueError, match=r"SymmetricContraction\(x=...\)` must have shape \(n, 4, 3"
    ):
        layer(x[..., :2], species)
    with pytest.raises(ValueError, match=r"must have shape"):
        layer(x, species[:3])
    with pytest.raises(TypeError, match=r"species=...\)` must hold torch.int64"):
        layer(x, species.double())
    with pytest.raises(IndexError, match=r"species=...\)` must be from 0 to 1. Got 0 to 2"):
        layer(x, species * 2)
    with pytest.raises(TypeError, match=r"must have the dtype"):
        layer(x.float(), species)
    with pytest.raises(
        ValueError, match=r"SymmetricContraction\(correlation=...\)` must be at least"
    ):
        SymmetricContraction(1, 0, 3, 2)
