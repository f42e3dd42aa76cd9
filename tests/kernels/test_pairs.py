"""Lengths, envelopes and repulsion of edges, against the layers."""

import numpy as np
import pytest
import torch

from tensornet.atoms import COULOMB
from tensornet.kernels.pairs.cpu import Edges
from tensornet.layers import ZBL, level_out, polynomial_envelope
from tensornet.layers.radial import FLAT

CUTOFF = 4.0
ELEMENTS = [1, 8]
START = torch.tensor([[0.0, 1.4], [1.4, 2.0]], dtype=torch.float64)


def edges(e: int = 40, n: int = 5) -> tuple[torch.Tensor, ...]:
    directions = torch.nn.functional.normalize(torch.randn(e, 3), dim=1)
    vectors = directions * torch.linspace(0.3, 3.99, e)[:, None]
    return vectors, torch.randint(n, (e,)), torch.randint(n, (e,)), torch.arange(n) % 2


def tables() -> tuple[np.ndarray, np.ndarray]:
    zbl = ZBL(ELEMENTS)
    reach = torch.maximum(zbl.range, START)
    pairs = torch.stack([START, reach, COULOMB * zbl.z[:, None] * zbl.z, zbl.screening], -1)
    terms = np.array([ZBL.coefficients, ZBL.exponents]).T.copy()
    return pairs.view(-1, 4).numpy(), terms


def measured(
    vectors: torch.Tensor, s: torch.Tensor, r: torch.Tensor, species: torch.Tensor
) -> Edges:
    found = Edges(len(species), len(s), 4, np.float64)
    given = (vectors.numpy(), s.numpy(), r.numpy(), species.numpy())
    found.measure(*given, *tables(), FLAT, CUTOFF)
    return found


def test_measures_what_the_layers_do() -> None:
    vectors, s, r, species = edges()
    found = measured(vectors, s, r, species)
    order = torch.argsort(r, stable=True)
    assert found.total == len(s)
    np.testing.assert_array_equal(found.chosen, order)
    np.testing.assert_array_equal(found.starts[1:], r.bincount(minlength=5).cumsum(0))
    vectors, s, r = vectors[order], s[order], r[order]
    np.testing.assert_array_equal(found.ends, torch.stack([s, r]))
    np.testing.assert_array_equal(found.vectors, vectors)
    d = vectors.norm(dim=1).requires_grad_()
    level = level_out(d, START[species[s], species[r]])
    envelope = polynomial_envelope(level / CUTOFF)
    repulsion = ZBL(ELEMENTS)(species, torch.stack([s, r]), d, START)
    (level_slope,) = torch.autograd.grad(level.sum(), d, retain_graph=True)
    (fall,) = torch.autograd.grad(envelope.sum(), level, retain_graph=True)
    (push,) = torch.autograd.grad(repulsion.sum(), d)
    wanted = torch.stack([d, level, level_slope, envelope, fall, push]).detach()
    np.testing.assert_allclose(found.numbers, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found.pair, 2 * species[s] + species[r])
    sums = torch.zeros(5).index_add(0, r, envelope.detach())
    np.testing.assert_allclose(found.sums, torch.stack([sums, repulsion.detach()]), rtol=1e-12)
    assert (push < -1).sum() > 3
    assert (level_slope < 0.9).sum() > 3


def test_long_edges_are_left_out() -> None:
    vectors, s, r, species = edges()
    longer = torch.arange(40) % 3 == 0
    vectors[longer] = torch.tensor([0.0, CUTOFF, 0.0])  # not below the cutoff
    found = measured(vectors, s, r, species)
    wanted = measured(vectors[~longer], s[~longer], r[~longer], species)
    n = wanted.total
    assert found.total == n == 26
    for name in ("starts", "sums"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    np.testing.assert_array_equal(found.numbers[:, :n], wanted.numbers)
    np.testing.assert_array_equal(found.vectors[:n], wanted.vectors[:n])
    for some in (found, wanted):
        some.along[:], some.across[:] = 1.0, 0.0
    gradients, forces, virials = found.receive(5, 40)
    np.testing.assert_array_equal(gradients, (~longer)[:, None].numpy() * np.ones(3))
    for x, y in zip((forces, virials), wanted.receive(5, n)[1:], strict=True):
        np.testing.assert_array_equal(x, y)


def test_collects_and_receives_what_autograd_does() -> None:
    vectors, s, r, species = edges()
    found = measured(vectors, s, r, species)
    order = torch.argsort(r, stable=True)
    in_order, r_in_order = vectors[order], r[order]
    _, _, slope, envelope, fall, push = torch.from_numpy(found.numbers)
    of_atoms, weights, g, y = (torch.randn(*k) for k in ((2, 5), (40,), (40, 4), (40, 4)))
    across = torch.randn(40, 3)
    given = g.numpy().copy()
    found.angular[:], found.across[:] = y, across
    found.collect(of_atoms.numpy(), weights.numpy(), given)
    np.testing.assert_allclose(given, g * envelope[:, None], rtol=1e-14)
    along = weights + fall * (of_atoms[0, r_in_order] + (g * y).sum(1))
    along = along * slope + push * of_atoms[1, r_in_order]
    unit = in_order / in_order.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(found.along, along[:, None] * unit, rtol=1e-12, atol=1e-12)

    out = torch.empty(40, 3).index_copy(0, order, along[:, None] * unit + across)
    positions, strain = torch.zeros(5, 3, requires_grad=True), torch.zeros(3, 3, requires_grad=True)
    moved = positions[s] - positions[r] + vectors @ (torch.eye(3) + (strain + strain.T) / 2)
    down, virial = torch.autograd.grad((moved * out).sum(), (positions, strain))
    gradients, forces, virials = found.receive(5, 40)
    np.testing.assert_allclose(gradients, out, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(forces, -down, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(virials.sum(0), virial, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("which", "wrong"), [(1, 5), (1, -1), (2, 5), (2, -1), (3, 2), (3, -1)])
def test_refuses_atoms_and_species_that_are_not_there(which: int, wrong: int) -> None:
    given = edges()
    given[which][-1] = wrong
    name, most = (("sender", 4), ("receiver", 4), ("species", 1))[which - 1]
    message = rf"`measure\({name}=...\)` must be from 0 to {most}. Got .*{wrong}"
    with pytest.raises(IndexError, match=message):
        measured(*given)


def test_no_edges() -> None:
    found = measured(*edges(0))
    assert found.total == 0
    assert not found.sums.any()
    gradients, forces, virials = found.receive(5, 0)
    assert gradients.shape == (0, 3)
    assert not forces.any()
    assert not virials.any()
