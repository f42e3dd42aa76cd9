"""Parts of a structure, evaluated apart, add up to the whole."""

# mypy: allow-untyped-calls

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tensornet.calculators import LammpsExternal, PotentialCalculator
from tensornet.calculators.local import within_reach
from tensornet.models import Potential

Named = Callable[[str], Potential]


def rod(pbc: Any = True) -> Atoms:
    atoms: Atoms = bulk("Si", cubic=True) * (5, 1, 1)
    slant = np.array([[0, 0, 0], [0.9, 0, 0], [0.4, -0.7, 0]])
    atoms.set_cell(atoms.cell.array + slant, scale_atoms=True)
    atoms.positions += 0.1 * np.random.default_rng(0).standard_normal((40, 3))
    atoms.numbers[::3] = 32
    atoms.pbc = pbc
    return atoms


@pytest.mark.parametrize("name", ["gaunt", "tdn"])
@pytest.mark.parametrize("pbc", [True, (False, True, True)])
def test_forces_of_the_parts_are_those_of_the_whole(potential: Named, name: str, pbc: Any) -> None:
    """As processes of LAMMPS do it: each evaluates the energy of the atoms in its domain."""
    model, atoms = potential(name), rod(pbc)
    where = atoms.get_scaled_positions()[:, 0] * 5 // 1.25
    engines = [LammpsExternal(model, ["Si", "Ge"]) for _ in range(4)]
    for _ in range(2):  # the second time with the lists of the first
        found = sum(e._evaluate(atoms, where == k) for k, e in enumerate(engines))
        assert isinstance(found, np.ndarray)
        atoms.calc = PotentialCalculator(model, skin=0)
        np.testing.assert_allclose(found[:, :3], atoms.get_forces(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(found[:, 3], atoms.get_potential_energies(), atol=1e-12)
        if atoms.pbc.all():
            virial = -atoms.get_stress()[[0, 1, 2, 5, 4, 3]] * atoms.get_volume()
            np.testing.assert_allclose(found[:, 4:].sum(0), virial, rtol=0, atol=1e-12)
        atoms.positions += 0.02 * np.random.default_rng(1).standard_normal((40, 3))
        atoms.positions[7] += atoms.cell.array[1]
    assert [e._lists.n_builds for e in engines] == [1] * 4
    # Less than everything is evaluated for each part.
    assert all(len(e._lists.graph(atoms).nodes) < 40 for e in engines)


def test_edges_within_reach() -> None:
    sender, receiver = np.array([[1, 2, 3, 4], [0, 1, 2, 3]])
    own = np.array([True, False, False, False, False])
    for hops in range(5):
        found = within_reach(np.stack([sender, receiver]), own, hops)
        assert found.tolist() == [k < hops for k in range(4)]
