"""Graphs against ASE's neighbour list, the laws of a neighbour list, and bad input."""

import time
import zlib

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule
from ase.neighborlist import neighbor_list
from torch_geometric.data import Batch, Data

from tensornet.atoms import edge_vectors, graph


def outside() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.positions += np.random.default_rng(715).integers(-3, 4, (8, 3)) @ atoms.cell.array
    return atoms


def skewed() -> Atoms:
    rng = np.random.default_rng(6021)
    cell = [[3.1, 0, 0], [2.9, 2.2, 0], [-3.3, 1.9, 1.8]]
    return Atoms("NaClK", rng.random((3, 3)) @ np.array(cell), cell=cell, pbc=True)


def slab() -> Atoms:
    atoms: Atoms = fcc111("Al", (2, 2, 3))
    atoms.pbc = (True, True, False)
    assert not atoms.cell[2].any()  # what ASE leaves for the open direction
    return atoms


def tilted_slab() -> Atoms:
    # The lattice vector of the open direction lies inside the plane: it must not matter.
    atoms = slab()
    atoms.set_cell([atoms.cell[0], atoms.cell[1], atoms.cell[0] + atoms.cell[1]])
    return atoms


def wire() -> Atoms:
    return Atoms("CuAu", [[0, 0, 0], [1.2, 0.4, 11.0]], cell=[0, 0, 2.6], pbc=(False, False, True))


SYSTEMS = {
    "molecule": (molecule("CH3CH2OH"), 4.0),
    "molecule in a box": (Atoms("H2O", molecule("H2O").positions, cell=[50] * 3, pbc=True), 5.0),
    "molecule without neighbours": (molecule("CH4"), 0.5),
    "open box": (Atoms("H2", [[0, 0, 0.1], [0, 0, 3.9]], cell=[4] * 3), 2.0),
    "primitive cell, large cutoff": (bulk("Cu"), 9.1),
    "primitive silicon": (bulk("Si"), 6.05),
    "cubic cell": (bulk("Cu", cubic=True), 5.0),
    "slab": (slab(), 5.0),
    "tilted slab": (tilted_slab(), 5.0),
    "sheet": (graphene(), 5.2),
    "wire": (wire(), 6.0),
    "skewed": (skewed(), 6.0),
    "outside": (outside(), 5.0),
    "isolated atom": (Atoms("He", [[1e3, -1e3, 0]]), 5.0),
    "lonely atom in a large cell": (Atoms("He", cell=[20] * 3, pbc=True), 5.0),
}
PARAMS = [pytest.param(*system, id=name) for name, system in SYSTEMS.items()]


def edges(data: Data) -> set[tuple[int, ...]]:
    rows = torch.cat((data.edge_index.flip(0).T, data.edge_shift.long()), dim=1)
    found = {tuple(row) for row in rows.tolist()}
    assert len(found) == data.num_edges
    return found


def compare_with_ase(atoms: Atoms, cutoff: float) -> None:
    data = graph(atoms, cutoff)
    reference = atoms.copy()  # ASE cannot handle a lattice vector that depends on the others
    reference.set_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0))
    reference.set_cell(reference.cell.complete())
    i, j, S, D = neighbor_list("ijSD", reference, cutoff)
    keys = [(a, b, *s) for a, b, s in zip(i.tolist(), j.tolist(), S.tolist(), strict=True)]
    assert edges(data) == set(keys)
    vectors = dict(zip(keys, D, strict=True))
    mine = edge_vectors(data).numpy()
    for k, (sender, receiver) in enumerate(data.edge_index.T.tolist()):
        key = (receiver, sender, *data.edge_shift[k].long().tolist())
        np.testing.assert_allclose(mine[k], vectors[key], atol=1e-11)


@pytest.mark.parametrize(("atoms", "cutoff"), PARAMS)
def test_same_edges_and_vectors_as_ase(atoms: Atoms, cutoff: float) -> None:
    compare_with_ase(atoms, cutoff)


