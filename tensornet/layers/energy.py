"""What turns a network's output into an energy with the right limits."""

import math
from collections.abc import Mapping, Sequence

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from tensornet.atoms.units import COULOMB
from tensornet.layers.attention import sum_to_receivers
from tensornet.layers.jets import evaluate, over, times
from tensornet.layers.radial import envelope_jet


class BindingShift(nn.Module):
    """The mean interaction energy of an element, for atoms that have neighbours.

    A bound atom starts at the mean of the training data and the network learns the rest; a free
    atom has none of it. In between the shift is multiplied by 1 - exp(-2 sum of f), with f the
    envelope of each neighbour: flat for a bound atom, smooth for one that leaves.

    Args:
        elements: Atomic numbers.
        shift: Energy per atomic number, eV; zero for those that are missing, or if none is given.
    """

    shift: Tensor

    def __init__(self, elements: Sequence[int], shift: Mapping[int, float] | None) -> None:
        super().__init__()
        values = [0.0 if shift is None else float(shift.get(z, 0.0)) for z in elements]
        self.register_buffer("shift", torch.tensor(values))

    def forward(
        self,
        species: Tensor,  # (n,)
        receiver: Tensor,  # (e,)
        envelope: Tensor,  # (e,)
    ) -> Tensor:  # (n,)
        """Give the shift of each atom, eV."""
        neighbours = sum_to_receivers(envelope, receiver, species.shape[0])
        return -self.shift[species] * torch.expm1(-2 * neighbours)


class ZBL(nn.Module):
    """Screened nuclear repulsion between atoms closer than a bond.

    Training data hold no such pairs; without it a potential may have holes there, into which a
    hot trajectory falls. Switched off smoothly at the sum of the covalent radii, or further out.

    Args:
        elements: Atomic numbers.

    References:
        Ziegler, Biersack & Littmark, The Stopping and Range of Ions in Solids (1985): universal
        potential. Covalent radii: Cordero et al. (2008).
    """

    coefficients = (0.18175, 0.50986, 0.28022, 0.02817)
    exponents = (3.19980, 0.94229, 0.40290, 0.20162)

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__()
        z = torch.tensor(elements, dtype=torch.get_default_dtype())
        radii = torch.tensor([covalent_radii[i] for i in elements], dtype=z.dtype)
        power = z**0.23
        self.register_buffer("z", z, persistent=False)
        self.register_buffer("screening", (power[:, None] + power) / 0.46850, persistent=False)
        self.register_buffer("range", radii[:, None] + radii, persistent=False)
        self.z: Tensor
        self.screening: Tensor
        self.range: Tensor

    def forward(
        self,
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        distances: Tensor,  # (e,)
        reach: Tensor | None = None,  # (elements, elements)
    ) -> Tensor:  # (n,)
        """Give half of each pair's repulsion to either atom, eV.

        Args:
            species: Which element each atom is.
            edge_index: Senders and receivers.
            distances: Lengths of the edges, Å.
            reach: Distances, Å, up to which a pair repels, where they are larger than the sum of
                the covalent radii.
        """
        s, r = species[edge_index[0]], species[edge_index[1]]
        pair = evaluate(lambda x, n: self.pair(s, r, x, n, reach), distances)
        return 0.5 * sum_to_receivers(pair, edge_index[1], species.shape[0])

    def pair(
        self,
        s: Tensor,  # (e,)
        r: Tensor,  # (e,)
        d: Tensor,  # (e,)
        n: int,
        reach: Tensor | None = None,  # (elements, elements)
    ) -> list[Tensor]:  # (e,) each
        """Give the repulsion of pairs, eV, and n derivatives along their distances.

        Args:
            s: Species of one end.
            r: Species of the other.
            d: Distances, Å.
            n: How many derivatives.
            reach: As in `forward`.
        """
        charges, screening = COULOMB * self.z[s] * self.z[r], self.screening[s, r]
        reach = (self.range if reach is None else torch.maximum(self.range, reach))[s, r]
        rates = -screening[:, None] * d.new_tensor(self.exponents)
        terms = charges[:, None] * d.new_tensor(self.coefficients) * torch.exp(rates * d[:, None])
        screened = [terms.sum(-1)]
        for _ in range(n):
            terms = terms * rates
            screened.append(terms.sum(-1))
        switch = [y / reach**k for k, y in enumerate(envelope_jet(d / reach, 6, n))]
        return times(over(screened, d), switch)


class ScalarReadout(nn.Module):
    """A small network from the scalars of an atom to its energy; zero at the start.

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, 1, bias=False)
        nn.init.normal_(self.out.weight, std=0.1 / math.sqrt(channels))

    def forward(
        self,
        scalars: Tensor,  # (n, c)
    ) -> Tensor:  # (n,)
        """Give one number per atom."""
        out: Tensor = self.out(self.last_layer(scalars))
        return out[:, 0]

    def last_layer(
        self,
        scalars: Tensor,  # (n, c)
    ) -> Tensor:  # (n, c)
        """Give what the energy is linear in: `scalars` after the hidden layer."""
        return nn.functional.silu(self.hidden(scalars))
