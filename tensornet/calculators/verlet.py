"""Neighbour lists that live for many steps of a simulation (Verlet's skin)."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from tensornet.atoms import graph, total_charge
from tensornet.atoms.graph import COINCIDENT

if TYPE_CHECKING:
    import ase


class VerletList:
    r"""The graph of a structure that changes little from call to call.

    The list of edges is made for the cutoff plus a skin, and kept while no edge that it lacks can
    have become shorter than the cutoff. Let ``F`` carry the old cell into the new one, and ``u``
    be how far an atom moved beside that deformation, measured in the old cell and without whole
    lattice vectors. An edge of length ``r`` had at most the length ``r |F^-1| + 2 max |u|`` when
    the list was made, so the list is complete while

        cutoff |F^-1| + 2 max |u| < cutoff + skin.

    At a fixed cell this is the usual rule, no atom moved by more than half of the skin. Wrapping
    an atom back into the cell costs nothing, and a slow change of the cell little. (Where only
    some directions are periodic, any change of their lattice vectors makes a new list.)

    Args:
        cutoff: Largest length of an edge that is wanted, in Å.
        skin: Width added to it, in Å. Zero makes a new list at each call.
        make: Makes the graph from structure, cutoff and skin, where not every edge is wanted.

    Attributes:
        n_builds: How many lists were made so far.

    Raises:
        ValueError: If the skin is negative or no finite number.
    """

    def __init__(
        self,
        cutoff: float,
        skin: float = 0.5,
        make: "Callable[[ase.Atoms, float, float], Data] | None" = None,
    ) -> None:
        if not (np.isfinite(skin) and skin >= 0):
            raise ValueError(
                f"`VerletList(skin=...)` must be zero or a positive length in Å. Got {skin}."
            )
        self.cutoff = float(cutoff)
        self.skin = float(skin)
        self.n_builds = 0
        self._make = make or (lambda atoms, cutoff, skin: graph(atoms, cutoff, skin=skin))
        self._start: ase.Atoms | None = None
        self._graph: Data | None = None
        self._inverse = np.empty((3, 0))  # of the periodic lattice vectors

    def graph(self, atoms: "ase.Atoms") -> Data:
        """Give the graph of a structure, with the previous list of edges where it still holds.

        Args:
            atoms: The structure, in Å.

        Returns:
            The graph of `tensornet.atoms.graph`; it holds every edge shorter than the cutoff, and
            some longer ones. Positions are those of `atoms`, up to whole lattice vectors.

        Raises:
            ValueError: As `tensornet.atoms.graph` does for a structure that makes no sense.
        """
        positions = self._kept_positions(atoms)
        if positions is None or self._graph is None:
            self._graph = None  # a structure that is refused must not leave half a list
            made = self._make(atoms, self.cutoff, self.skin)
            self.n_builds += 1
            self._start, self._graph = atoms.copy(), made
            self._inverse = np.linalg.pinv(self._start.cell.array[np.array(atoms.pbc, dtype=bool)])
            return copy.copy(made)
        kept = copy.copy(self._graph)
        kept.pos = torch.from_numpy(positions)
        kept.cell = torch.from_numpy(np.array(atoms.cell.array, dtype=np.float64))[None]
        kept.charge = torch.tensor([total_charge(atoms)], dtype=torch.float64)
        return kept

    def forget(self) -> None:
        """Make a new list at the next call."""
        self._start = self._graph = None

    def _kept_positions(
        self, atoms: "ase.Atoms"
    ) -> NDArray[np.float64] | None:  # (n, 3), None if the list is void
        start = self._start
        if start is None or self._graph is None or self.skin == 0 or len(atoms) != len(start):
            return None
        pbc = np.array(atoms.pbc, dtype=bool)
        if not np.array_equal(atoms.numbers, start.numbers) or (pbc != start.pbc).any():
            return None
        positions = np.array(atoms.positions, dtype=np.float64, order="C")
        cell = np.array(atoms.cell.array, dtype=np.float64)
        if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
            return None
        if (cell[pbc] == start.cell.array[pbc]).all():
            stretch, moved = 1.0, positions - start.positions
        elif pbc.all() and np.linalg.matrix_rank(cell) == 3:
            back = np.linalg.solve(cell, start.cell.array)  # F^-1, for row vectors
            stretch = float(np.linalg.norm(back, 2))
            moved = positions @ back - start.positions
        else:
            return None
        if pbc.any():
            # Whole lattice vectors that an atom was moved by, as by wrapping it into the cell.
            jumps = np.rint(moved @ self._inverse)  # (n, periodic directions)
            if jumps.any():
                moved = moved - jumps @ start.cell.array[pbc]
                positions = positions - jumps @ cell[pbc]
        reach = self.cutoff * stretch + 2 * np.linalg.norm(moved, axis=1).max()
        if not reach < self.cutoff + self.skin or self._has_coincident(positions, cell):
            return None
        return positions

    def _has_coincident(
        self,
        positions: NDArray[np.float64],  # (n, 3)
        cell: NDArray[np.float64],  # (3, 3)
    ) -> bool:
        # Then a new list is made, which refuses the two atoms by name.
        assert self._graph is not None
        sender, receiver = self._graph.edge_index.numpy()
        if not len(sender):
            return False
        shift = self._graph.edge_shift.numpy() @ cell
        vectors = positions[sender] + shift - positions[receiver]
        return bool(np.einsum("ex,ex->e", vectors, vectors).min() < COINCIDENT**2)
