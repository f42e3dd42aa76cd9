from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch_geometric.data import Batch

from tensornet.datasets import Frames, GraphDataset, Labels
from tensornet.train.batches import Batches, collate


@pytest.fixture
def graphs() -> GraphDataset:
    structures = (molecule("H2O"), bulk("Cu"), Atoms("H"), bulk("NaCl", "rocksalt", a=5.6))
    labels = tuple(Labels(energy=float(k)) for k in range(4))
    return GraphDataset(Frames(structures, labels, {}), 4.0, dict.fromkeys(range(1, 30), 0.0))


def test_batch_is_what_torch_geometric_makes(graphs: GraphDataset) -> None:
    items = [graphs[k] for k in range(4)]
    ours, theirs = collate(items), Batch.from_data_list(items)
    assert set(ours.keys()) == set(theirs.keys())
    for name in theirs.keys():  # noqa: SIM118 (Data iterates over pairs)
        assert ours[name].dtype == theirs[name].dtype, name
        assert torch.equal(ours[name].nan_to_num(-1.5), theirs[name].nan_to_num(-1.5)), name
    assert ours.num_graphs == 4


def test_order_follows_from_seed_and_epoch(graphs: GraphDataset) -> None:
    numbers: Any = list(range(50))
    one, same = (Batches(numbers, batch_size=3, seed=5) for _ in range(2))
    other = Batches(numbers, batch_size=3, seed=6)
    assert one.order(3) == same.order(3)
    assert sorted(one.order(3)) == numbers
    assert one.order(3) != one.order(4)
    assert one.order(3) != other.order(3)


def test_every_epoch_goes_through_all_graphs(graphs: GraphDataset) -> None:
    batches = Batches(graphs, batch_size=3, seed=1)
    seen = []
    for epoch in range(3):
        batches.epoch = epoch
        found = list(batches)
        assert [b.num_graphs for b in found] == [3, 1]
        assert len(found) == len(batches)
        seen.append([float(e) for b in found for e in b.energy])
    assert all(sorted(s) == [0, 1, 2, 3] for s in seen)
    assert len({tuple(s) for s in seen}) > 1


def test_batches_without_seed_are_made_once(graphs: GraphDataset) -> None:
    batches = Batches(graphs, batch_size=2)
    assert all(a is b for a, b in zip(batches, batches, strict=True))
