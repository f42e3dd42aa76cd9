"""Gaunt: a potential whose many-body terms are powers of a function on the sphere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Self, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn

from tensornet.layers import (
    DensityPowers,
    EdgeConvolution,
    EquivariantLinear,
    RadialMLP,
    ScalarReadout,
    SymmetricContraction,
)
from tensornet.models.network import Network, NetworkConfig
from tensornet.so3 import dim, spherical_harmonics


class GauntConfig(NetworkConfig):
    """Settings of `Gaunt`."""

    name: Literal["gaunt"] = "gaunt"
    basis_decay: NonNegativeFloat = Field(
        1.0, description="Bessel functions: the k-th is divided by k to this power, for smoothness"
    )
    l_max: int = Field(3, ge=0, le=8, description="highest degree of harmonics and densities")
    l_features: int = Field(1, ge=0, le=8, description="highest degree of features in between")
    order: int = Field(3, ge=1, le=6, description="factors of the density: body order less one")
    path_rank: PositiveInt = Field(
        1, description="densities that are multiplied, per channel: more reach more of the paths"
    )

    coupling: Literal["gaunt", "clebsch_gordan"] = Field(
        "clebsch_gordan",
        description="many-body terms: powers of the density, or every equivariant polynomial",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.l_features > self.l_max:
            raise ValueError(f"l_features = {self.l_features} must be at most l_max = {self.l_max}")
        return self


class Gaunt(Network):
    """Messages make a density of the neighbours around each atom; its powers are many-body terms.

    The density is a function on the sphere, in harmonics up to `l_max`. Its powers up to `order`
    are sparse polynomials in its coefficients, with weights per power, degree, element and
    channel: products of functions on the sphere, exactly. With `coupling` at ``clebsch_gordan``
    they are joined by all other equivariant polynomials; `path_rank` brings products of functions
    there too, as powers of more of their sums. Scalars of every layer give energies.

    Args:
        config: Settings.
        elements: Atomic numbers.
        reference_energies: Energy of the free atom per atomic number, eV.
        scale: Unit of the network's energies, eV.
        shift: Mean interaction energy of a bound atom per atomic number, eV.
        n_neighbours: Mean number of neighbours within the cutoff.
        closest: Shortest distances in the training data, as in `Network`.

    References:
        Luo et al., Enabling efficient equivariant operations in the Fourier basis via Gaunt
        tensor products, arXiv 2401.10216 (2024); Batatia et al., MACE, arXiv 2206.07697 (2022).
    """

    def __init__(
        self,
        config: GauntConfig,
        *,
        elements: Sequence[int],
        reference_energies: Mapping[int, float],
        scale: float = 1.0,
        shift: Mapping[int, float] | None = None,
        n_neighbours: float = 1.0,
        closest: Mapping[tuple[int, int], float] | None = None,
    ) -> None:
        super().__init__(
            config,
            elements=elements,
            reference_energies=reference_energies,
            scale=scale,
            shift=shift,
            n_readouts=config.layers,
            closest=closest,
        )
        self.l_max = config.l_max
        ends = [0, *[config.l_features] * (config.layers - 1), 0]
        self.layers = nn.ModuleList(
            ManyBody(
                ends[t],
                config.l_max,
                ends[t + 1],
                config.channels,
                order=config.order,
                copies=config.path_rank,
                coupling=config.coupling,
                n_elements=len(self.elements),
                n_radial=self.n_radial,
                radial_hidden=config.radial_hidden,
                n_neighbours=n_neighbours,
            )
            for t in range(config.layers)
        )
        self.readouts = nn.ModuleList(ScalarReadout(config.channels) for _ in range(config.layers))

    def _with_last_layer(
        self, species: Tensor, edge_index: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        radial, envelope, distances = self._radial(species, edge_index, vectors)
        harmonics = spherical_harmonics(vectors, self.l_max) * envelope[:, None]
        everyone = self._everyone(species)
        x = self.embedding[everyone][:, None, :]
        read = []
        for layer, readout in zip(self.layers, self.readouts, strict=True):
            x = layer(x, everyone, harmonics, radial, edge_index)
            read.append((cast(ScalarReadout, readout), x[:, 0]))
        return self._energies(read, species, edge_index, envelope, distances)


class ManyBody(nn.Module):
    """Convolution over the neighbours, powers of the density it makes, and what was there before.

    Args:
        l_in: Highest degree of the features that come in.
        l_max: Of harmonics and density.
        l_out: Of the features that go out.
        channels: Channels.
        order: Highest power.
        copies: Densities per channel.
        coupling: As in `GauntConfig`.
        n_elements: Number of elements.
        n_radial: Radial features of an edge.
        radial_hidden: Width of the radial network.
        n_neighbours: Mean number of neighbours; its square root divides the density.
    """

    factor: Tensor

    def __init__(
        self,
        l_in: int,
        l_max: int,
        l_out: int,
        channels: int,
        *,
        order: int,
        copies: int,
        coupling: str,
        n_elements: int,
        n_radial: int,
        radial_hidden: int,
        n_neighbours: float,
    ) -> None:
        super().__init__()
        self.l_in, self.l_out = l_in, l_out
        wide = copies * channels
        self.up = EquivariantLinear(l_in, channels, channels, bias=False)
        self.convolution = EdgeConvolution(l_in, l_max, l_max)
        shape = (len(self.convolution.paths), channels)
        self.radial = RadialMLP(n_radial, radial_hidden, [shape], [None])
        self.density = EquivariantLinear(l_max, channels, wide, bias=False)
        contraction = DensityPowers if coupling == "gaunt" else SymmetricContraction
        self.many_body = contraction(l_max, order, wide, n_elements, l_out)
        self.down = EquivariantLinear(l_out, wide, channels, bias=False)
        self.keep = nn.Parameter(torch.randn(n_elements, channels, channels) / channels**0.5)
        # A buffer, so that it goes into model files with the weights.
        self.register_buffer("factor", torch.tensor(max(n_neighbours, 1.0) ** -0.5))

    def forward(
        self,
        x: Tensor,  # (n, i, c)
        species: Tensor,  # (n,)
        harmonics: Tensor,  # (e, j), times the envelope
        radial: Tensor,  # (e, r)
        edge_index: Tensor,  # (2, e)
    ) -> Tensor:  # (n, k, c)
        """Give the features of the next layer."""
        (weight,) = self.radial(radial)
        density = self.convolution(self.up(x), harmonics, weight, edge_index[0], edge_index[1])
        density = self.density(self.factor * density)
        out: Tensor = self.down(self.many_body(density, species))
        common = dim(min(self.l_in, self.l_out))
        chosen = x.new_zeros(len(x), len(self.keep)).scatter_(1, species[:, None], 1)
        by_species = chosen[:, None, :, None] * x[:, :common, None, :]
        kept = by_species.flatten(2) @ self.keep.flatten(0, 1)
        return out + nn.functional.pad(kept, (0, 0, 0, dim(self.l_out) - common))
