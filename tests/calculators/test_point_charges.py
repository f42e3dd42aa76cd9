"""Point charges in ASE: Madelung's energies, derivatives by differences, three methods alike."""

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet

from tensornet.calculators import PointChargeCalculator
from tensornet.functional import COULOMB


def cluster(n: int = 12, *, pbc: bool | list[bool] = False) -> Atoms:
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), -1).reshape(-1, 3)[:n] * 2.2
    atoms = Atoms(f"C{n}", places + 0.3 * rng.normal(size=(n, 3)), cell=[7.0, 6.8, 7.4], pbc=pbc)
    charges = rng.normal(size=n)
    atoms.set_initial_charges(charges - charges.mean())
    return atoms


def test_salts() -> None:
    for name, structure, constant, nearest in (
        ("NaCl", "rocksalt", 1.74756459463, 0.5),
        ("CsCl", "cesiumchloride", 1.76267477307, 3**0.5 / 2),
        ("ZnS", "zincblende", 1.63805505339, 3**0.5 / 4),
    ):
        atoms: Any = bulk(name, structure, a=5.1)
        first, second = atoms.get_chemical_symbols()
        for repeated in (atoms, atoms.repeat((2, 1, 1))):
            repeated.calc = PointChargeCalculator({first: 2.0, second: -2.0}, tolerance=1e-10)
            pairs = len(repeated) / 2
            expected = -4 * pairs * constant * COULOMB / (5.1 * nearest)
            assert repeated.get_potential_energy() == pytest.approx(expected, rel=1e-9)
            # Of an energy that goes with 1/length: the trace of the stress is -E/V.
            stress = repeated.get_stress()
            volume = repeated.get_volume()
            np.testing.assert_allclose(stress[:3], -expected / volume / 3, rtol=1e-8)
            np.testing.assert_allclose(repeated.get_stresses().sum(0), stress, atol=1e-12)
        potentials = repeated.calc.results["potentials"]
        assert np.dot(potentials, [2.0, -2.0] * 2) / 2 == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("pbc", [False, True, [True, True, False]], ids=["free", "bulk", "slab"])
@pytest.mark.parametrize("smearing", [0.0, 0.5])
def test_forces_and_stress_by_differences(pbc: bool | list[bool], smearing: float) -> None:
    atoms = cluster(pbc=pbc)
    atoms.calc = PointChargeCalculator(smearing=smearing, tolerance=1e-10)
    forces = atoms.get_forces()
    np.testing.assert_allclose(forces.sum(0), 0, atol=1e-9)
    numerical = np.zeros(3)
    for axis in range(3):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[4, axis] += sign * 1e-4
            numerical[axis] -= sign * moved.get_potential_energy() / 2e-4
    atoms.calc.reset()
    np.testing.assert_allclose(forces[4], numerical, rtol=1e-6, atol=1e-6)
    if pbc is True:
        stress = atoms.get_stress(voigt=False)
        for i, j in ((0, 0), (1, 2)):
            sides = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * 0.5e-4
                strain[j, i] += sign * 0.5e-4
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                strained.calc = atoms.calc
                sides.append(strained.get_potential_energy())
            slope = (sides[0] - sides[1]) / 2e-4 / atoms.get_volume()
            assert stress[i, j] == pytest.approx(slope, rel=1e-6)
    else:
        atoms.get_potential_energy()
        with pytest.raises(PropertyNotImplementedError, match="periodic in three directions"):
            atoms.get_stress()


@pytest.mark.parametrize("pbc", [False, True])
def test_range_separated_is_the_same(pbc: bool) -> None:
    atoms = cluster(24, pbc=pbc)
    atoms.calc = PointChargeCalculator(tolerance=1e-10)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    potentials, energies = atoms.calc.results["potentials"], atoms.get_potential_energies()
    atoms.calc = PointChargeCalculator(method="range_separated", tolerance=1e-8)
    scale = np.sqrt((forces**2).mean())
    np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-6 * scale)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-5)
    np.testing.assert_allclose(atoms.calc.results["potentials"], potentials, rtol=0, atol=1e-5)
    np.testing.assert_allclose(atoms.get_potential_energies(), energies, rtol=0, atol=1e-5)
    made = atoms.calc._sum
    atoms.positions += 0.1
    np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-6 * scale)
    assert atoms.calc._sum is made  # kept while atoms move a little
    atoms.positions *= 1.5
    if not pbc:
        expected = energy / 1.5
        assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-5)
        assert atoms.calc._sum is not made
    with pytest.raises(PropertyNotImplementedError, match="get_stress"):
        atoms.get_stress()


def test_dynamics_conserve_energy() -> None:
    atoms = cluster(pbc=True)
    atoms.calc = PointChargeCalculator(smearing=0.6)
    run = VelocityVerlet(atoms, timestep=0.05)
    totals = []
    for _ in range(20):
        run.run(1)
        totals.append(atoms.get_total_energy())
    kinetic = atoms.get_kinetic_energy()
    assert kinetic > 0.01
    assert np.ptp(totals) < 0.01 * kinetic


def test_charges_may_change() -> None:
    atoms = cluster()
    atoms.calc = PointChargeCalculator()
    before = atoms.get_potential_energy()
    atoms.set_initial_charges(2 * atoms.get_initial_charges())
    assert atoms.get_potential_energy() == pytest.approx(4 * before, rel=1e-12)
    other = cluster()
    other.calc = PointChargeCalculator(charges=atoms.get_initial_charges().tolist())
    assert other.get_potential_energy() == pytest.approx(4 * before, rel=1e-12)


def test_refusals() -> None:
    cases: list[tuple[dict[str, Any], Atoms, str]] = [
        ({"method": "mesh"}, cluster(), "must be one of ewald, direct, range_separated"),
        ({"smearing": -1}, cluster(), "zero or a length"),
        ({"smearing": 1, "method": "range_separated"}, cluster(), "zero if range-separated"),
        ({"tolerance": 1}, cluster(), "from 1e-12 to 0.1"),
        ({"charges": [1.0]}, cluster(), "one number for each of 12 atoms"),
        ({"charges": {"H": 1.0}}, cluster(), "Missing: C"),
        ({}, Atoms("H2", [[0, 0, 0], [0, 0, 1]]), "must have charges"),
        ({}, Atoms(), "structure with atoms"),
        ({"charges": {"H": 1.0}}, Atoms("H2"), "same place"),
        ({"charges": [np.nan] * 12}, cluster(), "must be finite"),
        ({"method": "direct"}, cluster(pbc=True), "without periodicity"),
        ({"method": "range_separated"}, cluster(pbc=[True, True, False]), "rectangular cell"),
        ({}, cluster(pbc=[True, False, False]), "Lattice sums of wires are not there"),
    ]
    for words, atoms, message in cases:
        with pytest.raises(ValueError, match=message):
            PointChargeCalculator(**words).calculate(atoms)
