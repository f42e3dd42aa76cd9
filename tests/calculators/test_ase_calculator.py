"""The calculator against ASE's own Lennard-Jones, and inside of ASE's machinery."""

# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from torch import Tensor

from tensornet.calculators import PotentialCalculator
from tensornet.models import LennardJones, Potential, build, save

EPSILON, SIGMA, CUTOFF = 0.02, 3.2, 6.0
REFERENCES = {10: -3000.25, 18: -14000.5}


class AseSwitch(LennardJones):
    """Lennard-Jones with the switch of ASE's calculator, which is its oracle."""

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        r2 = vectors.square().sum(-1)
        rc2, ro2 = self.cutoff**2, (0.66 * self.cutoff) ** 2
        switch = (rc2 - r2) ** 2 * (rc2 + 2 * r2 - 3 * ro2) / (rc2 - ro2) ** 3
        switch = torch.where(r2 < ro2, 1.0, switch)
        s6 = (self.sigma**2 / r2) ** 3
        pair = 2 * self.epsilon * (s6 * s6 - s6) * switch
        return pair.new_zeros(len(species)).index_add(0, edge_index[1], pair)


def model(kind: type[LennardJones] = LennardJones, **changes: float) -> Potential:
    block = {"name": "lennard_jones", "epsilon": EPSILON, "sigma": SIGMA, "cutoff": CUTOFF}
    made = build(block | changes, elements=[10, 18], reference_energies=REFERENCES)
    if kind is not LennardJones:
        made.__class__ = kind
    return made


def oracle() -> AseLennardJones:
    return AseLennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF, smooth=True)


def cluster() -> Atoms:
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3), axis=-1).reshape(-1, 3)
    return Atoms("ArNe3Ar4", 3.5 * grid + 0.3 * rng.standard_normal((8, 3)))


def primitive() -> Atoms:
    atoms = bulk("Ar", a=4.9)
    atoms.set_cell(atoms.cell.array @ [[1, 0.05, 0], [0, 1, 0.03], [0, 0, 1.02]])
    return atoms


def skewed() -> Atoms:
    atoms = bulk("Ar", a=4.8, cubic=True)
    slant = np.array([[0, 0, 0], [1.1, 0, 0], [-0.9, 0.6, 0]])
    atoms.set_cell(atoms.cell.array + slant, scale_atoms=True)
    atoms.positions += 0.15 * np.random.default_rng(4).standard_normal((4, 3))
    atoms.positions[2] += 3 * atoms.cell.array[0]  # outside of the cell
    atoms.numbers[1] = 10
    return atoms


STRUCTURES = [pytest.param(make, id=make.__name__) for make in (cluster, primitive, skewed)]


@pytest.mark.parametrize("make", STRUCTURES)
def test_agrees_with_ase(make: Any) -> None:
    atoms, expected = make(), make()
    atoms.calc, expected.calc = PotentialCalculator(model(AseSwitch)), oracle()
    references = np.array([REFERENCES[z] for z in atoms.numbers])
    interaction = atoms.get_potential_energies() - references
    np.testing.assert_allclose(interaction, expected.get_potential_energies(), atol=1e-11)
    energy = atoms.get_potential_energy()
    # The sum is of 54,000 eV, of which float64 keeps 1e-11.
    assert energy - references.sum() == pytest.approx(expected.get_potential_energy(), abs=1e-10)
    assert energy == atoms.get_potential_energy(force_consistent=True)
    np.testing.assert_allclose(atoms.get_forces(), expected.get_forces(), atol=1e-13)
    if atoms.pbc.all():
        np.testing.assert_allclose(atoms.get_stress(), expected.get_stress(), atol=1e-14)
        np.testing.assert_allclose(atoms.get_stresses(), expected.get_stresses(), atol=1e-14)


@pytest.mark.parametrize("make", STRUCTURES)
def test_parts_add_up(make: Any) -> None:
    atoms = make()
    atoms.calc = PotentialCalculator(model())
    total = atoms.get_potential_energy()
    assert atoms.get_potential_energies().sum() == pytest.approx(total, rel=1e-14)
    if atoms.pbc.all():
        assert np.abs(atoms.get_stress()).max() > 1e-4
        np.testing.assert_allclose(atoms.get_stresses().sum(0), atoms.get_stress(), atol=1e-14)


