"""A network is not asked about contacts closer than it has seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from tensornet.atoms import graph
from tensornet.models import Potential, build, load, save
from tensornet.models.network import Network
from tensornet.train.statistics import statistics

NAMES = ("gaunt", "tdn")
SMALL: dict[str, Any] = {"channels": 8, "radial_hidden": 8, "n_basis": 6, "cutoff": 4.0}
SEEN = {(1, 1): 1.5, (1, 6): 1.0, (6, 6): 1.3}


def make(name: str, closest: dict[tuple[int, int], float] | None, **settings: Any) -> Network:
    made = build(
        {"name": name, **SMALL, **settings},
        elements=(1, 6), reference_energies={1: -13.0, 6: -1000.0}, closest=closest, seed=1,
    )  # fmt: skip
    assert isinstance(made, Network)
    with torch.no_grad():  # as wild as training can make it
        for parameter in made.parameters():
            parameter.mul_(1.5)
    return made.eval()


def energy(model: Potential, atoms: Atoms) -> float:
    return float(model(graph(atoms, model.cutoff), forces=False)["interaction_energy"])


def pair(symbols: str, d: float) -> Atoms:
    return Atoms(symbols, [[0, 0, 0], [d, 0, 0]])


@pytest.mark.parametrize("name", NAMES)
def test_closer_than_seen_only_repulsion_changes(name: str) -> None:
    model = make(name, SEEN)
    for symbols, key in (("H2", (1, 1)), ("CH", (1, 6)), ("C2", (6, 6))):
        without = make(name, SEEN, repulsion=False)
        flat = [energy(without, pair(symbols, x * SEEN[key])) for x in (0.2, 0.4, 0.6, 0.67)]
        np.testing.assert_allclose(flat, flat[0], rtol=0, atol=1e-9)
        falling = [energy(model, pair(symbols, x * SEEN[key])) for x in (0.2, 0.4, 0.6, 0.67)]
        assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("name", NAMES)
def test_at_seen_distances_nothing_changes(name: str) -> None:
    free, bound = make(name, None), make(name, SEEN)
    atoms = Atoms("CH2", [[0, 0, 0], [1.08, 0, 0], [-0.6, 1.5, 0.2]])
    assert energy(free, atoms) == energy(bound, atoms)
    assert energy(free, pair("H2", 1.0)) != energy(bound, pair("H2", 1.0))
    off = make(name, SEEN, contact=0)
    assert energy(free, pair("H2", 1.0)) == energy(off, pair("H2", 1.0))


def test_files_keep_it_and_old_files_have_none(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    model = make("gaunt", SEEN)
    save(model, tmp_path / "new.safetensors")
    again = load(tmp_path / "new.safetensors")
    assert isinstance(again, Network)
    assert torch.equal(again.closest, model.closest)
    assert energy(again.eval(), pair("H2", 0.9)) == energy(model, pair("H2", 0.9))
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys() if not k.endswith("closest")}  # noqa: SIM118
        about = file.metadata()
    assert len(tensors) == len(model.state_dict()) - 1
    save_file(tensors, tmp_path / "old.safetensors", metadata=about)
    old = load(tmp_path / "old.safetensors")
    assert energy(old.eval(), pair("H2", 0.9)) == energy(make("gaunt", None), pair("H2", 0.9))


def test_statistics_find_the_closest_contacts() -> None:
    rng = np.random.default_rng(0)
    frames = [Atoms("CH3OH", rng.uniform(0, 4, (6, 3)), cell=[5] * 3, pbc=k) for k in (True, False)]
    frames = [
        a for a in frames if a.get_all_distances(mic=True)[~np.eye(6, dtype=bool)].min() > 0.1
    ]
    assert frames
    graphs = []
    for atoms in frames:
        data = graph(atoms, 2.4)
        data.interaction_energy, data.forces = torch.zeros(1), torch.ones(6, 3)
        graphs.append(data)
    found = statistics(graphs, 2.4).closest
    assert list(found) == ["H-H", "H-C", "H-O", "C-C", "C-O", "O-O"]
    for key, distance in found.items():
        a, b = key.split("-")
        expected = 2.4
        for atoms in frames:
            every = atoms.get_all_distances(mic=True)
            symbols = np.array(atoms.get_chemical_symbols())
            mask = (symbols[:, None] == a) & (symbols == b) & ~np.eye(6, dtype=bool)
            expected = min([expected, *every[mask]])
        assert distance == pytest.approx(expected, abs=1e-12)


def test_fine_tuning_has_seen_what_both_have() -> None:
    model = make("gaunt", {(1, 1): 2.0, (1, 6): 0.9, (6, 6): 1.3})
    model.begin_from(make("gaunt", SEEN))
    assert torch.equal(model.closest, torch.tensor([[1.5, 0.9], [0.9, 1.3]]).to(model.closest))
