"""What a model is told of its training data: units, mean energies, number of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data


@dataclass(frozen=True)
class Statistics:
    """Numbers that make the network's inputs and outputs of order one.

    Attributes:
        scale: Unit of energy, eV: RMS of the force components times 1 Å, or without forces the
            standard deviation of the interaction energy per atom.
        shift: Mean interaction energy of an atom per atomic number, eV.
        n_neighbours: Mean number of neighbours of an atom within the cutoff.
    """

    scale: float
    shift: dict[int, float]
    n_neighbours: float

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers in the training data, sorted."""
        return tuple(sorted(self.shift))


def statistics(graphs: Sequence[Data] | Any) -> Statistics:
    """Take the statistics of labelled graphs.

    Args:
        graphs: Training graphs with ``interaction_energy`` and ``forces``, NaN where missing.

    Returns:
        Scale, shift per element by least squares on the composition (of smallest norm where
        compositions do not tell elements apart), and the mean number of neighbours.
    """
    all_graphs = [graphs[k] for k in range(len(graphs))]
    elements = torch.tensor(sorted({int(z) for g in all_graphs for z in g.z}))
    n_atoms = torch.tensor([g.num_nodes for g in all_graphs], dtype=torch.float64)
    counts = torch.stack([(g.z[:, None] == elements).sum(0) for g in all_graphs])
    energy = torch.cat([g.interaction_energy for g in all_graphs])
    known = ~energy.isnan()
    shift = torch.zeros(len(elements), dtype=torch.float64)
    if known.any():
        # Per atom, so that large structures do not outweigh small ones.
        composition = (counts / n_atoms[:, None])[known]
        shift = _least_squares(composition, (energy / n_atoms)[known])
    forces = torch.cat([g.forces.reshape(-1) for g in all_graphs])
    forces = forces[~forces.isnan()]
    if forces.numel():
        scale = float(forces.square().mean().sqrt())
    else:
        residual = (energy - counts.to(torch.float64) @ shift) / n_atoms
        scale = float(residual[known].std(correction=0)) if known.any() else 0.0
    edges = sum(int(g.edge_index.shape[1]) for g in all_graphs)
    return Statistics(
        scale=scale if scale > 1e-6 else 1.0,
        shift=dict(zip(elements.tolist(), shift.tolist(), strict=True)),
        n_neighbours=max(1e-6, edges / float(n_atoms.sum())),
    )


def _least_squares(
    a: Tensor,  # (s, d)
    b: Tensor,  # (s,)
) -> Tensor:  # (d,)
    # By singular values: compositions of one molecule are all the same, which has rank one.
    solution: Tensor = torch.linalg.pinv(a, rtol=1e-10) @ b
    return solution
