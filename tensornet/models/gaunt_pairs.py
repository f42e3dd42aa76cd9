"""What pairs of atoms have beside the layers of `Gaunt`: contacts, binding shift and repulsion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tensornet.atoms import COULOMB
from tensornet.kernels.pairs.cpu import Edges
from tensornet.layers import ZBL
from tensornet.layers.radial import FLAT

if TYPE_CHECKING:
    from tensornet.models.gaunt import Gaunt

Array = np.ndarray[Any, Any]


class PairTerms:
    """Measures the edges, and gives binding shift and repulsion.

    Args:
        model: The model.
    """

    def __init__(self, model: Gaunt) -> None:
        self.cutoff, self.shift = model.cutoff, model.binding.shift.detach().numpy().copy()
        start = (model.contact * model.closest).double()
        reach, charges, screening = (torch.zeros_like(start) for _ in range(3))
        zbl: ZBL | None = model.repulsion
        if zbl is not None:
            z = zbl.z.double()
            reach, screening = torch.maximum(zbl.range.double(), start), zbl.screening.double()
            charges = COULOMB * z[:, None] * z
        parts = torch.stack([start, reach, charges, screening], -1)
        self._pairs = parts.flatten(0, 1).numpy()
        terms = [ZBL.coefficients, ZBL.exponents]
        self._terms = torch.tensor(terms, dtype=torch.float64).T.contiguous().numpy()

    def measure(
        self,
        species: Array,  # (n,)
        edge_index: Array,  # (2, e)
        vectors: Array,  # (e, 3) float64
        edges: Edges,
    ) -> None:
        """Measure the edges."""
        ends = np.ascontiguousarray(edge_index[0]), np.ascontiguousarray(edge_index[1])
        edges.measure(vectors, *ends, species, self._pairs, self._terms, FLAT, self.cutoff)

    def energies(
        self,
        species: Array,  # (n,)
        edges: Edges,
    ) -> tuple[Array, Array]:  # (n,), (n,)
        """Energies, and the derivative of each atom's in the sum of its envelopes."""
        neighbours, repulsion = edges.sums
        shift = self.shift[species]
        bound = shift * np.expm1(-2 * neighbours)
        return repulsion - bound, 2 * (shift + bound)
