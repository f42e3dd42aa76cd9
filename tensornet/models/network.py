"""What the neural potentials share: species, radial features, and the limits of their energies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from tensornet.layers import ZBL, BesselBasis, BindingShift, GaussianBasis, polynomial_envelope
from tensornet.models.potential import Potential


class NetworkConfig(BaseModel):
    """Settings that all neural potentials have."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cutoff: PositiveFloat = Field(5.0, description="radius of the neighbourhood, Å")
    channels: PositiveInt = Field(64, description="channels per degree")
    layers: PositiveInt = Field(2, description="blocks of messages")
    basis: Literal["bessel", "gaussian"] = Field("bessel", description="radial basis")
    n_basis: PositiveInt = Field(12, description="number of radial functions")
    radial_hidden: PositiveInt = Field(64, description="width of the radial networks")
    pair_species: bool = Field(True, description="radial networks see the species of both ends")
    repulsion: bool = Field(True, description="add screened nuclear repulsion (ZBL)")


class Network(Potential):
    """A neural potential, but for its features.

    From the energy that a subclass reads from the features of an atom, that of the same atom
    without neighbours is subtracted, so that a free atom has exactly its reference energy; bound
    atoms get the mean interaction energy of their element, and close pairs repel.

    Args:
        config: Settings.
        elements: Atomic numbers.
        reference_energies: Energy of the free atom per atomic number, eV.
        scale: Unit of the network's energies, eV.
        shift: Mean interaction energy of a bound atom per atomic number, eV.
    """

    scale: Tensor
    one_hot: Tensor

    def __init__(
        self,
        config: Any,  # a NetworkConfig, with what the subclass adds
        *,
        elements: Sequence[int],
        reference_energies: Mapping[int, float],
        scale: float = 1.0,
        shift: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__(config, elements=elements, reference_energies=reference_energies)
        self.embedding = nn.Parameter(torch.randn(len(self.elements), config.channels))
        basis = BesselBasis if config.basis == "bessel" else GaussianBasis
        self.basis = basis(config.n_basis)
        n_species = len(self.elements) if config.pair_species else 0
        self.n_radial = config.n_basis + 2 * n_species
        self.register_buffer("one_hot", torch.eye(len(self.elements)), persistent=False)
        self.pair_species = config.pair_species
        self.repulsion = ZBL(self.elements) if config.repulsion else None
        self.binding = BindingShift(self.elements, shift)
        self.register_buffer("scale", torch.tensor(float(scale)))

    def _radial(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:  # (e, r), (e,), (e,)
        """Radial features of the edges, their envelopes, and their lengths."""
        distances = vectors.norm(dim=-1)
        x = distances / self.cutoff
        envelope = polynomial_envelope(x)
        radial = self.basis(x) * envelope[:, None]
        if self.pair_species:
            ends = self.one_hot[species]
            radial = torch.cat([radial, ends[edge_index[0]], ends[edge_index[1]]], -1)
        return radial, envelope, distances

    def _everyone(self, species: Tensor) -> Tensor:
        """Species of the atoms, and behind them of one lone atom per element."""
        return torch.cat([species, torch.arange(len(self.elements), device=species.device)])

    def _energies(
        self,
        outputs: Tensor,  # (n + elements,), in the order of `_everyone`
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        envelope: Tensor,  # (e,)
        distances: Tensor,  # (e,)
    ) -> Tensor:  # (n,)
        """Interaction energies, eV, of what the network says."""
        n = len(species)
        energies: Tensor = self.scale * (outputs[:n] - outputs[n:][species])
        energies = energies + self.binding(species, edge_index[1], envelope)
        if self.repulsion is not None:
            energies = energies + self.repulsion(species, edge_index, distances)
        return energies
