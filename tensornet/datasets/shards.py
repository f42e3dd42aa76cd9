"""Data sets on disk, in shards that are mapped into memory: as large as the disk.

A folder holds ``index.json`` and shards of some thousand structures, each a safetensors file: no
pickle, mapped without a copy, and one dependency that model files need as well.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from tensornet._typing import AnyPath
from tensornet.atoms import graph
from tensornet.datasets.graphs import reference_of

if TYPE_CHECKING:
    import ase

FORMAT, FORMAT_VERSION = "tensornet.shards", 1
WINDOW = 16  # shards whose structures are shuffled among each other
# What an index says besides its format.
CONTENT = (
    *("cutoff", "stored_edges", "elements", "labels", "groups", "weighted", "most_edges"),
    *("isolated", "summary", "found", "shards"),
)
PER_ATOM = ("positions", "numbers", "forces")
PER_EDGE = ("sender", "receiver", "shift")
PER_STRUCTURE = ("cell", "pbc", "energy", "stress", "weight", "group", "charge")


class ShardDataset(Dataset[Data]):
    """Graphs that stay on disk until they are asked for.

    They are those of `GraphDataset`. Memory does not grow with their number: of all structures
    only totals are kept, and at most `WINDOW` shards are mapped at once.

    Args:
        folder: Written by `ShardWriter`.
        references: Reference energies by atomic number, eV. By default zero.
        weights: Weight in the loss by name of the group; 1 where there is none.

    Attributes:
        elements: Atomic numbers.
        isolated: Energies of isolated atoms, eV.
        n_labels: How many structures have each label, and how many are ``periodic``.
        n_atoms: Number of atoms.
        groups: Names of the groups that structures belong to.
        most_edges: Largest number of edges of a structure.
        summary: What was read, to show.
        found: Every key in the files.

    Raises:
        ValueError: If the folder holds no such data set, or shards are missing or damaged.
    """

    def __init__(
        self,
        folder: AnyPath,
        references: Mapping[int, float] | None = None,
        *,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.references = references
        self.weights = dict(weights or {})
        self.index = index = _read_index(self.folder)
        self.cutoff = float(index["cutoff"])
        self.elements: tuple[int, ...] = tuple(index["elements"])
        self.isolated = {int(z): float(e) for z, e in index["isolated"].items()}
        self.n_labels: dict[str, int] = index["labels"]
        self.n_atoms = sum(int(shard["atoms"]) for shard in index["shards"])
        self.most_edges: int = index["most_edges"]
        self.summary: str = index["summary"]
        self.found: str = index["found"]
        self.groups: set[str] = set(index["groups"])
        sizes = [shard["structures"] for shard in index["shards"]]
        self.starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        self._open: OrderedDict[int, dict[str, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def n_neighbours(self) -> float:
        """Mean number of neighbours of an atom."""
        return self.total_edges / max(self.n_atoms, 1)

    @property
    def total_edges(self) -> int:
        """Number of edges of all structures."""
        return sum(int(shard["edges"]) for shard in self.index["shards"])

    def __getitem__(self, k: int) -> Data:
        row = self.row(k)
        numbers = row["numbers"].to(torch.int64)
        if "sender" in row:
            edges = torch.stack((row["sender"], row["receiver"])).to(torch.int64)
            shift = row["shift"].to(torch.float64)
        else:
            built = graph(_atoms(row), self.cutoff)
            edges, shift = built.edge_index, built.edge_shift
        energy = row["energy"]
        reference = 0.0
        if self.references is not None:
            reference = reference_of(numbers.tolist(), self.references, f"structure {k}")
        data = Data(
            pos=row["positions"], z=numbers, cell=row["cell"][None], pbc=row["pbc"][None],
            edge_index=edges, edge_shift=shift, energy=energy[None],
            interaction_energy=energy[None] - reference, forces=row["forces"],
            stress=row["stress"][None],
            charge=row.get("charge", energy.new_zeros(()))[None],  # the first shards have none
        )  # fmt: skip
        group = self._group(int(row["group"]))
        if self.index["weighted"] or self.weights:
            data.weight = row["weight"][None] * self.weights.get(group, 1.0)
        if self.index["groups"]:
            data.group = group
        return data

    def row(self, k: int) -> dict[str, Tensor]:
        """Give what is stored of a structure, as views of the mapped file.

        Args:
            k: Which structure, from zero on.

        Returns:
            ``positions`` (n, 3) Å, ``numbers`` (n,), ``forces`` (n, 3) eV/Å, ``cell`` (3, 3) Å,
            ``pbc`` (3,), ``energy`` () eV, ``stress`` (3, 3) eV/Å³, ``weight`` (), ``charge`` () e,
            ``group`` (), the number of its group or -1, and with stored edges ``sender`` and
            ``receiver`` (e,) and ``shift`` (e, 3). Labels that are missing are NaN.

        Raises:
            IndexError: If there is no such structure.
        """
        if not 0 <= k < len(self):
            raise IndexError(f"`ShardDataset[k]` must have 0 <= k < {len(self)}. Got {k}.")
        number = int(np.searchsorted(self.starts, k, side="right")) - 1
        shard, k = self.shard(number), k - int(self.starts[number])
        row = {name: shard[name][k] for name in PER_STRUCTURE if name in shard}
        for names, first in ((PER_ATOM, "first_atom"), (PER_EDGE, "first_edge")):
            start, end = shard[first][k : k + 2].tolist()
            row |= {name: shard[name][start:end] for name in names if name in shard}
        return row

    def shard(self, number: int) -> dict[str, Tensor]:
        """Map a shard; the one that was not used for longest is let go.

        Args:
            number: Which shard, from zero on.

        Returns:
            Its tensors: those of `row`, of all its structures one behind the other or stacked, and
            ``first_atom`` and ``first_edge`` (s + 1,), where each structure begins.

        Raises:
            ValueError: If the file is damaged.
        """
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        while len(self._open) >= WINDOW:
            self._open.popitem(last=False)
        path = self.folder / self.index["shards"][number]["file"]
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise _damaged(self.folder, f"{path.name}: {error}") from None
        self._open[number] = found
        return found

    def n_edges(self, indices: Sequence[int]) -> list[int]:
        """Give the numbers of edges of structures without reading them.

        Args:
            indices: Which structures.

        Returns:
            One number for each.
        """
        where = np.asarray(indices, dtype=np.int64)
        numbers = np.searchsorted(self.starts, where, side="right") - 1
        counts = np.zeros(len(where), dtype=np.int64)
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            first = self.shard(number)["first_edge"].numpy()
            inside = where[mine] - self.starts[number]
            counts[mine] = first[inside + 1] - first[inside]
        result: list[int] = counts.tolist()
        return result

    def order(self, generator: torch.Generator, start: int = 0) -> Iterator[int]:
        """Go through all structures in random order.

        Shards are shuffled, and structures among `WINDOW` shards: a data set of so few is shuffled
        as a whole, as in memory.

        Args:
            generator: Random numbers, which the order follows from.
            start: How many to leave out at the beginning. What is left out is not read.

        Yields:
            Numbers of structures, each once.
        """
        sizes = np.diff(self.starts)
        if len(sizes) <= WINDOW:
            yield from torch.randperm(len(self), generator=generator)[start:].tolist()
            return
        shards = torch.randperm(len(sizes), generator=generator).numpy()
        for first in range(0, len(shards), WINDOW):
            window = shards[first : first + WINDOW]
            n = int(sizes[window].sum())
            mixed = torch.randperm(n, generator=generator)
            if start >= n:
                start -= n
                continue
            ranges = [np.arange(self.starts[k], self.starts[k + 1]) for k in window]
            yield from np.concatenate(ranges)[mixed.numpy()[start:]].tolist()
            start = 0

    def compositions(
        self, elements: tuple[int, ...]
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Give what energies are of, shard by shard, as `Frames.compositions` does.

        Args:
            elements: Atomic numbers.

        Yields:
            For each shard, how many atoms of each element a structure has (s, k), and its energy
            (s,), eV, for the structures with an energy.
        """
        for number in range(len(self.index["shards"])):
            shard = self.shard(number)
            energy = shard["energy"].numpy()
            known = ~np.isnan(energy)
            if known.any():
                yield counts_of(shard, elements)[known], energy[known]

    def _group(self, number: int) -> str:
        name: str = self.index["groups"][number] if number >= 0 else ""
        return name

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}  # another process maps for itself


