"""Structures with labels as graphs, ready for training."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data

from tensornet.atoms import graph
from tensornet.datasets.labels import Labels
from tensornet.datasets.read import Frames, group_of
from tensornet.datasets.references import ReferenceEnergies


class GraphDataset(Dataset[Data]):
    """Graphs of structures, built once and kept in memory.

    Each graph has the fields of `tensornet.atoms.graph` and the labels, in float64, NaN where
    there is none: ``energy (1,)`` eV, ``interaction_energy (1,)`` eV, the energy less the
    reference energies, ``forces (n, 3)`` eV/Å and ``stress (1, 3, 3)`` eV/Å³. If a structure
    has ``config_type`` or ``group`` in its ``info``, all graphs have a string ``group``, empty
    where there is none.

    Args:
        frames: Structures with labels.
        cutoff: Largest length of an edge, Å.
        references: Reference energies, or energies by atomic number, eV.
        weights: Weight in the loss by name of the group; 1 where there is none. If a structure
            has a weight that is not 1, all graphs have a ``weight (1,)``.

    Raises:
        ValueError: If a structure has no graph (see `tensornet.atoms.graph`), or an element has
            no reference energy.

    Examples:
        >>> from ase import Atoms
        >>> frames = Frames((Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]),), (Labels(energy=-31.0),), {})
        >>> data = GraphDataset(frames, 5.0, {1: -13.0})[0]
        >>> data.interaction_energy
        tensor([-5.], dtype=torch.float64)
    """

    def __init__(
        self,
        frames: Frames,
        cutoff: float,
        references: ReferenceEnergies | Mapping[int, float],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        values = references.values if isinstance(references, ReferenceEnergies) else references
        self.cutoff = float(cutoff)
        groups = [group_of(atoms) for atoms in frames.structures]
        grouped = any(group is not None for group in groups)
        weighted = bool(weights) or any(one.weight != 1 for one in frames.labels)
        self._graphs: list[Data] = []
        for k, (atoms, labels) in enumerate(zip(frames.structures, frames.labels, strict=True)):
            try:
                data = graph(atoms, cutoff)
            except (ValueError, RuntimeError) as error:  # the latter of vesin
                raise ValueError(f"No graph for {frames.names[k]}: {error}") from None
            reference = reference_of(atoms.numbers.tolist(), values, frames.names[k])
            _label(data, labels, reference)
            if weighted:
                weight = labels.weight * (weights or {}).get(groups[k] or "", 1.0)
                data.weight = torch.tensor([weight], dtype=torch.float64)
            if grouped:
                data.group = groups[k] or ""
            self._graphs.append(data)

    def __len__(self) -> int:
        return len(self._graphs)

    def __getitem__(self, index: int) -> Data:
        return self._graphs[index]

    def __iter__(self) -> Iterator[Data]:
        return iter(self._graphs)

    @property
    def most_edges(self) -> int:
        """Largest number of edges of a structure."""
        return max((int(data.num_edges) for data in self._graphs), default=0)

    @property
    def n_neighbours(self) -> float:
        """Mean number of neighbours of an atom."""
        edges = sum(int(data.num_edges) for data in self._graphs)
        return edges / max(sum(int(data.num_nodes) for data in self._graphs), 1)


def _label(data: Data, labels: Labels, reference: float) -> None:
    nan = float("nan")
    energy = nan if labels.energy is None else labels.energy
    data.energy = torch.tensor([energy], dtype=torch.float64)
    data.interaction_energy = torch.tensor([energy - reference], dtype=torch.float64)
    for name, value, shape in (
        ("forces", labels.forces, (len(data.pos), 3)),
        ("stress", labels.stress, (1, 3, 3)),
    ):
        data[name] = (
            torch.full(shape, nan, dtype=torch.float64)
            if value is None
            else torch.tensor(value, dtype=torch.float64).reshape(shape)
        )


def reference_of(numbers: Sequence[int], values: Mapping[int, float], where: str) -> float:
    """Add up the reference energies of the atoms of a structure, eV.

    Args:
        numbers: Atomic numbers.
        values: Reference energies by atomic number.
        where: Name of the structure, for messages.

    Returns:
        Their sum.

    Raises:
        ValueError: If an element has none.
    """
    for z in numbers:
        if z not in values:
            from ase.data import chemical_symbols

            raise ValueError(
                "`GraphDataset(references=...)` must have every element in the data. Got none for "
                f"{chemical_symbols[z]}, which is in {where}. (Was it in the training data?)"
            )
    return float(sum(values[z] for z in numbers))
