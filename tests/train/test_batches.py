from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch_geometric.data import Batch

from tensornet.datasets import Frames, GraphDataset, Labels
from tensornet.train.batches import Batches, Steps, collate


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


def test_order_follows_from_seed_and_epoch() -> None:
    numbers: Any = list(range(50))
    one, same = (Steps(numbers, batch_size=3, seed=5) for _ in range(2))
    other = Steps(numbers, batch_size=3, seed=6)

    def order(steps: Steps, epoch: int) -> list[int]:
        return [k for chosen in steps.chosen(epoch) for k in chosen]

    assert order(one, 3) == order(same, 3)
    assert sorted(order(one, 3)) == numbers
    assert order(one, 3) != order(one, 4)
    assert order(one, 3) != order(other, 3)


def test_every_epoch_goes_through_all_graphs(graphs: GraphDataset) -> None:
    steps = Steps(graphs, batch_size=3, seed=1)
    seen = []
    for epoch in range(3):
        steps.epoch = epoch
        found = list(steps)
        assert [[b.num_graphs for b in step] for step in found] == [[3], [1]]
        assert len(found) == len(steps)
        seen.append([float(e) for step in found for b in step for e in b.energy])
    assert all(sorted(s) == [0, 1, 2, 3] for s in seen)
    assert len({tuple(s) for s in seen}) > 1


def test_epochs_of_some_steps_go_on_where_the_last_stopped() -> None:
    numbers: Any = list(range(10))
    passes = [
        step for epoch in range(3) for step in Steps(numbers, batch_size=4, seed=5).chosen(epoch)
    ]
    for length in (1, 2, 4, 5):
        steps = Steps(numbers, batch_size=4, seed=5, length=length)
        assert len(steps) == length
        found = [step for epoch in range(9) for step in steps.chosen(epoch)]
        assert found[:9] == passes[:9]
        assert all(len(list(steps.chosen(epoch))) == length for epoch in range(9))


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("max_edges", [None, 8, 20, 60])
def test_steps_are_divided_evenly(
    graphs: GraphDataset, accumulate: int, max_edges: int | None
) -> None:
    size = 3 // accumulate
    steps = Steps(graphs, batch_size=size, accumulate=accumulate, seed=2, max_edges=max_edges)
    plain = Steps(graphs, batch_size=size * accumulate, seed=2)
    edges = [int(graphs[k].num_edges) for k in range(4)]
    for parts, chosen in zip(steps, plain.chosen(0), strict=True):
        ours = [[int(e) for e in part.energy] for part in parts]
        assert sorted(k for part in ours for k in part) == sorted(chosen)
        assert len(ours) >= min(accumulate, len(chosen))
        if max_edges is not None:
            assert all(len(part) == 1 or sum(edges[k] for k in part) <= max_edges for part in ours)
            loads = [sum(edges[k] for k in part) for part in ours]
            fewest = max(accumulate, -(-sum(edges[k] for k in chosen) // max_edges))
            assert max(edges) > max_edges or len(loads) <= fewest + 1


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
def test_workers_make_the_same_batches_in_the_same_order(graphs: GraphDataset) -> None:
    plain = Steps(graphs, batch_size=1, accumulate=2, seed=4)
    for workers in (1, 2):
        helped = Steps(graphs, batch_size=1, accumulate=2, seed=4, workers=workers)
        for epoch in range(2):
            plain.epoch = helped.epoch = epoch
            for one, other in zip(plain, helped, strict=True):
                for a, b in zip(one, other, strict=True):
                    assert set(a.keys()) == set(b.keys())
                    for name in a.keys():  # noqa: SIM118 (Data iterates over pairs)
                        assert a[name].dtype == b[name].dtype
                        assert torch.equal(a[name].nan_to_num(-1), b[name].nan_to_num(-1))
                    assert a.num_graphs == b.num_graphs


def test_batches_are_made_once_and_keep_their_order(graphs: GraphDataset) -> None:
    batches = Batches(graphs, batch_size=2)
    assert len(batches) == 2
    assert all(a is b for a, b in zip(batches, batches, strict=True))
    divided = list(Batches(graphs, batch_size=4, max_edges=20))
    assert [float(e) for b in divided for e in b.energy] == [0, 1, 2, 3]
    edges = [int(graphs[k].num_edges) for k in range(4)]
    assert [b.edge_index.shape[1] for b in divided] != [sum(edges)]
    assert all(b.edge_index.shape[1] <= 20 or b.num_graphs == 1 for b in divided)
