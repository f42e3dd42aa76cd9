"""What a model is told of its training data: units, mean energies, number of neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray
from torch_geometric.data import Data

from tensornet.atoms import edge_vectors
from tensornet.datasets import ShardDataset
from tensornet.datasets.regression import LeastSquares
from tensornet.datasets.shards import counts_of


@dataclass(frozen=True)
class Statistics:
    """Numbers that make the network's inputs and outputs of order one.

    Attributes:
        scale: Unit of energy, eV: RMS of the force components times 1 Å, or without forces the
            standard deviation of the interaction energy per atom.
        shift: Mean interaction energy of an atom per atomic number, eV.
        n_neighbours: Mean number of neighbours of an atom within the cutoff.
        closest: Shortest distance of each two elements, Å, by their symbols, as ``"C-H"``; the
            cutoff where no pair is closer.
    """

    scale: float
    shift: dict[int, float]
    n_neighbours: float
    closest: dict[str, float] = field(default_factory=dict)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers in the training data, sorted."""
        return tuple(sorted(self.shift))

    @property
    def closest_by_number(self) -> dict[tuple[int, int], float]:
        """The shortest distances by atomic numbers."""
        split = {key: key.split("-") for key in self.closest}
        return {
            (atomic_numbers[a], atomic_numbers[b]): self.closest[key]
            for key, (a, b) in split.items()
        }


@dataclass(frozen=True)
class _Part:
    """Some structures."""

    counts: NDArray[np.float64]  # (s, k), atoms per element
    energy: NDArray[np.float64]  # (s,), interaction energies, NaN where there is none
    forces: NDArray[np.float64]  # (...), components that are known
    edges: int


def statistics(graphs: Sequence[Data] | Any, cutoff: float) -> Statistics:
    """Take the statistics of labelled graphs.

    Args:
        graphs: Training graphs with ``interaction_energy`` and ``forces``, NaN where missing. A
            `ShardDataset` is gone through shard by shard.
        cutoff: Of the graphs, Å.

    Returns:
        Scale, shift per element by least squares on the composition (of smallest norm where
        compositions do not tell elements apart), the mean number of neighbours, and the closest
        contacts.
    """
    elements = (
        graphs.elements
        if isinstance(graphs, ShardDataset)
        else tuple(sorted({int(z) for k in range(len(graphs)) for z in graphs[k].z.unique()}))
    )

    def parts() -> Iterator[_Part]:
        if isinstance(graphs, ShardDataset):
            return _of_shards(graphs)
        return iter([_of_graphs(graphs, elements)])

    fit = LeastSquares(len(elements))
    squares, n_forces, edges, atoms = 0.0, 0, 0, 0.0
    for part in parts():
        n_atoms, known = part.counts.sum(1), ~np.isnan(part.energy)
        # Per atom, so that large structures do not outweigh small ones.
        fit.add((part.counts / n_atoms[:, None])[known], (part.energy / n_atoms)[known])
        squares, n_forces = squares + float((part.forces**2).sum()), n_forces + part.forces.size
        edges, atoms = edges + part.edges, atoms + float(n_atoms.sum())
    # By singular values: compositions of one molecule are all the same, which has rank one.
    shift = fit.solve(1e-10)[0] if fit.n_rows else np.zeros(len(elements))
    scale = math.sqrt(squares / n_forces) if n_forces else _spread(parts(), shift)
    return Statistics(
        scale=scale if scale > 1e-6 else 1.0,
        shift=dict(zip(elements, shift.tolist(), strict=True)),
        n_neighbours=max(1e-6, edges / atoms),
        closest=_closest(graphs, elements, cutoff),
    )


def _closest(
    graphs: Sequence[Data] | Any, elements: tuple[int, ...], cutoff: float
) -> dict[str, float]:
    """Find the shortest edge between each two elements."""
    k = len(elements)
    found = torch.full((k, k), float(cutoff), dtype=torch.float64)
    place = torch.tensor(elements)
    for index in range(len(graphs)):
        data = graphs[index]
        at = torch.searchsorted(place, data.z)[data.edge_index]
        found.view(-1).scatter_reduce_(
            0, at[0] * k + at[1], edge_vectors(data).norm(dim=1).to(found), "amin"
        )
    found = torch.minimum(found, found.T)
    return {
        f"{chemical_symbols[elements[a]]}-{chemical_symbols[elements[b]]}": float(found[a, b])
        for a in range(k)
        for b in range(a, k)
    }


def _of_graphs(graphs: Sequence[Data] | Any, elements: tuple[int, ...]) -> _Part:
    every = [graphs[k] for k in range(len(graphs))]
    columns = torch.tensor(elements)
    forces = torch.cat([g.forces.reshape(-1) for g in every])
    return _Part(
        torch.stack([(g.z[:, None] == columns).sum(0) for g in every]).double().numpy(),
        torch.cat([g.interaction_energy for g in every]).numpy(),
        forces[~forces.isnan()].numpy(),
        sum(int(g.edge_index.shape[1]) for g in every),
    )


def _of_shards(graphs: ShardDataset) -> Iterator[_Part]:
    references = graphs.references or {}
    values = np.array([references.get(z, 0.0) for z in graphs.elements])
    for k in range(len(graphs.index["shards"])):
        shard = graphs.shard(k)
        counts = counts_of(shard, graphs.elements)
        forces = shard["forces"].numpy()
        edges = int(shard["first_edge"][-1])
        known = forces[~np.isnan(forces)]
        yield _Part(counts, shard["energy"].numpy() - counts @ values, known, edges)


def _spread(parts: Iterator[_Part], shift: NDArray[np.float64]) -> float:
    """Standard deviation per atom of what the shifts leave of the energies."""
    n, mean, squares = 0, 0.0, 0.0
    for part in parts:
        rest = (part.energy - part.counts @ shift) / part.counts.sum(1)
        rest = rest[~np.isnan(rest)]
        if not len(rest):
            continue
        share = len(rest) / (n + len(rest))
        step = float(rest.mean()) - mean
        squares += float(((rest - rest.mean()) ** 2).sum()) + step**2 * n * share
        mean, n = mean + share * step, n + len(rest)
    return math.sqrt(squares / n) if n else 0.0
