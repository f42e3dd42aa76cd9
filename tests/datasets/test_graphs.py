"""Graph data sets: labels as tensors, NaN where there is none, float64 throughout."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch_geometric.loader import DataLoader

from tensornet.atoms import graph
from tensornet.datasets import Frames, GraphDataset, Labels, reference_energies

FORCES = np.arange(9.0).reshape(3, 3) / 7
STRESS = np.array([[0.01, 0.02, -0.03], [0.02, -0.04, 0.05], [-0.03, 0.05, 0.06]])
REFERENCES = {1: -13.568422178253735, 8: -2037.796869412825, 14: -100.0}


def some() -> Frames:
    structures = (molecule("H2O"), bulk("Si"), molecule("H2O"), Atoms("H"))
    labels = (
        Labels(energy=-2079.123456789, forces=FORCES),
        Labels(energy=-210.0, stress=STRESS),
        Labels(forces=-FORCES),
        Labels(),
    )
    return Frames(structures, labels, {})


def test_labels_are_float64_tensors_with_nan_where_missing() -> None:
    dataset = GraphDataset(some(), 5.0, REFERENCES)
    assert len(dataset) == 4
    for atoms, data in zip(some().structures, dataset, strict=True):
        shapes = {"energy": (1,), "interaction_energy": (1,), "forces": (len(atoms), 3)}
        for name, shape in (shapes | {"stress": (1, 3, 3)}).items():
            assert data[name].dtype == torch.float64
            assert data[name].shape == shape
        assert torch.equal(data.edge_index, graph(atoms, 5.0).edge_index)
    known = {
        name: [not bool(data[name].isnan().any()) for data in dataset]
        for name in ("energy", "interaction_energy", "forces", "stress")
    }
    assert known["energy"] == known["interaction_energy"] == [True, True, False, False]
    assert known["forces"] == [True, False, True, False]
    assert known["stress"] == [False, True, False, False]
    assert bool(dataset[1].forces.isnan().all())
    torch.testing.assert_close(dataset[0].forces, torch.tensor(FORCES), rtol=0, atol=0)
    torch.testing.assert_close(dataset[1].stress[0], torch.tensor(STRESS), rtol=0, atol=0)


def test_references_are_subtracted_in_float64() -> None:
    torch.set_default_dtype(torch.float32)  # of no influence
    data = GraphDataset(some(), 5.0, REFERENCES)[0]
    expected = -2079.123456789 - (2 * REFERENCES[1] + REFERENCES[8])
    assert data.interaction_energy.dtype == torch.float64
    assert abs(float(data.interaction_energy) - expected) < 1e-12 * 2079
    assert float(data.energy) == -2079.123456789


def test_references_of_a_fit_are_accepted() -> None:
    frames = some()
    dataset = GraphDataset(frames, 5.0, reference_energies(frames, "fit"))
    assert abs(float(dataset[1].interaction_energy)) < 1e-9


def test_batches_keep_every_label() -> None:
    loader = DataLoader(GraphDataset(some(), 5.0, REFERENCES), batch_size=4)
    batch = next(iter(loader))
    assert batch.energy.shape == batch.interaction_energy.shape == (4,)
    assert batch.stress.shape == batch.cell.shape == (4, 3, 3)
    assert batch.forces.shape == batch.pos.shape == (9, 3)
    torch.testing.assert_close(batch.forces[5:8], -torch.tensor(FORCES), rtol=0, atol=0)


def test_groups_are_kept_as_strings() -> None:
    frames = some()
    assert "group" not in GraphDataset(frames, 5.0, REFERENCES)[0]
    frames.structures[0].info["config_type"] = "300K"
    frames.structures[1].info["group"] = 7
    dataset = GraphDataset(frames, 5.0, REFERENCES)
    assert [data.group for data in dataset] == ["300K", "7", "", ""]
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch.group == ["300K", "7", "", ""]


def test_the_mean_number_of_neighbours() -> None:
    frames = Frames((bulk("Cu", a=3.6), Atoms("Cu")), (Labels(), Labels()), {})
    assert GraphDataset(frames, 3.0, {29: 0.0}).n_neighbours == 6.0
    assert GraphDataset(Frames((), (), {}), 3.0, {}).n_neighbours == 0.0


def test_a_structure_that_has_no_graph_is_named() -> None:
    frames = some()
    frames.structures[2].positions[1] = frames.structures[2].positions[2]
    with pytest.raises(ValueError, match=r"No graph for structure 2 .*atoms 1 \(H\) and 2 \(H\)"):
        GraphDataset(frames, 5.0, REFERENCES)


def test_an_element_without_reference_is_named() -> None:
    with pytest.raises(ValueError, match=r"Got none for Si, which is in structure 1 \(counted"):
        GraphDataset(some(), 5.0, {1: 0.0, 8: 0.0})


def test_the_cutoff_is_checked() -> None:
    with pytest.raises(ValueError, match=r"`graph\(cutoff=...\)` must be a positive"):
        GraphDataset(some(), -5.0, REFERENCES)
