"""The model for ML-IAP, given the pairs and ghosts that LAMMPS would give it."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from typer.testing import CliRunner

from tensornet.__main__ import app
from tensornet.calculators import LammpsMLIAP, PotentialCalculator
from tensornet.models import Potential, save

Named = Callable[[str], Potential]


def crystal() -> Atoms:
    atoms: Atoms = bulk("Si", cubic=True)
    slant = np.array([[0, 0, 0], [0.9, 0, 0], [0.4, -0.7, 0]])
    atoms.set_cell(atoms.cell.array + slant, scale_atoms=True)
    atoms.positions += 0.1 * np.random.default_rng(0).standard_normal((8, 3))
    atoms.numbers[::3] = 32
    return atoms


class Data:
    """What `MLIAPDataPy` of LAMMPS gives and takes, for one process and its ghosts.

    Own atoms stand first and ghosts behind them; with `ghosts`, pairs of ghosts follow those of
    own atoms. Some attributes can only be set, as those of LAMMPS.
    """

    def __init__(self, atoms: Atoms, cutoff: float, reach: float, *, ghosts: bool) -> None:
        n = len(atoms)
        shifts = np.array(list(np.ndindex(9, 9, 9))) - 4
        shifts = shifts[np.argsort(np.abs(shifts).sum(1), kind="stable")]  # the own cell is first
        every = (atoms.positions + (shifts @ atoms.cell.array)[:, None]).reshape(-1, 3)
        distance = np.linalg.norm(every[:, None] - atoms.positions, axis=-1).min(1)
        kept = np.flatnonzero(distance < reach)
        self.owner = kept % n
        positions = every[kept]
        cluster = Atoms(positions=positions)
        i, j, vector = neighbor_list("ijD", cluster, cutoff)
        if not ghosts:
            i, j, vector = i[i < n], j[i < n], vector[i < n]
        self.ntotal, self.nlistatoms, self.npairs = len(kept), n, len(i)
        self.iatoms = np.arange(n, dtype=np.int32)
        self.pair_i, self.pair_j, self.rij = i.astype(np.int32), j.astype(np.int32), vector
        self.elems = np.where(atoms.numbers == 14, 0, 1)[self.owner].astype(np.int32)
        self.f = np.zeros((len(kept), 3))
        self.virial = np.zeros((3, 3))
        self.found: dict[str, Any] = {}

    eatoms = property(None, lambda self, x: self.found.__setitem__("eatoms", np.array(x)))
    energy = property(None, lambda self, x: self.found.__setitem__("energy", float(x)))

    def update_pair_forces(self, f: Any) -> None:
        assert f.shape == self.rij.shape
        assert f.flags.c_contiguous
        np.add.at(self.f, self.pair_i, f)
        np.subtract.at(self.f, self.pair_j, f)
        self.virial -= self.rij.T @ f  # as `PairMLIAP::v_tally` counts

    def forces(self) -> Any:
        """Forces of ghosts go back to their owners."""
        total = np.zeros((self.nlistatoms, 3))
        np.add.at(total, self.owner, self.f)
        return total


@pytest.mark.parametrize("name", ["lennard_jones", "gaunt", "tdn"])
def test_agrees_with_ase(potential: Named, name: str) -> None:
    model, atoms = potential(name), crystal()
    unified = LammpsMLIAP(model, ["Si", "Ge"])
    data = Data(atoms, 2 * unified.rcutfac, unified.communication(0.0), ghosts=True)
    unified.compute_descriptors(data)
    unified.compute_gradients(data)
    unified.compute_forces(data)
    atoms.calc = PotentialCalculator(model)
    assert data.found["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(data.found["eatoms"], atoms.get_potential_energies(), atol=1e-10)
    np.testing.assert_allclose(data.forces(), atoms.get_forces(), rtol=0, atol=1e-10)
    stress = -data.virial / atoms.get_volume()
    want = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(stress, want, rtol=0, atol=1e-10)
    # Ghosts that reach less far give other forces: the reach that is asked for is needed.
    near = Data(atoms, 2 * unified.rcutfac, 0.6 * unified.communication(0.0), ghosts=True)
    unified.compute_forces(near)
    assert np.abs(near.forces() - atoms.get_forces()).max() > 1e-8


def test_attributes_that_lammps_reads(potential: Named) -> None:
    unified = LammpsMLIAP(potential("gaunt"))
    assert unified.element_types == ["Si", "Ge"]
    assert 2 * unified.rcutfac == 3.0
    assert (unified.ndescriptors, unified.nparams) == (1, 1)
    assert unified.communication() == 8.0
    unified.interface = object()


def test_file(potential: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, atoms = potential("gaunt"), crystal()
    save(model, tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    LammpsMLIAP("model.safetensors", ["Ge", "Si"]).write("model.pickle")
    assert Path("model.pickle").stat().st_size < 1000
    result = CliRunner().invoke(app, ["mliap", "model.safetensors", "--out", "other.pickle"])
    assert result.exit_code == 0, result.output
    assert "pair_coeff * * Si Ge\ncomm_modify cutoff 8" in result.output
    assert Path("other.pickle").is_file()
    result = CliRunner().invoke(app, ["mliap", "none.safetensors"])
    assert result.exit_code == 2
    monkeypatch.chdir("/")
    unified = pickle.loads((tmp_path / "model.pickle").read_bytes())
    assert unified.element_types == ["Ge", "Si"]
    data = Data(atoms, 3.0, unified.communication(), ghosts=True)
    data.elems = 1 - data.elems
    unified.compute_forces(data)
    atoms.calc = PotentialCalculator(model)
    assert data.found["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


def test_a_process_without_atoms_and_atoms_without_neighbours(potential: Named) -> None:
    unified = LammpsMLIAP(potential("gaunt"))
    data = Data(Atoms("Si", cell=[30, 30, 30], pbc=True), 3.0, 1.0, ghosts=True)
    unified.compute_forces(data)
    assert data.found["energy"] == pytest.approx(-10.5, abs=1e-12)
    data.nlistatoms = data.npairs = 0
    unified.compute_forces(data)
    assert data.found["energy"] == 0


def test_refusals(potential: Named, tmp_path: Path) -> None:
    unified = LammpsMLIAP(potential("gaunt"))
    data = Data(crystal(), 3.0, 6.0, ghosts=False)
    with pytest.raises(ValueError, match="must ask for the neighbours of ghost atoms"):
        unified.compute_forces(data)
    data = Data(crystal(), 3.0, 6.0, ghosts=True)
    data.elems[0] = -1
    with pytest.raises(ValueError, match="Got NULL"):
        unified.compute_forces(data)
    data = Data(crystal(), 3.0, 6.0, ghosts=True)
    data.rij[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        unified.compute_forces(data)
    with pytest.raises(ValueError, match="came from a file"):
        unified.write(tmp_path / "model.pickle")
    with pytest.raises(ValueError, match=r"\.pt"):
        unified.write(tmp_path / "model.pt")
    with pytest.raises(ValueError, match="Got \\['Xe'\\]"):
        LammpsMLIAP(potential("gaunt"), ["Xe"])


@pytest.mark.parametrize("name", ["lennard_jones", "gaunt", "tdn"])
def test_energies_reach_as_far_as_the_model_says(potential: Named, name: str) -> None:
    """A chain of atoms: the energy of the first feels exactly `n_hops` edges."""
    model = potential(name).eval()
    n, hops = 8, model.n_hops
    chain = torch.arange(n - 1)
    edges = torch.stack([torch.cat([chain + 1, chain]), torch.cat([chain, chain + 1])])
    step = torch.tensor([1.5, 0.4, 0.3])
    step = step + 0.2 * torch.randn(n - 1, 3)
    vectors = torch.cat([step, -step])
    vectors.requires_grad_()
    species = torch.zeros(n, dtype=torch.int64)
    (g,) = torch.autograd.grad(model.interaction_energies(species, edges, vectors)[0], vectors)
    felt = g[: n - 1].norm(dim=1) > 0  # edges that end at atom k and come from k + 1
    assert felt.tolist() == [k < hops for k in range(n - 1)]
