import math

import pytest
import torch

from tensornet.layers import ZBL, BindingShift


def test_zbl_is_the_published_formula() -> None:
    """Carbon and oxygen at 0.5 Å, by hand."""
    zbl = ZBL([6, 8])
    r = 0.5
    a = 0.46850 / (6**0.23 + 8**0.23)
    terms = [(0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162)]
    phi = sum(c * math.exp(-e * r / a) for c, e in terms)
    bare = 14.399645 * 48 / r * phi
    x = r / (0.76 + 0.66)
    envelope = 1 - 84 * x**6 + 216 * x**7 - 189 * x**8 + 56 * x**9
    edges = torch.tensor([[0, 1], [1, 0]])
    energies = zbl(torch.tensor([0, 1]), edges, torch.tensor([r, r]))
    assert float(energies.sum()) == pytest.approx(bare * envelope, rel=1e-6)
    assert energies[0] == energies[1]


def test_zbl_ends_where_bonds_begin() -> None:
    zbl = ZBL([1])
    edges = torch.tensor([[0, 1], [1, 0]])
    species = torch.tensor([0, 0])
    assert not zbl(species, edges, torch.tensor([0.62, 0.62])).any()
    near, nearer = (float(zbl(species, edges, torch.full((2,), r)).sum()) for r in (0.3, 0.2))
    assert nearer > near > 0


def test_binding_shift() -> None:
    shift = BindingShift([1, 8], {1: -2.0, 8: -5.0})
    species = torch.tensor([0, 1, 1])
    receiver = torch.tensor([0] * 10 + [1])
    envelope = torch.cat([torch.ones(10), torch.tensor([1e-3])])
    out = shift(species, receiver, envelope)
    assert float(out[0]) == pytest.approx(-2.0, rel=1e-8)
    assert float(out[1]) == pytest.approx(-5.0 * 2e-3, rel=1e-2)
    assert float(out[2]) == 0