@pytest.mark.parametrize("seed", range(30))
def test_same_edges_as_ase_in_random_cells(seed: int) -> None:
    rng = np.random.default_rng(zlib.crc32(b"random cells") + seed)
    n = int(rng.integers(1, 7))
    cell = 2.5 * rng.normal(size=(3, 3)) + rng.uniform(2, 6) * np.eye(3)
    while abs(np.linalg.det(cell)) < 25:
        cell = 2.5 * rng.normal(size=(3, 3)) + rng.uniform(2, 6) * np.eye(3)
    pbc = rng.integers(0, 2, 3).astype(bool)
    cell[~pbc & (rng.random(3) < 0.5)] = 0
    compare_with_ase(Atoms("H" * n, rng.uniform(-12, 12, (n, 3)), cell=cell, pbc=pbc), 4.5)


@pytest.mark.parametrize(("atoms", "cutoff"), PARAMS)
def test_fields_have_their_shapes_and_dtypes(atoms: Atoms, cutoff: float) -> None:
    data = graph(atoms, cutoff)
    n, e = len(atoms), data.num_edges
    expected = {
        "pos": ((n, 3), torch.float64),
        "z": ((n,), torch.int64),
        "cell": ((1, 3, 3), torch.float64),
        "pbc": ((1, 3), torch.bool),
        "edge_index": ((2, e), torch.int64),
        "edge_shift": ((e, 3), torch.float64),
        "charge": ((1,), torch.float64),
    }
    assert {key: (tuple(data[key].shape), data[key].dtype) for key in data.keys()} == expected  # noqa: SIM118
    assert edge_vectors(data).shape == (e, 3)
    assert bool((data.edge_shift[:, ~data.pbc[0]] == 0).all())


@pytest.mark.parametrize(("atoms", "cutoff"), PARAMS)
def test_every_edge_has_its_reverse(atoms: Atoms, cutoff: float) -> None:
    found = edges(graph(atoms, cutoff))
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in found} == found


@pytest.mark.parametrize("shells", [1.0, 2**0.5, 3**0.5, 2.0])
def test_edges_exactly_at_the_cutoff_come_in_pairs(shells: float) -> None:
    atoms = bulk("Po", "sc", a=3.345) * (2, 3, 2)
    found = edges(graph(atoms, 3.345 * shells))
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in found} == found