def test_forces_and_stress_are_derivatives() -> None:
    atoms = skewed()
    # No references: they would cost six digits of the differences.
    own = build(model().config, elements=[10, 18], reference_energies={10: 0.0, 18: 0.0})
    atoms.calc = PotentialCalculator(own)
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    h = 2e-4

    def energy(strain: np.ndarray, push: np.ndarray) -> float:
        other = atoms.copy()
        other.positions += push
        other.set_cell(other.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        other.calc = atoms.calc
        return float(other.get_potential_energy())

    for i in range(3):
        push = np.zeros((4, 3))
        push[2, i] = h
        slope = (energy(np.zeros((3, 3)), push) - energy(np.zeros((3, 3)), -push)) / (2 * h)
        assert -slope == pytest.approx(forces[2, i], rel=1e-5)
        for j in range(3):
            strain = np.zeros((3, 3))
            strain[i, j] = h
            none = np.zeros((4, 3))
            slope = (energy(strain, none) - energy(-strain, none)) / (2 * h)
            assert slope / atoms.get_volume() == pytest.approx(stress[i, j], rel=2e-5, abs=1e-8)


def test_the_order_of_questions_does_not_matter() -> None:
    names = ["energy", "energies", "forces", "stress", "stresses", "free_energy"]
    answers = []
    for order in (names, names[::-1], names[2:] + names[:2]):
        atoms, calculator = skewed(), PotentialCalculator(model())
        atoms.calc = calculator
        answers.append({name: calculator.get_property(name, atoms) for name in order})
        atoms.positions[0] += 0.2
        moved = {name: calculator.get_property(name, atoms) for name in order[::-1]}
        atoms.positions[0] -= 0.2
        assert np.abs(moved["forces"] - answers[-1]["forces"]).max() > 1e-3
    for other in answers[1:]:
        for name in names:
            np.testing.assert_array_equal(other[name], answers[0][name])


def test_what_is_given_out_belongs_to_the_caller() -> None:
    atoms = skewed()
    atoms.calc = PotentialCalculator(model())
    first = atoms.get_forces()
    results = {name: np.copy(value) for name, value in atoms.calc.results.items()}
    for get in (atoms.get_forces, atoms.get_stress, atoms.get_stresses):
        get()[...] = 7.0
    atoms.get_potential_energies()[...] = 7.0
    for name, value in results.items():
        np.testing.assert_array_equal(atoms.calc.results[name], value)
    # Even who spoils `results` spoils one step only.
    atoms.calc.results["forces"][...] = 7.0
    atoms.rattle(0.01)
    atoms.positions[...] = skewed().positions
    atoms.calc.reset()
    np.testing.assert_array_equal(atoms.get_forces(), first)


def test_arrays_in_another_memory_order_are_read_rightly() -> None:
    atoms = skewed()
    atoms.calc = PotentialCalculator(model())
    other = Atoms(atoms.numbers, pbc=True)
    other.cell = type(atoms.cell)(np.asfortranarray(atoms.cell.array))
    other.arrays["positions"] = np.asfortranarray(atoms.positions)
    strided = np.full((8, 6), np.nan)
    strided[::2, ::2] = atoms.positions
    third = Atoms(atoms.numbers, pbc=True, cell=atoms.cell.array.T.copy().T)
    third.arrays["positions"] = strided[::2, ::2]
    for copied in (other, third):
        copied.calc = PotentialCalculator(model())
        np.testing.assert_array_equal(copied.get_forces(), atoms.get_forces())
        np.testing.assert_array_equal(copied.get_stress(), atoms.get_stress())
        copied.positions += 0.01  # once more, through the kept list
        np.testing.assert_allclose(copied.get_forces(), atoms.get_forces(), atol=1e-13)


def test_skin_changes_nothing_in_molecular_dynamics_with_wrapping() -> None:
    atoms = skewed() * (2, 1, 1)
    atoms.calc = PotentialCalculator(model(), skin=0.8)
    fresh = PotentialCalculator(model(), skin=0.0)
    atoms.set_velocities(0.03 * np.random.default_rng(5).standard_normal((8, 3)))
    run = VelocityVerlet(atoms, timestep=4 * units.fs)
    for step in range(60):
        run.run(1)
        if step % 2:
            atoms.wrap()
        other = atoms.copy()
        other.calc = fresh
        np.testing.assert_allclose(atoms.get_forces(), other.get_forces(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(atoms.get_stress(), other.get_stress(), rtol=0, atol=1e-12)
        interaction = atoms.get_potential_energies() - other.get_potential_energies()
        assert np.abs(interaction).max() < 1e-11  # of 14,000 eV
    assert fresh.n_builds == 60
    assert 2 <= atoms.calc.n_builds < 15


def test_relaxation_of_a_cell_with_a_kept_list_finds_the_minimum() -> None:
    atoms = skewed()
    atoms.calc = PotentialCalculator(model(), skin=1.0)
    with_cell: Any = FrechetCellFilter(atoms)
    relaxation = BFGS(with_cell, logfile=None)
    assert relaxation.run(fmax=5e-4, steps=100)
    assert atoms.calc.n_builds < relaxation.nsteps / 5
    assert np.abs(atoms.get_stress()).max() < 2e-5  # of 0.01 at the start
    # A new calculator agrees that this is a minimum.
    atoms.calc = PotentialCalculator(model(), skin=0.0)
    assert np.abs(atoms.get_forces()).max() < 6e-4
    assert np.abs(atoms.get_stress()).max() < 2e-5


def test_langevin_and_energy_conservation() -> None:
    atoms = bulk("Ar", a=5.1, cubic=True) * (2, 1, 1)
    atoms.calc = PotentialCalculator(model())
    rng = np.random.default_rng(6)
    Langevin(
        atoms,
        timestep=4 * units.fs,
        temperature_K=60,
        friction=0.05 / units.fs,
        fixcm=False,
        rng=rng,
    ).run(60)
    energies = []
    run = VelocityVerlet(atoms, timestep=2 * units.fs)
    run.attach(lambda: energies.append(atoms.get_total_energy()))
    run.run(100)
    kinetic = atoms.get_kinetic_energy()
    assert kinetic > 0.01
    assert np.ptp(energies) < 2e-3 * kinetic


def test_a_committee_is_mean_and_spread() -> None:
    members = [model(epsilon=e, cutoff=c) for e, c in ((0.02, 6.0), (0.021, 5.0), (0.025, 6.5))]
    atoms = skewed()
    atoms.calc = PotentialCalculator(members)
    alone = []
    for member in members:
        other = skewed()
        other.calc = PotentialCalculator(member)
        other.get_forces()
        alone.append(other.calc.results)
    atoms.get_forces()
    for name in ("energy", "energies", "forces", "stress", "stresses", "free_energy"):
        expected = np.mean([results[name] for results in alone], axis=0)
        np.testing.assert_allclose(atoms.calc.results[name], expected, rtol=0, atol=1e-11)
    for name, shape in (("energy", ()), ("forces", (4, 3)), ("stress", (6,))):
        expected = np.std([results[name] for results in alone], axis=0)
        assert expected.shape == shape
        np.testing.assert_allclose(atoms.calc.results[f"{name}_std"], expected, rtol=1e-9)
    assert isinstance(atoms.calc.results["energy_std"], float)
    properties = atoms.calc.calculate_properties(atoms, ["energy", "forces"])
    assert properties["energy"] == atoms.get_potential_energy()


def test_a_committee_of_a_molecule_has_no_stress() -> None:
    atoms = cluster()
    atoms.calc = PotentialCalculator([model(), model(epsilon=0.03)])
    atoms.get_forces()
    assert {"energy_std", "forces_std"} <= set(atoms.calc.results)
    assert not {"stress", "stress_std", "stresses"} & set(atoms.calc.results)


def test_one_model_in_a_list_has_no_spread() -> None:
    atoms = cluster()
    atoms.calc = PotentialCalculator([model()])
    atoms.get_forces()
    assert "energy_std" not in atoms.calc.results


def test_stress_needs_three_periodic_directions() -> None:
    atoms = skewed()
    atoms.pbc = (True, True, False)
    atoms.calc = PotentialCalculator(model())
    assert np.isfinite(atoms.get_forces()).all()
    for get in (atoms.get_stress, atoms.get_stresses):
        with pytest.raises(PropertyNotImplementedError, match=r"periodic in three.*True, False\]"):
            get()
    atoms.pbc = True
    assert atoms.get_stress().shape == (6,)


def test_one_atom_is_its_reference() -> None:
    atoms = Atoms("Ar")
    atoms.calc = PotentialCalculator(model())
    assert atoms.get_potential_energy() == REFERENCES[18]
    np.testing.assert_array_equal(atoms.get_forces(), np.zeros((1, 3)))


def test_a_file_is_as_good_as_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(model(), path)
    atoms, other, third = skewed(), skewed(), skewed()
    atoms.calc, other.calc = PotentialCalculator(model()), PotentialCalculator(path)
    third.calc = PotentialCalculator([str(path), model()], dtype="float32")
    np.testing.assert_array_equal(atoms.get_forces(), other.get_forces())
    np.testing.assert_allclose(third.get_forces(), atoms.get_forces(), atol=2e-6)
    assert third.calc.models[0].dtype == torch.float32
    assert third.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)


def test_the_model_is_left_as_it_was() -> None:
    own = model().to(torch.float32).train()
    atoms = skewed()
    atoms.calc = PotentialCalculator(own)
    before = atoms.get_forces()
    assert own.training
    assert own.dtype == torch.float32
    assert all(p.requires_grad for p in own.parameters())
    with torch.no_grad():
        next(own.parameters()).mul_(2)
    atoms.calc.reset()
    np.testing.assert_array_equal(atoms.get_forces(), before)


def test_results_survive_a_file(tmp_path: Path) -> None:
    atoms = skewed()
    atoms.calc = PotentialCalculator([model(), model(epsilon=0.03)])
    forces = atoms.get_forces()
    write(tmp_path / "x.extxyz", atoms)
    again: Any = read(tmp_path / "x.extxyz")
    np.testing.assert_allclose(again.get_forces(), forces, atol=1e-7)
    assert again.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
