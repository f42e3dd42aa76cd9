"""Lengths, envelopes and repulsion of edges, against the layers."""

import numpy as np
import pytest
import torch

from tensornet.kernels.pairs.cpu import collect, measure, receive
from tensornet.layers import ZBL, level_out, polynomial_envelope
from tensornet.layers.energy import COULOMB
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


def test_measures_what_the_layers_do() -> None:
    vectors, s, r, species = edges()
    given = (vectors.numpy(), s.numpy(), r.numpy(), species.numpy())
    of_edges, pair, of_atoms = measure(*given, *tables(), FLAT, CUTOFF)
    d = vectors.norm(dim=1).requires_grad_()
    level = level_out(d, START[species[s], species[r]])
    envelope = polynomial_envelope(level / CUTOFF)
    repulsion = ZBL(ELEMENTS)(species, torch.stack([s, r]), d, START)
    (level_slope,) = torch.autograd.grad(level.sum(), d, retain_graph=True)
    (fall,) = torch.autograd.grad(envelope.sum(), level, retain_graph=True)
    (push,) = torch.autograd.grad(repulsion.sum(), d)
    wanted = torch.stack([d, level, level_slope, envelope, fall, push]).detach()
    np.testing.assert_allclose(of_edges, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(pair, 2 * species[s] + species[r])
    sums = torch.zeros(5).index_add(0, r, envelope.detach())
    np.testing.assert_allclose(of_atoms, torch.stack([sums, repulsion.detach()]), rtol=1e-12)
    assert (push < -1).sum() > 3
    assert (level_slope < 0.9).sum() > 3


def test_collects_and_receives_what_autograd_does() -> None:
    vectors, s, r, species = edges()
    given = (vectors.numpy(), s.numpy(), r.numpy(), species.numpy())
    of_edges, _, _ = measure(*given, *tables(), FLAT, CUTOFF)
    _, _, slope, _, fall, push = torch.from_numpy(of_edges)
    of_atoms, weights, g, y = (torch.randn(*k) for k in ((2, 5), (40,), (40, 4), (40, 4)))
    out = torch.zeros(40, 3)
    numbers = (x.numpy() for x in (of_atoms, weights, g, y, out))
    collect(given[0], given[2], of_edges, *numbers)
    along = (weights + fall * (of_atoms[0, r] + (g * y).sum(1))) * slope + push * of_atoms[1, r]
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    torch.testing.assert_close(out, along[:, None] * unit, rtol=1e-12, atol=1e-12)

    positions, strain = torch.zeros(5, 3, requires_grad=True), torch.zeros(3, 3, requires_grad=True)
    moved = positions[s] - positions[r] + vectors @ (torch.eye(3) + (strain + strain.T) / 2)
    down, virial = torch.autograd.grad((moved * out).sum(), (positions, strain))
    forces, virials = receive(given[0], out.numpy(), given[1], given[2], 5)
    np.testing.assert_allclose(forces, -down, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(virials.sum(0), virial, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("which", "wrong"), [(1, 5), (1, -1), (2, 5), (2, -1), (3, 2), (3, -1)])
def test_refuses_atoms_and_species_that_are_not_there(which: int, wrong: int) -> None:
    given = edges()
    given[which][-1] = wrong
    vectors, s, r, species = (x.numpy() for x in given)
    with pytest.raises(IndexError, match="must be from 0 to"):
        measure(vectors, s, r, species, *tables(), FLAT, CUTOFF)


def test_no_edges() -> None:
    vectors, s, r, species = edges(0)
    of_edges, pair, of_atoms = measure(
        vectors.numpy(), s.numpy(), r.numpy(), species.numpy(), *tables(), FLAT, CUTOFF
    )
    assert of_edges.shape == (6, 0)
    assert not len(pair)
    assert not of_atoms.any()
