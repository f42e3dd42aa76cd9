"""Updates of low rank: only factors are trained, and merging changes nothing."""

from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from torch import nn

from tensornet.atoms import graph
from tensornet.layers import EquivariantLinear
from tensornet.models import Potential, build
from tensornet.models.low_rank import LowRankUpdate, add_low_rank, merged

SMALL = {"cutoff": 3.0, "channels": 8, "layers": 1, "n_basis": 4, "radial_hidden": 8}


@pytest.fixture(params=["gaunt", "tdn"])
def model(request: pytest.FixtureRequest) -> Potential:
    config: dict[str, Any] = {**SMALL, "name": request.param, "l_max": 1}
    return build(config, elements=[1, 6, 8], reference_energies={1: 0.0, 6: 0.0, 8: 0.0}, seed=3)


@pytest.fixture
def ethanol() -> Any:
    atoms: Atoms = molecule("CH3CH2OH")
    return graph(atoms, 3.0)


def test_a_model_with_updates(model: Potential, ethanol: Any) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    first = model(ethanol)["energy"].detach()
    chosen = add_low_rank(model, 2)
    assert {n for n, p in before.items() if p.ndim > 1} == set(chosen)
    assert any("radial" in name for name in chosen)
    assert torch.equal(model(ethanol)["energy"].detach(), first)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(".factors." in name for name in trained)
    assert 0 < model.n_parameters < sum(p.numel() for p in before.values()) / 2
    optimizer = torch.optim.Adam(trained.values(), lr=0.05)
    for _ in range(2):  # at first only the last factor of each update has a gradient
        optimizer.zero_grad()
        said = model(ethanol)
        (said["energy"].square().sum() + said["forces"].square().sum()).backward()
        optimizer.step()
    assert all(p.grad is not None for p in trained.values())
    model.eval()
    plain = merged(model)
    one, other = model(ethanol), plain(ethanol)
    assert float(one["energy"]) != pytest.approx(float(first), rel=1e-4)
    for name in ("energy", "forces", "virial"):
        assert torch.allclose(one[name], other[name], rtol=1e-12, atol=1e-12)
    assert set(plain.state_dict()) == set(
        build(
            model.config, elements=model.elements, reference_energies=model.reference_energies
        ).state_dict()
    )
    assert all(p.requires_grad for p in plain.parameters())
    for name, p in plain.named_parameters():
        moved = p.detach() - before[name]
        if p.ndim == 1:
            assert not moved.any(), name
        elif p.ndim == 2 and min(p.shape) > 2:
            values = torch.linalg.svdvals(moved)
            assert values[2] < 1e-12 * values[0].clamp(min=1e-9), name
    assert merged(plain) is plain
    assert torch.equal(model(ethanol)["energy"], one["energy"])  # and the model is as it was


def test_an_update_is_a_cp_tensor() -> None:
    update = LowRankUpdate((3, 5, 4), 2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        update.factors[2].normal_()
    a, b, c = update.factors
    assert torch.allclose(
        update(torch.zeros(3, 5, 4)), torch.einsum("ir,jr,kr->ijk", a, b, c), atol=1e-14
    )
    assert [f.shape[1] for f in LowRankUpdate((2, 9), 4, torch.Generator()).factors] == [2, 2]


def test_skipped_and_nothing_left() -> None:
    layer = nn.Sequential(EquivariantLinear(1, 4, 4), nn.Linear(4, 4))
    assert add_low_rank(layer, 1, skip=["1.weight"]) == ["0.weight"]
    assert not layer[1].weight.requires_grad
    with pytest.raises(ValueError, match=r"a weight to update. Got none"):
        add_low_rank(nn.Linear(2, 2), 1, skip=["weight"])
    with pytest.raises(ValueError, match="must have no updates yet"):
        add_low_rank(layer, 1)
    with pytest.raises(ValueError, match="must have two modes"):
        LowRankUpdate((3,), 1, torch.Generator())