def counts_of(
    shard: Mapping[str, Tensor],
    elements: Sequence[int],
) -> NDArray[np.float64]:  # (s, k)
    """Count the atoms of each element in the structures of a shard.

    Args:
        shard: From `ShardDataset.shard`.
        elements: Atomic numbers, each a column.

    Returns:
        The counts.
    """
    first, numbers = shard["first_atom"].numpy(), shard["numbers"].numpy()
    owner = np.repeat(np.arange(len(first) - 1), np.diff(first))
    columns = [np.bincount(owner[numbers == z], minlength=len(first) - 1) for z in elements]
    return np.stack(columns, axis=1).astype(np.float64)


def _atoms(row: Mapping[str, Tensor]) -> ase.Atoms:
    from ase import Atoms

    arrays = [row[name].numpy() for name in ("numbers", "positions", "cell", "pbc")]
    return Atoms(arrays[0], arrays[1], cell=arrays[2], pbc=arrays[3])


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"index.json: {error}") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise _damaged(folder, "index.json is of something else")
    version = index.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise _damaged(folder, f"format version {version}; update tensornet")
    if lost := [key for key in CONTENT if key not in index]:
        raise _damaged(folder, f"index.json is without {', '.join(lost)}")
    for shard in index["shards"]:
        path = folder / shard["file"]
        if not path.is_file() or path.stat().st_size != shard["bytes"]:
            raise _damaged(folder, f"{shard['file']} is missing or has another size")
    return index


def _damaged(folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"`ShardDataset(folder=...)` must be a whole data set in shards. Got {folder}: {reason}. "
        "(Write it anew.)"
    )
