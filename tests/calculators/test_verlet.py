"""The list that is kept must hold every edge that a new list would hold."""

# mypy: allow-untyped-calls

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from torch_geometric.data import Data

from tensornet.atoms import edge_vectors, graph
from tensornet.calculators.verlet import VerletList

CUTOFF = 3.5


def crystal(rng: np.random.Generator, pbc: bool | tuple[bool, bool, bool] = True) -> Atoms:
    atoms: Atoms = bulk("Ar", a=4.1, cubic=True) * (2, 1, 1)
    slant = np.array([[0, 0, 0], [0.7, 0, 0], [-0.5, 0.4, 0]])
    atoms.set_cell(atoms.cell.array + slant, scale_atoms=True)
    atoms.positions += 0.1 * rng.standard_normal((len(atoms), 3))
    atoms.pbc = pbc
    return atoms


def sorted_edges(graph: Data) -> np.ndarray:
    vectors = edge_vectors(graph).numpy()
    keep = np.linalg.norm(vectors, axis=1) < CUTOFF
    rows = np.column_stack((graph.edge_index.numpy().T[keep], vectors[keep]))
    return rows[np.lexsort(np.round(rows, 9).T)]


def assert_complete(kept: VerletList, atoms: Atoms) -> None:
    got, expected = sorted_edges(kept.graph(atoms)), sorted_edges(graph(atoms, CUTOFF))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-11)


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, True, False), False])
def test_every_edge_is_there_during_a_walk_with_wrapping(
    pbc: bool | tuple[bool, bool, bool],
) -> None:
    rng = np.random.default_rng(11)
    atoms, kept = crystal(rng, pbc), VerletList(CUTOFF, 0.6)
    for step in range(80):
        atoms.positions += 0.04 * rng.standard_normal((len(atoms), 3)) + [0.3, -0.1, 0.2]
        if step % 3 == 0:
            atoms.wrap()
        if step % 7 == 0:
            atoms.positions += (rng.integers(-3, 4, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
        assert_complete(kept, atoms)
    assert kept.n_builds > 1


@pytest.mark.parametrize("pbc", [True, (True, True, False)])
def test_few_lists_are_made_when_atoms_only_shake_and_are_wrapped(
    pbc: bool | tuple[bool, bool, bool],
) -> None:
    rng = np.random.default_rng(12)
    atoms, kept = crystal(rng, pbc), VerletList(CUTOFF, 0.6)
    home = atoms.positions.copy()
    for step in range(40):
        atoms.positions = home + 0.04 * rng.standard_normal(home.shape)
        if step % 2:
            atoms.wrap()
        assert_complete(kept, atoms)
    assert kept.n_builds == 1


def test_every_edge_is_there_while_the_cell_changes() -> None:
    rng = np.random.default_rng(13)
    atoms, kept = crystal(rng), VerletList(CUTOFF, 0.6)
    n_builds = []
    for _ in range(80):
        strain = np.eye(3) + 0.004 * rng.standard_normal((3, 3)) - 0.002 * np.eye(3)
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += 0.01 * rng.standard_normal((len(atoms), 3))
        assert_complete(kept, atoms)
        n_builds.append(kept.n_builds)
    assert 2 < n_builds[-1] < 50


def test_a_turned_cell_keeps_its_list() -> None:
    atoms, kept = crystal(np.random.default_rng(14)), VerletList(CUTOFF, 0.3)
    kept.graph(atoms)
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    assert_complete(kept, atoms)
    assert kept.n_builds == 1


def test_compression_alone_makes_a_new_list_before_an_edge_is_missed() -> None:
    # Without the part of the rule on the cell, no atom would seem to have moved here.
    atoms, kept = crystal(np.random.default_rng(15)), VerletList(CUTOFF, 0.3)
    for _ in range(13):
        assert_complete(kept, atoms)
        atoms.set_cell(0.985 * atoms.cell.array, scale_atoms=True)
    # 0.3 of 3.5 is 8.6 %: a list lives for 5 steps of 1.5 %, and the 7th and 13th need new ones.
    assert kept.n_builds == 3


def test_the_list_lives_until_atoms_move_by_half_of_the_skin() -> None:
    dimer, kept = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.9]]), VerletList(CUTOFF, 0.5)
    kept.graph(dimer)
    dimer.positions[1, 2] = 3.9 - 0.2499
    kept.graph(dimer)
    assert kept.n_builds == 1
    dimer.positions[1, 2] = 3.9 - 0.2501
    kept.graph(dimer)
    assert kept.n_builds == 2


def test_another_structure_makes_a_new_list() -> None:
    atoms, kept = crystal(np.random.default_rng(16)), VerletList(CUTOFF, 0.5)
    kept.graph(atoms)
    atoms.pbc = (True, True, False)
    assert_complete(kept, atoms)
    assert kept.n_builds == 2
    atoms.numbers[0] = 10
    assert kept.graph(atoms).z[0] == 10
    assert kept.n_builds == 3
    del atoms[1]
    assert_complete(kept, atoms)
    assert kept.n_builds == 4


def test_no_skin_makes_a_list_at_each_call() -> None:
    atoms, kept = crystal(np.random.default_rng(17)), VerletList(CUTOFF, 0.0)
    kept.graph(atoms)
    kept.graph(atoms)
    assert kept.n_builds == 2


def test_a_refused_structure_leaves_no_list_behind() -> None:
    atoms, kept = crystal(np.random.default_rng(18)), VerletList(CUTOFF, 0.5)
    good = atoms.copy()
    kept.graph(atoms)
    atoms.positions[2, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        kept.graph(atoms)
    assert_complete(kept, good)
    flat = good.copy()
    flat.cell[2] = 0.0
    with pytest.raises(ValueError, match="independent lattice vectors"):
        kept.graph(flat)


def test_atoms_that_meet_are_noticed_by_a_kept_list() -> None:
    dimer, kept = Atoms("Ar2", [[0, 0, 0], [0, 0, 0.1]]), VerletList(CUTOFF, 0.5)
    kept.graph(dimer)
    dimer.positions[1, 2] = 1e-5
    with pytest.raises(ValueError, match="same place"):
        kept.graph(dimer)


def test_a_negative_skin_is_refused() -> None:
    with pytest.raises(ValueError, match=r"VerletList\(skin="):
        VerletList(CUTOFF, -0.1)
