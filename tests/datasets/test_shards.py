"""Data sets in shards: the graphs of memory, from a disk of any size."""

import json
import pickle
import tracemalloc
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from tensornet.datasets import Frames, GraphDataset, Labels, ShardDataset, ShardWriter, read
from tensornet.datasets.regression import LeastSquares
from tensornet.datasets.shards import WINDOW

REFERENCES = {1: -13.5, 8: -2041.8, 29: -0.2}


def some(n: int = 23) -> Frames:
    rng = np.random.default_rng(7)
    structures, labels = [], []
    for k in range(n):
        atoms = [molecule("H2O"), bulk("Cu", cubic=True), Atoms("OH", [[0, 0, 0], [0, 0, 1]])][
            k % 3
        ]
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        if k % 4:
            atoms.info["config_type"] = "abc"[k % 3]
        stress = rng.normal(size=(3, 3))
        structures.append(atoms)
        labels.append(
            Labels(
                energy=None if k % 5 == 0 else float(rng.normal()) - 2000,
                forces=None if k % 7 == 0 else rng.normal(size=(len(atoms), 3)),
                stress=stress + stress.T if k % 3 == 1 else None,
                weight=1 + 0.5 * (k % 2),
            )
        )
    return Frames(tuple(structures), tuple(labels), {1: -13.0})


def write(folder: Path, frames: Frames, *, edges: bool = True, shard_bytes: int = 3000) -> Path:
    writer = ShardWriter(folder, cutoff=3.5, edges=edges, shard_bytes=shard_bytes)
    for atoms, labels in zip(frames.structures, frames.labels, strict=True):
        writer.add(atoms, labels)
    writer.close(summary="said", isolated=frames.isolated)
    return folder


@pytest.mark.parametrize("edges", [True, False])
def test_graphs_are_those_of_memory(tmp_path: Path, edges: bool) -> None:
    frames = some()
    stored = ShardDataset(
        write(tmp_path / "a", frames, edges=edges), REFERENCES, weights={"b": 0.25}
    )
    memory = GraphDataset(frames, 3.5, REFERENCES, weights={"b": 0.25})
    assert len(stored.index["shards"]) > 1
    assert len(stored) == len(memory) == len(frames)
    for k in range(len(frames)):
        one, other = stored[k], memory[k]
        assert set(one.keys()) == set(other.keys())
        for name in one.keys():  # noqa: SIM118 (Data iterates over pairs)
            if name == "group":
                assert one.group == other.group
                continue
            assert one[name].dtype == other[name].dtype, name
            assert torch.equal(one[name].nan_to_num(-7.5), other[name].nan_to_num(-7.5)), name
    assert [float(memory[k].weight) for k in (1, 10)] == [1.5 * 0.25, 0.25]
    assert stored.n_neighbours == memory.n_neighbours
    assert stored.n_labels == frames.n_labels
    assert stored.elements == frames.elements
    assert (stored.n_atoms, stored.isolated) == (frames.n_atoms, {1: -13.0})
    chosen = [5, 3, 17, 3]
    assert stored.n_edges(chosen) == [int(memory[k].num_edges) for k in chosen]
    assert stored.most_edges == max(int(g.num_edges) for g in memory)


def test_compositions_and_pickles(tmp_path: Path) -> None:
    frames = some()
    stored = ShardDataset(write(tmp_path / "a", frames))
    for column in range(2):
        ours = np.concatenate([part[column] for part in stored.compositions((1, 8, 29))])
        theirs = np.concatenate([part[column] for part in frames.compositions((1, 8, 29))])
        assert np.array_equal(ours, theirs)
    assert stored[2].interaction_energy == stored[2].energy
    again = pickle.loads(pickle.dumps(stored))
    assert not again._open
    assert torch.equal(again[2].pos, stored[2].pos)
    with pytest.raises(IndexError, match=r"0 <= k < 23. Got 23"):
        stored[23]


