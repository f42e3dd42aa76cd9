"""What the neural potentials share: species, radial features, and the limits of their energies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from tensornet.layers import (
    ZBL,
    BesselBasis,
    BindingShift,
    GaussianBasis,
    ScalarReadout,
    level_out,
    polynomial_envelope,
)
from tensornet.models.long_range import LongRange, LongRangeConfig
from tensornet.models.potential import Potential, sum_up

# Weights with one row per element, but for `embedding`: ends of their names.
PER_ELEMENT = (".keep", "long_range.element", "long_range.softness")


class NetworkConfig(BaseModel):
    """Settings that all neural potentials have."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cutoff: PositiveFloat = Field(5.0, description="radius of the neighbourhood, Å")
    channels: PositiveInt = Field(64, description="channels per degree")
    layers: PositiveInt = Field(2, description="blocks of messages")
    basis: Literal["bessel", "gaussian"] = Field("bessel", description="radial basis")
    n_basis: PositiveInt = Field(12, description="number of radial functions")
    basis_decay: NonNegativeFloat = Field(
        0.0, description="Bessel functions: the k-th is divided by k to this power, for smoothness"
    )
    radial_hidden: PositiveInt = Field(64, description="width of the radial networks")
    pair_species: bool = Field(True, description="radial networks see the species of both ends")
    repulsion: bool = Field(True, description="add screened nuclear repulsion (ZBL)")
    contact: float = Field(
        0.9,
        ge=0,
        le=1,
        description="times the closest contact of two elements in the training data: from there "
        "inwards the network sees no change, and the pair repels; 0 is off",
    )
    long_range: LongRangeConfig | None = Field(
        None, description="charges, and their electrostatics at any distance"
    )


