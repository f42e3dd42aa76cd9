r"""A structure as a graph: atoms are nodes, pairs closer than a cutoff are edges.

Conventions, used by everything above: Å, float64, cells with lattice vectors as rows. An
edge points from its receiver (the central atom) to its sender (the neighbour),

    vector = pos[sender] + shift @ cell - pos[receiver],

where the shift counts lattice vectors. Every pair is there in both directions, and an atom
is a neighbour of its own images when the cell is smaller than the cutoff.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    import ase
    from torch_geometric.data import Data

COINCIDENT = 1e-3  # Å; closer atoms are one atom written twice
FLAT = 1e-8  # a unit cell of edges of length one has this volume when it is degenerate


def graph(atoms: "ase.Atoms", cutoff: float, *, skin: float = 0.0) -> "Data":
    """Make the graph of a structure.

    The list of neighbours respects the periodicity of each direction by itself; atoms may lie
    outside of the cell, and the cell may be smaller than the cutoff. Lattice vectors of
    directions that are not periodic are not used, and may be zero.

    Args:
        atoms: The structure, in Å.
        cutoff: Largest length of an edge, in Å.
        skin: Width added to the cutoff, in Å, so that the list of edges stays complete while
            no atom moves by more than half of it.

    Returns:
        A PyG graph, always float64, ready for `torch_geometric.data.Batch.from_data_list`:
        ``pos (n, 3)``, ``z (n,)`` atomic numbers, ``cell (1, 3, 3)``, ``pbc (1, 3)``,
        ``edge_index (2, e)`` with rows sender and receiver, ``edge_shift (e, 3)``, integers
        kept as float64, and ``charge (1,)``, see `total_charge`. Edges are sorted by receiver,
        sender and shift.

    Raises:
        ValueError: If there is no atom, a position or the cell is not finite, the lattice
            vectors of the periodic directions are linearly dependent, two atoms coincide, the
            cutoff is not positive, or the skin is negative.

    Examples:
        >>> from ase.build import bulk
        >>> copper = graph(bulk("Cu", a=3.6), 3.0)
        >>> copper.num_nodes, copper.num_edges
        (1, 12)
        >>> bool((edge_vectors(copper).norm(dim=1) < 3.0).all())
        True
    """
    _check(atoms, cutoff, skin)
    pbc = np.array(atoms.pbc, dtype=bool)
    import vesin  # slow to import, as the next: whoever makes no graph need not wait
    from torch_geometric.data import Data

    receiver, sender, shift, distance = vesin.NeighborList(
        cutoff=float(cutoff) + float(skin), full_list=True
    ).compute(atoms.positions, _box(atoms), pbc, quantities="ijSd")
    shift = shift.astype(np.int64)
    if len(distance) and distance.min() < COINCIDENT:
        _refuse_coincident(atoms, receiver, sender, shift, distance)
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], sender, receiver))
    edges = np.stack((sender, receiver))[:, order].astype(np.int64)
    return Data(
        pos=torch.tensor(atoms.positions, dtype=torch.float64),
        z=torch.tensor(atoms.numbers, dtype=torch.int64),
        cell=torch.tensor(atoms.cell.array, dtype=torch.float64)[None],
        pbc=torch.tensor(pbc)[None],
        edge_index=torch.from_numpy(edges),
        edge_shift=torch.tensor(shift[order], dtype=torch.float64),
        charge=torch.tensor([total_charge(atoms)], dtype=torch.float64),
    )


def total_charge(atoms: "ase.Atoms") -> float:
    """Give the total charge of a structure, e: ``atoms.info["charge"]``, by default zero.

    Args:
        atoms: The structure.

    Returns:
        The charge; NaN where the entry is no number: models that need the charge refuse it.

    Examples:
        >>> from ase import Atoms
        >>> total_charge(Atoms("OH", info={"charge": -1}))
        -1.0
    """
    said = atoms.info.get("charge", 0.0)
    try:
        return float(said)
    except (TypeError, ValueError):
        return float("nan")


def edge_vectors(
    graph: "Data",  # or a batch of s structures
) -> Tensor:  # (e, 3)
    """Compute the vectors from each receiver to its sender.

    Args:
        graph: A graph of `graph`, or a batch of them. Positions, cells and shifts may be of any
            float dtype, the same for all.

    Returns:
        One vector per edge, in Å.

    Derivatives:
        Any order, with respect to ``pos`` and ``cell``.

    Examples:
        >>> from ase import Atoms
        >>> edge_vectors(graph(Atoms("HF", [[0, 0, 0], [0, 0, 0.9]]), 1.0))
        tensor([[ 0.0000,  0.0000,  0.9000],
                [ 0.0000,  0.0000, -0.9000]], dtype=torch.float64)
    """
    sender, receiver = graph.edge_index
    cell, pos = graph.cell, graph.pos
    if len(cell) == 1:
        offset = graph.edge_shift @ cell[0]
    else:
        cells = cell[graph.batch[receiver]]  # (e, 3, 3)
        offset = (graph.edge_shift[:, None] @ cells)[:, 0]
    vectors: Tensor = pos.index_select(0, sender) + offset - pos.index_select(0, receiver)
    return vectors


def _box(atoms: "ase.Atoms") -> NDArray[np.float64]:
    # Lattice vectors of open directions carry no meaning for neighbours: orthogonal unit
    # vectors stand for them, so that zero or slanted ones do no harm.
    pbc = np.array(atoms.pbc, dtype=bool)
    box = np.array(atoms.cell.array, dtype=np.float64)
    if not pbc.all():
        box[~pbc] = np.linalg.svd(box[pbc])[2][pbc.sum() :]
    return box


def _check(atoms: "ase.Atoms", cutoff: float, skin: float) -> None:
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"`graph(cutoff=...)` must be a positive length in Å. Got {cutoff}.")
    if not (np.isfinite(skin) and skin >= 0):
        raise ValueError(f"`graph(skin=...)` must be zero or a positive length in Å. Got {skin}.")
    if len(atoms) == 0:
        raise ValueError("`graph(atoms=...)` must hold at least one atom. Got an empty structure.")
    finite = np.isfinite(atoms.positions).all(axis=1)
    if not finite.all():
        k = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"`graph(atoms=...)` must have finite positions. Got {atoms.positions[k].tolist()} for "
            f"atom {k} ({atoms.symbols[k]}); {int((~finite).sum())} of {len(atoms)} atoms are not "
            "finite. (In a simulation, this is a time step that is too long, or a model outside "
            "of its training data.)"
        )
    if not np.isfinite(atoms.cell.array).all():
        raise ValueError(
            f"`graph(atoms=...)` must have a finite cell. Got {atoms.cell.array.tolist()}."
        )
    pbc = np.array(atoms.pbc)
    periodic = atoms.cell.array[pbc]
    lengths = np.linalg.norm(periodic, axis=1)
    unit = periodic / np.maximum(lengths, 1e-300)[:, None]
    if (lengths == 0).any() or (pbc.any() and np.linalg.svd(unit)[1].prod() < FLAT):
        raise ValueError(
            "`graph(atoms=...)` must have linearly independent lattice vectors in its periodic "
            f"directions. Got pbc = {pbc.tolist()} and cell = {atoms.cell.array.tolist()}. "
            "(Set the cell, or `atoms.pbc = False` for a molecule.)"
        )


def _refuse_coincident(
    atoms: "ase.Atoms",
    receiver: NDArray[np.uint64],  # (e,)
    sender: NDArray[np.uint64],  # (e,)
    shift: NDArray[np.int64],  # (e, 3)
    distance: NDArray[np.float64],  # (e,)
) -> None:
    k = int(distance.argmin())
    i, j = sorted((int(receiver[k]), int(sender[k])))
    image = " through the periodic boundary" if shift[k].any() else ""
    pairs = int((distance < COINCIDENT).sum()) // 2
    raise ValueError(
        "`graph(atoms=...)` must not hold two atoms at the same place. "
        f"Got atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) at a distance of "
        f"{distance[k]:.2e} Å{image}; {pairs} such pair(s) in all. "
        "(Remove the copy, or check the cell.)"
    )
