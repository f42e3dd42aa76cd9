"""Write data sets in shards."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tensornet._typing import AnyPath
from tensornet.atoms import graph
from tensornet.datasets.labels import LABELS, Labels
from tensornet.datasets.read import group_of
from tensornet.datasets.shards import FORMAT, FORMAT_VERSION, PER_ATOM, PER_EDGE

if TYPE_CHECKING:
    import ase

SHARD_BYTES = 16 * 2**20


class ShardWriter:
    """Write structures with labels into a folder, as `ShardDataset` reads it.

    Memory holds one shard. Without a call of `close` there is no index, and no data set.

    Args:
        folder: A new folder, which is made.
        cutoff: Largest length of an edge, Å.
        edges: Whether to store the edges: more room, by 11 bytes per edge, and less time.
        shard_bytes: Size of a shard, about.

    Attributes:
        groups: Number of each group.
        labels: How many structures so far have each label, and how many are ``periodic``.

    Examples:
        >>> import tempfile
        >>> from ase import Atoms
        >>> from tensornet.datasets import ShardDataset
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer = ShardWriter(Path(folder, "shards"), cutoff=3.0)
        ...     writer.add(Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), Labels(energy=-31.0))
        ...     writer.close()
        ...     data = ShardDataset(Path(folder, "shards"), {1: -13.0})
        ...     len(data), data[0].num_edges, data[0].interaction_energy.item()
        (1, 2, -5.0)
    """

    def __init__(
        self,
        folder: AnyPath,
        *,
        cutoff: float,
        edges: bool = True,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.cutoff, self.edges, self.shard_bytes = float(cutoff), edges, shard_bytes
        self.groups: dict[str, int] = {}
        self._elements: set[int] = set()
        self.labels = dict.fromkeys((*LABELS, "periodic"), 0)
        self._shards: list[dict[str, Any]] = []
        self._most_edges = 0
        self._weighted = False
        self._rows: list[dict[str, Tensor]] = []
        self._n_edges: list[int] = []
        self._bytes = 0

    def add(self, atoms: ase.Atoms, labels: Labels, name: str = "the structure") -> None:
        """Add a structure.

        Args:
            atoms: The structure.
            labels: Its labels.
            name: For messages.

        Raises:
            ValueError: If it has no graph (see `tensornet.atoms.graph`).
            OSError: If a shard cannot be written.
        """
        try:
            data = graph(atoms, self.cutoff)
        except (ValueError, RuntimeError) as error:  # the latter of vesin
            raise ValueError(f"No graph for {name}: {error}") from None
        group = group_of(atoms)
        row = {
            "positions": data.pos,
            "numbers": data.z.to(torch.uint8),
            "cell": data.cell[0],
            "pbc": data.pbc[0],
            "energy": _or_nan(labels.energy, ()),
            "forces": _or_nan(labels.forces, (len(atoms), 3)),
            "stress": _or_nan(labels.stress, (3, 3)),
            "weight": torch.tensor(labels.weight, dtype=torch.float64),
            "charge": data.charge[0],
            "group": torch.tensor(-1 if group is None else self.number_of(group)),
        }
        if self.edges:
            row["sender"], row["receiver"] = data.edge_index.to(torch.int32)
            row["shift"] = data.edge_shift.to(torch.int16)
        self.add_row(row, int(data.num_edges))

    def number_of(self, group: str) -> int:
        """Give a group its number, the next one if it is new.

        Args:
            group: Its name.

        Returns:
            Its place in the list ``groups`` of the index.
        """
        return self.groups.setdefault(group, len(self.groups))

    def add_row(self, row: Mapping[str, Tensor], n_edges: int) -> None:
        """Add a structure as `ShardDataset.row` gives it.

        Args:
            row: Its tensors.
            n_edges: How many edges it has, stored or not.

        Raises:
            OSError: If a shard cannot be written.
        """
        kept = {name: x.clone() for name, x in row.items()}
        self._rows.append(kept)
        self._n_edges.append(n_edges)
        self._bytes += sum(x.numel() * x.element_size() for x in kept.values())
        self._most_edges = max(self._most_edges, n_edges)
        self._weighted |= float(kept["weight"]) != 1
        self._elements.update(kept["numbers"].unique().tolist())
        for label in LABELS:
            self.labels[label] += not bool(kept[label].isnan().all())
        self.labels["periodic"] += bool(kept["pbc"].all())
        if self._bytes >= self.shard_bytes:
            self._flush()

    def close(
        self, *, summary: str = "", found: str = "", isolated: Mapping[int, float] | None = None
    ) -> None:
        """Write the last shard and the index, which makes the folder a data set.

        Args:
            summary: What was read, to show.
            found: Every key in the files.
            isolated: Energies of isolated atoms, eV.

        Raises:
            OSError: If a file cannot be written.
        """
        if self._rows:
            self._flush()
        index = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "cutoff": self.cutoff,
            "stored_edges": self.edges,
            "elements": sorted(self._elements),
            "labels": self.labels,
            "groups": list(self.groups),
            "weighted": self._weighted,
            "most_edges": self._most_edges,
            "isolated": {str(z): energy for z, energy in (isolated or {}).items()},
            "summary": summary,
            "found": found,
            "shards": self._shards,
        }
        _synced(self.folder / "index.json", json.dumps(index, indent=1).encode())

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        edges, self._n_edges, self._bytes = self._n_edges, [], 0
        tensors = {
            name: (torch.cat if name in (*PER_ATOM, *PER_EDGE) else torch.stack)(
                [row[name] for row in rows]
            ).contiguous()
            for name in rows[0]
        }
        tensors["first_atom"] = _starts([len(row["numbers"]) for row in rows])
        tensors["first_edge"] = _starts(edges)
        path = self.folder / f"{len(self._shards):06d}.safetensors"
        save_file(tensors, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        self._shards.append(
            {
                "file": path.name,
                "structures": len(rows),
                "atoms": sum(len(row["numbers"]) for row in rows),
                "edges": sum(edges),
                "bytes": path.stat().st_size,
            }
        )


def _or_nan(value: Any, shape: tuple[int, ...]) -> Tensor:
    if value is None:
        return torch.full(shape, torch.nan, dtype=torch.float64)
    return torch.tensor(np.asarray(value), dtype=torch.float64).reshape(shape)


def _starts(counts: list[int]) -> Tensor:
    return torch.tensor([0, *np.cumsum(counts, dtype=np.int64).tolist()], dtype=torch.int64)


def _synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
