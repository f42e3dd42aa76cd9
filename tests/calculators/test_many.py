"""Batches of structures against the calculator and the optimisers of ASE, one by one."""

# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.optimize import BFGS, FIRE, LBFGS

from tensornet.calculators import PotentialCalculator, evaluate_many, relax_many
from tensornet.models import Potential, build


def model() -> Potential:
    block = {"name": "lennard_jones", "cutoff": 5.5, "epsilon": 0.05, "sigma": 3.0}
    return build(block, elements=[10, 18], reference_energies={10: -3.0, 18: -14000.5})


def structures() -> list[Atoms]:
    rng = np.random.default_rng(0)
    made = [bulk("Ar", a=a, cubic=True) for a in (4.6, 4.8)] + [bulk("Ar", a=4.7)]
    made.append(Atoms("ArNe", [[0, 0, 0], [0, 0, 3.2]]))
    made[1].numbers[2] = 10
    for atoms in made[:2]:
        atoms.positions += 0.1 * rng.standard_normal((4, 3))
    return made


@pytest.mark.parametrize("max_edges", [1, 300, 200_000])
def test_evaluation(max_edges: int) -> None:
    potential = model()
    for given, found in zip(
        structures(), evaluate_many(structures(), potential, max_edges=max_edges), strict=True
    ):
        given.calc = PotentialCalculator(potential)
        np.testing.assert_array_equal(found.positions, given.positions)
        assert found.get_potential_energy() == pytest.approx(
            given.get_potential_energy(), abs=1e-11
        )
        np.testing.assert_allclose(found.get_forces(), given.get_forces(), rtol=0, atol=1e-11)
        if given.pbc.all():
            np.testing.assert_allclose(found.get_stress(), given.get_stress(), rtol=0, atol=1e-12)


def test_results_can_be_written(tmp_path: Path) -> None:
    many = evaluate_many(structures(), model())
    write(tmp_path / "many.extxyz", many)
    again: Any = read(tmp_path / "many.extxyz", ":")
    want = [atoms.get_potential_energy() for atoms in many]
    np.testing.assert_allclose([a.get_potential_energy() for a in again], want, rtol=1e-9)
    assert evaluate_many([], model()) == []


@pytest.mark.parametrize("optimizer", [LBFGS, BFGS, FIRE])
def test_same_minima_as_ase(optimizer: Any) -> None:
    potential = model()
    found = relax_many(structures(), potential, fmax=1e-4, optimizer=optimizer)
    assert found.converged.all(), found.messages
    for k, atoms in enumerate(structures()):
        atoms.calc = PotentialCalculator(potential)
        alone = optimizer(atoms, logfile=None)
        alone.run(fmax=1e-4, steps=500)
        assert alone.nsteps == found.n_steps[k]
        assert found.energies[k] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(found.structures[k].positions, atoms.positions, atol=1e-6)
        assert np.abs(found.structures[k].get_forces()).max() < 1e-4


def test_cells_relax_as_with_ase() -> None:
    potential = model()
    given = structures()[:3]
    given[0].set_cell(given[0].cell.array @ [[1, 0.04, 0], [0, 1.03, 0], [0, 0, 1]], True)
    found = relax_many(given, potential, fmax=1e-4, cell=True, pressure=0.001)
    assert found.converged.all(), found.messages
    for k, atoms in enumerate(given):
        atoms.calc = PotentialCalculator(potential)
        target: Any = FrechetCellFilter(atoms, scalar_pressure=0.001)
        LBFGS(target, logfile=None).run(1e-4, 500)  # type: ignore[arg-type]
        assert found.energies[k] == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(found.structures[k].cell.array, atoms.cell.array, atol=1e-4)
        stress = found.structures[k].get_stress()
        np.testing.assert_allclose(stress, [-0.001] * 3 + [0] * 3, atol=1e-5)


def test_constraints_and_the_structures_that_are_given() -> None:
    atoms = structures()[0]
    atoms.set_constraint(FixAtoms([1]))
    before = atoms.positions.copy()
    found = relax_many([atoms], model(), fmax=1e-3)
    np.testing.assert_array_equal(atoms.positions, before)
    np.testing.assert_array_equal(found.structures[0].positions[1], before[1])
    assert np.abs(found.structures[0].positions - before).max() > 0.01


def test_what_does_not_converge_is_told_and_stops_no_other() -> None:
    found = relax_many(structures(), model(), fmax=1e-4, steps=3)
    assert found.converged.tolist() == [False, False, True, False]
    assert found.messages[0] == "not below 0.0001 eV/Å after 3 steps"
    assert np.isfinite(found.energies).all()

    # A step that puts two atoms on top of each other.
    class Jump(LBFGS):
        def step(self, forces: Any = None) -> None:
            atoms = self.optimizable.atoms
            if len(atoms) == 2:
                atoms.positions[1] = atoms.positions[0]
            else:
                super().step(forces)

    found = relax_many(structures(), model(), fmax=1e-4, optimizer=Jump)
    assert found.converged.tolist() == [True, True, True, False]
    assert "must not hold two atoms at the same place" in found.messages[3]
    assert np.isnan(found.energies[3])


def test_refusals() -> None:
    bad = structures()
    bad[2].numbers[0] = 2
    with pytest.raises(ValueError, match="Got He in structure 2; the model knows Ne, Ar"):
        relax_many(bad, model())
    bad = structures()
    bad[1].positions[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"Structure 1: .* must have finite positions"):
        evaluate_many(bad, model())
    with pytest.raises(ValueError, match=r"periodic in three directions. .* in structure 3"):
        relax_many(structures(), model(), cell=True)
    with pytest.raises(TypeError, match="Got one structure"):
        relax_many(structures()[0], model())
    with pytest.raises(ValueError, match="above zero"):
        relax_many(structures(), model(), fmax=0)
    with pytest.raises(ValueError, match="zero or more"):
        relax_many(structures(), model(), steps=-1)
    with pytest.raises(ValueError, match="at least 1"):
        evaluate_many(structures(), model(), max_edges=0)
    with pytest.raises(ValueError, match=r"pressure=...\)` must be finite.* Got 0.1"):
        relax_many(structures(), model(), pressure=0.1)
    with pytest.raises(ValueError, match=r"pressure=...\)` must be finite.* Got nan"):
        relax_many(structures()[:3], model(), cell=True, pressure=np.nan)


def test_structures_may_come_one_by_one() -> None:
    """As from `ase.io.iread`, which can be gone through once only."""
    found = evaluate_many(iter(structures()), model())
    energies = [atoms.get_potential_energy() for atoms in found]
    assert len(energies) == len(structures())
    again = relax_many(iter(structures()), model(), steps=0).energies
    np.testing.assert_allclose(again, energies, rtol=0, atol=1e-11)
