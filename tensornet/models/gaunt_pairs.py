"""What pairs of atoms have beside the layers of `Gaunt`: contacts, binding shift and repulsion."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from tensornet.kernels.pairs.cpu import collect, measure, receive
from tensornet.layers import ZBL
from tensornet.layers.energy import COULOMB
from tensornet.layers.radial import FLAT

if TYPE_CHECKING:
    from tensornet.models.gaunt import Gaunt


class Edges(NamedTuple):
    """What is known of the edges before the layers."""

    sender: Tensor  # (e,)
    receiver: Tensor  # (e,)
    pair: Tensor  # (e,) species of the sender, times their number, and of the receiver
    numbers: Tensor  # (6, e), as `measure` gives them
    level: Tensor  # (e,) lengths as the networks see them
    envelope: Tensor  # (e,)
    sums: Tensor  # (2, n), at the atoms: of envelopes, of half repulsions


class PairTerms:
    """Measures the edges, and adds binding shift and repulsion.

    Args:
        model: The model.
    """

    def __init__(self, model: Gaunt) -> None:
        self.cutoff, self.shift = model.cutoff, model.binding.shift
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
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        vectors: Tensor,  # (e, 3)
    ) -> Edges:
        """Measure the edges."""
        sender, receiver = edge_index[0].contiguous(), edge_index[1].contiguous()
        ends = vectors.numpy(), sender.numpy(), receiver.numpy(), species.numpy()
        found = measure(*ends, self._pairs, self._terms, FLAT, self.cutoff)
        numbers, pair, sums = (torch.from_numpy(x) for x in found)
        return Edges(sender, receiver, pair, numbers, numbers[1], numbers[3], sums)

    def add(
        self,
        energies: Tensor,  # (n,), added to
        species: Tensor,  # (n,)
        edges: Edges,
    ) -> Tensor:  # (n,)
        """Add the energies; the derivative of each atom's in the sum of its envelopes."""
        neighbours, repulsion = edges.sums
        shift = self.shift[species]
        bound = shift * torch.expm1(-2 * neighbours)
        energies += repulsion - bound
        return 2 * (shift + bound)

    def receive(
        self,
        gradients: Tensor,  # (e, 3)
        vectors: Tensor,  # (e, 3)
        edges: Edges,
    ) -> tuple[Tensor, Tensor]:  # (n, 3), (n, 3, 3)
        """Sum gradients up to forces and virials of the atoms."""
        sender, receiver = edges.sender.numpy(), edges.receiver.numpy()
        n = edges.sums.shape[1]
        forces, virials = receive(vectors.numpy(), gradients.numpy(), sender, receiver, n)
        return torch.from_numpy(forces), torch.from_numpy(virials)

    def collect(
        self,
        gradients: Tensor,  # (e, 3), added to
        vectors: Tensor,  # (e, 3)
        edges: Edges,
        of_atoms: Tensor,  # (2, n)
        of_level: Tensor,  # (e,)
        of_harmonics: Tensor,  # (e, m)
        angular: Tensor,  # (e, m)
    ) -> None:
        """Add the derivatives along the edges to the gradients.

        Args:
            gradients: In the vectors.
            vectors: Of the edges.
            edges: The edges.
            of_atoms: Derivatives in the sums of envelopes and repulsions.
            of_level: Derivatives in the lengths that the networks see.
            of_harmonics: Derivatives in harmonics times envelopes.
            angular: The harmonics.
        """
        collect(
            vectors.numpy(), edges.receiver.numpy(), edges.numbers.numpy(), of_atoms.numpy(),
            of_level.numpy(), of_harmonics.numpy(), angular.numpy(), gradients.numpy(),
        )  # fmt: skip