class Network(Potential):
    """A neural potential, but for its features.

    From the energy that a subclass reads from the features of an atom, that of the same atom
    without neighbours is subtracted, so that a free atom has exactly its reference energy; bound
    atoms get the mean interaction energy of their element, and close pairs repel.

    The energy is linear in its last layer; evaluation also gives its sum over the atoms of each
    structure, ``last_layer`` (s, d). Where `spread` was fitted, after training, it gives besides
    ``energy_std`` (s,) and ``energies_std`` (n,), eV: how uncertain the last weights leave the
    energies of structures and atoms, for the price of one small matrix product.

    Args:
        config: Settings.
        elements: Atomic numbers.
        reference_energies: Energy of the free atom per atomic number, eV.
        scale: Unit of the network's energies, eV.
        shift: Mean interaction energy of a bound atom per atomic number, eV.
        n_readouts: How many readouts add up to the energy.
        closest: Shortest distance of two elements in the training data by their atomic numbers,
            Å. Elements that are not named are taken to have been seen at any distance.

    References:
        Bigi et al., A prediction rigidity formalism for low-cost uncertainties in trained neural
        networks (2024), for the last layer.
    """

    scale: Tensor
    one_hot: Tensor
    spread: Tensor
    closest: Tensor

    def __init__(
        self,
        config: Any,  # a NetworkConfig, with what the subclass adds
        *,
        elements: Sequence[int],
        reference_energies: Mapping[int, float],
        scale: float = 1.0,
        shift: Mapping[int, float] | None = None,
        n_readouts: int = 1,
        closest: Mapping[tuple[int, int], float] | None = None,
    ) -> None:
        super().__init__(config, elements=elements, reference_energies=reference_energies)
        self.embedding = nn.Parameter(torch.randn(len(self.elements), config.channels))
        if config.basis == "bessel":
            self.basis: nn.Module = BesselBasis(config.n_basis, config.basis_decay)
        else:
            self.basis = GaussianBasis(config.n_basis)
        n_species = len(self.elements) if config.pair_species else 0
        self.n_radial = config.n_basis + 2 * n_species
        self.register_buffer("one_hot", torch.eye(len(self.elements)), persistent=False)
        self.pair_species = config.pair_species
        self.repulsion = ZBL(self.elements) if config.repulsion else None
        self.binding = BindingShift(self.elements, shift)
        self.register_buffer("scale", torch.tensor(float(scale)))
        seen = torch.zeros(len(self.elements), len(self.elements))
        for pair, distance in (closest or {}).items():
            a, b = (self.elements.index(z) for z in pair)
            seen[a, b] = seen[b, a] = float(distance)
        self.register_buffer("closest", seen)
        self.contact = float(config.contact)
        # A last layer times this has the length of a standard deviation in eV; zero: not known.
        d = n_readouts * config.channels
        self.register_buffer("spread", torch.zeros(d, d))
        if config.long_range is not None:
            self.long_range = LongRange(config.long_range, self.elements, d)

    def interaction_energies(
        self,
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        vectors: Tensor,  # (e, 3)
    ) -> Tensor:  # (n,)
        """Give the interaction energy of each atom, eV, but for the long-range term."""
        return self._with_last_layer(species, edge_index, vectors)[0]

    def _with_last_layer(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:  # (n,), (n, d)
        """Interaction energies, and the last layer that they are linear in."""
        raise NotImplementedError

    def _evaluate(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return self._with_last_layer(species, edge_index, vectors)

    def _more(self, last: Tensor, batch: Tensor, n: int) -> dict[str, Tensor]:
        sums = sum_up(last.to(torch.float64), batch, n)
        said = {"last_layer": sums}
        if bool(self.spread.abs().amax()):  # `any` is slow
            spread = self.spread.to(torch.float64)
            said["energy_std"] = torch.linalg.vector_norm(sums @ spread, dim=1)
            said["energies_std"] = torch.linalg.vector_norm(last @ self.spread, dim=1)
        return said

    def begin_from(self, other: Network) -> None:
        """Take the weights of a model of the same settings, to train it further.

        Reference energies and shifts stay, since they belong to the data. An element that `other`
        does not know begins with the mean of those it knows, but for its own embedding.

        Args:
            other: Any network whose `config` is the same.

        Raises:
            ValueError: If the settings differ, or the models have no element in common.
        """
        mine, theirs = self.config, other.config
        differ = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
        if differ:
            said = ", ".join(f"{k} {theirs.get(k)!r} and {mine.get(k)!r}" for k in differ)
            raise ValueError(
                f"`begin_from(other=...)` must have the same settings. Got {said}. "
                "(Take the block `model` of the recipe that the model file holds.)"
            )
        place = {z: k for k, z in enumerate(other.elements)}
        known = [k for k, z in enumerate(self.elements) if z in place]
        if not known:
            raise ValueError(
                "`begin_from(other=...)` must know an element of the data. Got a model of "
                f"{other.elements} for {self.elements} (atomic numbers)."
            )
        source = [place[self.elements[k]] for k in known]
        old = other.state_dict()
        with torch.no_grad():
            for name, x in self.state_dict().items():
                if name in ("reference", "binding.shift", "spread", "long_range.charge"):
                    continue
                if name == "closest":
                    at = torch.tensor(known)[:, None], torch.tensor(known)
                    theirs_seen = old[name][source][:, source].to(x)
                    x[at] = torch.minimum(x[at], theirs_seen)
                    continue
                if name.endswith("radial.net.0.weight") and self.pair_species:
                    _by_columns(x, old[name], known, source, int(mine["n_basis"]))
                elif name.rpartition(".")[0].endswith("many_body") or name.endswith(PER_ELEMENT):
                    x.copy_(old[name][source].mean(0, keepdim=True))
                    x[known] = old[name][source].to(x)
                elif name == "embedding":
                    x[known] = old[name][source].to(x)
                else:
                    x.copy_(old[name])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # The first model files hold neither of these.
        state_dict.setdefault(f"{prefix}spread", torch.zeros_like(self.spread))
        state_dict.setdefault(f"{prefix}closest", torch.zeros_like(self.closest))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _radial(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:  # (e, r), (e,), (e,)
        """Radial features of the edges, their envelopes, and their lengths."""
        distances = vectors.norm(dim=-1)
        x = distances / self.cutoff
        if self.contact:
            start = self.contact * self.closest[species[edge_index[0]], species[edge_index[1]]]
            x = level_out(distances, start) / self.cutoff
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
        read: Sequence[tuple[ScalarReadout, Tensor]],  # (n + elements, c), as in `_everyone`
        species: Tensor,  # (n,)
        edge_index: Tensor,  # (2, e)
        envelope: Tensor,  # (e,)
        distances: Tensor,  # (e,)
    ) -> tuple[Tensor, Tensor]:  # (n,), (n, d)
        """Interaction energies, eV, of what the readouts say, and their last layers."""
        n = len(species)
        layers = [readout.last_layer(x) for readout, x in read]
        outputs = sum(readout.out(h)[:, 0] for (readout, _), h in zip(read, layers, strict=True))
        assert isinstance(outputs, Tensor)
        energies: Tensor = self.scale * (outputs[:n] - outputs[n:][species])
        energies = energies + self.binding(species, edge_index[1], envelope)
        if self.repulsion is not None:
            reach = self.contact * self.closest
            energies = energies + self.repulsion(species, edge_index, distances, reach)
        last = torch.cat(layers, 1)
        return energies, last[:n] - last[n:][species]


def _by_columns(
    new: Tensor, old: Tensor, known: list[int], source: list[int], n_basis: int
) -> None:  # (h, n_basis + 2 elements)
    """Copy the weights of the radial basis, then of the species at both ends of an edge."""
    new[:, :n_basis] = old[:, :n_basis].to(new)
    mine, theirs = new[:, n_basis:].chunk(2, 1), old[:, n_basis:].chunk(2, 1)
    for to, by in zip(mine, theirs, strict=True):
        to.copy_(by[:, source].mean(1, keepdim=True))
        to[:, known] = by[:, source].to(to)