def test_order(tmp_path: Path) -> None:
    frames = some(60)
    stored = ShardDataset(write(tmp_path / "a", frames, shard_bytes=1))
    assert len(stored.index["shards"]) == 60 > WINDOW

    def order(seed: int, start: int = 0) -> list[int]:
        return list(stored.order(torch.Generator().manual_seed(seed), start))

    assert sorted(order(3)) == list(range(60))
    assert order(3) == order(3) != order(4)
    for start in (0, 1, WINDOW, WINDOW + 1, 47, 60):
        assert order(3, start) == order(3)[start:]
    few = ShardDataset(write(tmp_path / "b", frames, shard_bytes=10**6))
    generator = torch.Generator().manual_seed(3)
    whole = torch.randperm(60, generator=torch.Generator().manual_seed(3)).tolist()
    assert list(few.order(generator)) == whole  # as in memory
    assert list(few.order(torch.Generator().manual_seed(3), 7)) == whole[7:]


def test_damage_is_seen(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", some())
    index = json.loads((folder / "index.json").read_text())
    first = folder / index["shards"][0]["file"]
    whole = first.read_bytes()
    first.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"000000.safetensors is missing or has another size"):
        ShardDataset(folder)
    first.write_bytes(b"\xff" * len(whole))
    with pytest.raises(ValueError, match=r"000000.safetensors: .*Write it anew"):
        ShardDataset(folder)[0]
    for change, message in (
        ({"format_version": None}, "format version None"),
        ({"format_version": 99}, "format version 99"),
        ({"elements": None}, "without elements"),
    ):
        content = {key: value for key, value in (index | change).items() if value is not None}
        (folder / "index.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            ShardDataset(folder)
    (folder / "index.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="is of something else"):
        ShardDataset(folder)
    with pytest.raises(ValueError, match=r"index.json: .*No such file"):
        ShardDataset(tmp_path)
    with pytest.raises(ValueError, match=r"No graph for this one: "):
        ShardWriter(tmp_path / "d", cutoff=1e-9).add(Atoms("H"), Labels(), "this one")
    with pytest.raises(ValueError, match=r"No graph for this one: .*same place"):
        ShardWriter(tmp_path / "c", cutoff=3.0).add(Atoms("H2"), Labels(), "this one")


def test_memory_of_going_through_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensornet.datasets.shards.WINDOW", 2)

    atoms, rng = bulk("Cu", cubic=True) * (3, 3, 2), np.random.default_rng(5)

    def most(n: int) -> int:
        tracemalloc.start()
        writer = ShardWriter(tmp_path / str(n), cutoff=3.5, shard_bytes=200_000)
        for _ in range(n):
            writer.add(atoms, Labels(forces=rng.normal(size=(len(atoms), 3))))
        writer.close()
        stored = ShardDataset(tmp_path / str(n), REFERENCES)
        assert len(stored) == n
        for k in range(n):
            stored[k]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    most(20)
    stored = sum(shard.stat().st_size for shard in (tmp_path / "20").iterdir()) / 20
    assert stored > 10_000
    assert (most(200) - most(50)) / 150 < 0.1 * stored  # garbage, and a line of the index per shard


def test_least_squares_in_parts() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(10_000, 4))
    a[:, 3] = a[:, 0] + a[:, 1]  # rank 3
    b = rng.normal(size=10_000)
    fit = LeastSquares(4)
    for part in range(0, 10_000, 700):
        fit.add(a[part : part + 700], b[part : part + 700])
    expected, _, rank, _ = np.linalg.lstsq(a, b)
    found, its = fit.solve()
    assert its == rank == 3
    assert found == pytest.approx(expected, abs=1e-12)


def test_forces_on_atoms_that_were_held(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    forces = np.array([[1.0, 0, 0], [0, 2, 0], [-1, -2, 0]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=forces)
    atoms.set_constraint(FixAtoms([1]))
    ase.io.write(tmp_path / "a.traj", [atoms, atoms])
    (plain, _) = read(tmp_path / "a.traj").labels
    frames = read(tmp_path / "a.traj", free_atoms=True)
    assert plain.forces is not None
    assert np.array_equal(plain.forces, forces)
    held = frames.labels[0].forces
    assert held is not None
    assert np.isnan(held[1]).all()
    assert np.array_equal(held[[0, 2]], forces[[0, 2]])
    assert "up to 2.000" in frames.summary  # what the file holds
    stored = ShardDataset(write(tmp_path / "shards", frames), REFERENCES)
    assert torch.equal(stored[1].forces.isnan(), torch.tensor(np.isnan(held)))