@pytest.mark.parametrize("name", ["slab", "wire", "skewed", "outside"])
def test_moving_atoms_by_lattice_vectors_keeps_the_vectors(name: str) -> None:
    atoms, cutoff = SYSTEMS[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    moved = atoms.copy()
    steps = rng.integers(-2, 3, (len(atoms), 3)) * atoms.pbc
    assert steps.any()
    moved.positions += steps @ atoms.cell.array
    pair = []
    for structure in (atoms, moved):
        data = graph(structure, cutoff)
        rows = torch.cat((data.edge_index.T.double(), edge_vectors(data).round(decimals=6)), 1)
        pair.append(sorted(tuple(row) for row in (rows + 0.0).tolist()))
    np.testing.assert_allclose(pair[0], pair[1], atol=2e-6)


def test_a_mixed_batch_equals_one_by_one() -> None:
    graphs = [graph(*system) for system in SYSTEMS.values()]
    batch = Batch.from_data_list(graphs)
    assert batch.cell.shape == (len(graphs), 3, 3)
    assert batch.pbc.shape == (len(graphs), 3)
    assert batch.batch.bincount().tolist() == [data.num_nodes for data in graphs]
    single = torch.cat([edge_vectors(data) for data in graphs])
    torch.testing.assert_close(edge_vectors(batch), single, rtol=0, atol=1e-12)


def test_a_batch_of_one_equals_the_graph() -> None:
    data = graph(*SYSTEMS["skewed"])
    assert torch.equal(edge_vectors(Batch.from_data_list([data])), edge_vectors(data))


def test_vectors_have_derivatives_with_respect_to_the_cell() -> None:
    batch = Batch.from_data_list([graph(*SYSTEMS["skewed"]), graph(*SYSTEMS["sheet"])])
    batch.cell.requires_grad_()
    edge_vectors(batch)[:, 2].sum().backward()
    first = batch.edge_shift[batch.batch[batch.edge_index[1]] == 0].sum(0)
    torch.testing.assert_close(batch.cell.grad[0, :, 2], first)
    assert bool((batch.cell.grad[..., :2] == 0).all())


def test_the_skin_adds_edges_and_changes_nothing_else() -> None:
    atoms = bulk("Cu", a=3.6)
    assert graph(atoms, 3.0).num_edges == 12
    assert graph(atoms, 3.0, skin=0.7).num_edges == 12 + 6
    assert edges(graph(atoms, 3.0, skin=0.7)) == edges(graph(atoms, 3.7))


def test_edges_are_sorted_by_receiver_and_reproducible() -> None:
    atoms = outside() * (2, 2, 2)
    data, again = graph(atoms, 5.0), graph(atoms, 5.0)
    assert bool((data.edge_index[1].diff() >= 0).all())
    assert torch.equal(data.edge_index, again.edge_index)
    assert torch.equal(data.edge_shift, again.edge_shift)


def test_the_structure_is_not_shared_with_the_graph() -> None:
    atoms = bulk("Si")
    before = atoms.copy()
    data = graph(atoms, 5.0)
    data.pos += 1
    data.cell *= 2
    assert np.array_equal(atoms.positions, before.positions)
    assert np.array_equal(atoms.cell.array, before.cell.array)


def test_a_large_open_system_takes_no_time() -> None:
    rng = np.random.default_rng(88)
    atoms = Atoms("H3000", rng.uniform(0, 90, (3000, 3)))
    start = time.process_time()
    assert graph(atoms, 5.0).num_edges > 3000
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize("cutoff", [0, -1.0, float("nan"), float("inf")])
def test_a_cutoff_that_is_not_positive_is_refused(cutoff: float) -> None:
    with pytest.raises(ValueError, match=r"`graph\(cutoff=...\)` must be a positive length"):
        graph(molecule("H2O"), cutoff)


@pytest.mark.parametrize("skin", [-0.1, float("nan")])
def test_a_negative_skin_is_refused(skin: float) -> None:
    with pytest.raises(ValueError, match=r"`graph\(skin=...\)` must be zero or a positive"):
        graph(molecule("H2O"), 5.0, skin=skin)


def test_an_empty_structure_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold at least one atom"):
        graph(Atoms(), 5.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_positions_that_are_not_finite_are_refused(value: float) -> None:
    atoms = molecule("H2O")
    atoms.positions[2, 1] = value
    with pytest.raises(ValueError, match=r"atom 2 \(H\); 1 of 3 atoms are not finite"):
        graph(atoms, 5.0)


def test_a_cell_that_is_not_finite_is_refused() -> None:
    atoms = bulk("Cu")
    atoms.cell[0, 0] = np.nan
    with pytest.raises(ValueError, match="must have a finite cell"):
        graph(atoms, 5.0)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        ([0, 0, 0], True),
        ([3, 3, 0], True),
        ([[3, 0, 0], [6, 0, 0], [0, 0, 3]], True),
        ([[3, 0, 0], [6, 0, 0], [0, 0, 3]], (True, True, False)),
        ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], True),
        ([0, 3, 3], (True, False, False)),
    ],
)
def test_a_degenerate_periodic_cell_is_refused(cell: list[float], pbc: bool) -> None:
    with pytest.raises(ValueError, match="linearly independent lattice vectors"):
        graph(Atoms("H", cell=cell, pbc=pbc), 5.0)


def test_coincident_atoms_are_named() -> None:
    atoms = molecule("CH3CH2OH")
    atoms.positions[7] = atoms.positions[2] + [0, 0, 4e-4]
    with pytest.raises(
        ValueError, match=r"atoms 2 \(O\) and 7 \(H\) at a distance of 4.00e-04 Å; 1 such pair"
    ):
        graph(atoms, 5.0)


def test_coincident_images_are_named() -> None:
    atoms = Atoms("NaCl", [[0, 0, 0], [0, 0, 4]], cell=[4] * 3, pbc=True)
    with pytest.raises(
        ValueError, match=r"atoms 0 \(Na\) and 1 \(Cl\) .* through the periodic boundary"
    ):
        graph(atoms, 3.0)


def test_atoms_at_the_same_place_are_found_below_the_cutoff_only() -> None:
    atoms = Atoms("HH", [[0, 0, 0], [0, 0, 2e-3]])
    assert graph(atoms, 1.0).num_edges == 2
